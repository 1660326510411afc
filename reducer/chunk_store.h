// How coded chunks of one fragment lie in files: a 48-byte frame header, then the payload, one
// after another. Used by contribution logs (any order) and aggregates (in order, so that a chunk is
// found by arithmetic). A frame is checked against the fragment's shape before its payload is
// believed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/bytes.h"
#include "common/storage.h"
#include "compression/codec.h"
#include "proto/chunk.h"

namespace longhaul {

// A fragment cut into chunks of equal size (the last one may be shorter), each coded alone.
struct CodedShape {
  uint64_t elements = 0;
  uint64_t chunk_elements = 0;
  const Codec* codec = nullptr;

  uint32_t chunks() const {
    return static_cast<uint32_t>((elements + chunk_elements - 1) / chunk_elements);
  }
  uint64_t First(uint32_t chunk) const { return chunk * chunk_elements; }
  uint64_t Elements(uint32_t chunk) const {
    return std::min(chunk_elements, elements - First(chunk));
  }
  uint64_t Bytes(uint32_t chunk) const { return codec->EncodedBytes(Elements(chunk)); }
  uint64_t TotalBytes() const;  // payload bytes of all chunks
};

inline constexpr uint64_t kFrameHeaderBytes = 48;

// The transfer number of `header` is not stored.
std::string EncodeFrameHeader(const ChunkHeader& header, Version version);

struct StoredChunk {
  ChunkHeader header;
  std::string payload;
};

// The frame at `offset`. OutOfRange exactly at the end of the file; DataLoss when it is torn,
// damaged, or not a chunk of (kind, version, shape).
absl::StatusOr<StoredChunk> ReadFrame(Storage& storage, const std::string& path, uint64_t offset,
                                      ObjectKind kind, Version version, const CodedShape& shape);

}  // namespace longhaul
