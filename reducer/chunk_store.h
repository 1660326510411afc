// How coded chunks of one fragment lie in files: a 48-byte frame header, then the payload, one
// after another. Used by contribution logs (any order) and aggregates (in order). A frame is
// checked against the fragment's shape before its payload is believed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/bytes.h"
#include "common/storage.h"
#include "compression/codec.h"
#include "proto/chunk.h"

namespace longhaul {

// A fragment, or a slice of one, cut into chunks of equal size (the last one may be shorter), each
// coded alone.
struct CodedShape {
  uint64_t elements = 0;
  uint64_t chunk_elements = 0;
  const Codec* codec = nullptr;
  uint64_t begin = 0;  // of the slice in its fragment

  uint32_t chunks() const {
    return static_cast<uint32_t>((elements + chunk_elements - 1) / chunk_elements);
  }
  uint64_t First(uint32_t chunk) const { return chunk * chunk_elements; }
  uint64_t Elements(uint32_t chunk) const {
    return std::min(chunk_elements, elements - First(chunk));
  }
  // The most that a chunk's payload takes; exactly that with a codec of fixed size.
  uint64_t Bytes(uint32_t chunk) const { return codec->EncodedBytes(Elements(chunk)); }
  // Whether all chunks together can take so many bytes.
  bool MayTake(uint64_t total_bytes) const;
  bool Decode(uint32_t chunk, ByteSpan payload, std::span<float> out) const {
    return codec->DecodeChunk(begin + First(chunk), payload, out);
  }
};

inline constexpr uint64_t kFrameHeaderBytes = 48;

// The transfer number of `header` is not stored.
std::string EncodeFrameHeader(const ChunkHeader& header, Version version);

struct StoredChunk {
  ChunkHeader header;
  std::string payload;
};

// The frame at `offset`. OutOfRange exactly at the end of the file; DataLoss when it is torn,
// damaged, or not a chunk of (kind, version, shape). ReadFrameHeader leaves the payload alone.
absl::StatusOr<ChunkHeader> ReadFrameHeader(Storage& storage, const std::string& path,
                                            uint64_t offset, ObjectKind kind, Version version,
                                            const CodedShape& shape);
absl::StatusOr<StoredChunk> ReadFrame(Storage& storage, const std::string& path, uint64_t offset,
                                      ObjectKind kind, Version version, const CodedShape& shape);

}  // namespace longhaul
