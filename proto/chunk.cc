#include "proto/chunk.h"

namespace longhaul {

namespace {

constexpr uint32_t kMagic = 0x4B43484C;  // "LHCK"
constexpr uint16_t kFormat = 1;

bool KnownKind(uint16_t kind) {
  return kind >= static_cast<uint16_t>(ObjectKind::kContribution) &&
         kind <= static_cast<uint16_t>(ObjectKind::kBlob);
}

}  // namespace

std::string EncodeChunkHeader(const ChunkHeader& header) {
  ByteWriter w;
  w.U32(kMagic);
  w.U16(kFormat);
  w.U16(static_cast<uint16_t>(header.kind));
  w.U64(header.transfer);
  w.U32(header.chunk);
  w.U32(header.codec);
  w.U64(header.elements);
  w.U64(header.bytes);
  w.U64(header.checksum);
  return w.Take();
}

absl::StatusOr<ChunkHeader> DecodeChunkHeader(ByteSpan frame) {
  if (frame.size() != kChunkHeaderBytes) {
    return absl::InvalidArgumentError("a chunk header has a wrong size");
  }
  ByteReader r(frame);
  if (r.U32() != kMagic) return absl::InvalidArgumentError("not a chunk header");
  if (r.U16() != kFormat) return absl::InvalidArgumentError("unknown version of a chunk header");
  const uint16_t kind = r.U16();
  if (!KnownKind(kind)) return absl::InvalidArgumentError("a chunk of an unknown kind of object");
  ChunkHeader header;
  header.kind = static_cast<ObjectKind>(kind);
  header.transfer = r.U64();
  header.chunk = r.U32();
  header.codec = r.U32();
  header.elements = r.U64();
  header.bytes = r.U64();
  header.checksum = r.U64();
  if (header.bytes > kMaxChunkBytes) {
    return absl::InvalidArgumentError("a chunk's payload is too long");
  }
  return header;
}

}  // namespace longhaul
