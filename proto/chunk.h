// The header of a chunk of a large object: 48 bytes, little-endian, in a frame of its own before
// the payload.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "common/bytes.h"
#include "proto/messages.h"

namespace longhaul {

inline constexpr uint64_t kMaxChunkBytes = 1024 * 1024;  // payload
// Elements (parameters) per chunk of contributions, aggregates and states; a multiple of every
// codec's block.
inline constexpr uint64_t kChunkElements = 65536;
inline constexpr size_t kChunkHeaderBytes = 48;

struct ChunkHeader {
  ObjectKind kind = ObjectKind::kContribution;
  uint64_t transfer = 0;  // Fetch.attempt or FetchBlob.transfer that asked for it
  uint32_t chunk = 0;
  uint32_t codec = 0;
  uint64_t elements = 0;
  uint64_t bytes = 0;     // payload
  uint64_t checksum = 0;  // xxh3-64 of the payload
  auto operator<=>(const ChunkHeader&) const = default;
};

std::string EncodeChunkHeader(const ChunkHeader& header);
// Refuses wrong size, magic, version, kind, and payloads above kMaxChunkBytes.
absl::StatusOr<ChunkHeader> DecodeChunkHeader(ByteSpan frame);

}  // namespace longhaul
