#include "reducer/chunk_store.h"

#include "absl/strings/str_cat.h"
#include "common/hash.h"
#include "common/status_macros.h"

namespace longhaul {
namespace {

constexpr uint32_t kMagic = 0x4648434c;  // "LCHF"
constexpr uint16_t kFormat = 1;

absl::Status Damaged(const std::string& path, uint64_t offset) {
  return absl::DataLossError(absl::StrCat(path, ": damaged chunk at byte ", offset));
}

}  // namespace

bool CodedShape::MayTake(uint64_t total_bytes) const {
  const uint32_t last = chunks() - 1;
  const uint64_t most = last * codec->EncodedBytes(chunk_elements) + Bytes(last);
  return codec->fixed_size() ? total_bytes == most : total_bytes <= most;
}

std::string EncodeFrameHeader(const ChunkHeader& header, Version version) {
  ByteWriter w;
  w.U32(kMagic);
  w.U16(kFormat);
  w.U16(static_cast<uint16_t>(header.kind));
  w.Write(version);
  w.U32(header.chunk);
  w.U32(header.codec);
  w.U64(header.elements);
  w.U64(header.bytes);
  w.U64(header.checksum);
  return w.Take();
}

absl::StatusOr<ChunkHeader> ReadFrameHeader(Storage& storage, const std::string& path,
                                            uint64_t offset, ObjectKind kind, Version version,
                                            const CodedShape& shape) {
  ASSIGN_OR_RETURN(std::string head, storage.Read(path, offset, kFrameHeaderBytes));
  if (head.empty()) return absl::OutOfRangeError("end of file");
  ChunkHeader header;
  header.kind = kind;
  ByteReader r(head);
  bool good = r.U32() == kMagic;
  good = r.U16() == kFormat && good;
  good = r.U16() == static_cast<uint16_t>(kind) && good;
  Version found;
  r.Read(found);
  header.chunk = r.U32();
  header.codec = r.U32();
  header.elements = r.U64();
  header.bytes = r.U64();
  header.checksum = r.U64();
  if (!good || !r.AtEnd() || found != version || header.chunk >= shape.chunks() ||
      header.codec != static_cast<uint32_t>(shape.codec->id()) ||
      header.elements != shape.Elements(header.chunk) ||
      !shape.codec->MayTake(header.bytes, header.elements)) {
    return Damaged(path, offset);
  }
  return header;
}

absl::StatusOr<StoredChunk> ReadFrame(Storage& storage, const std::string& path, uint64_t offset,
                                      ObjectKind kind, Version version, const CodedShape& shape) {
  StoredChunk stored;
  ASSIGN_OR_RETURN(stored.header, ReadFrameHeader(storage, path, offset, kind, version, shape));
  const uint64_t bytes = stored.header.bytes;
  ASSIGN_OR_RETURN(stored.payload, storage.Read(path, offset + kFrameHeaderBytes, bytes));
  if (stored.payload.size() != bytes || Xxh3(AsBytes(stored.payload)) != stored.header.checksum) {
    return Damaged(path, offset);
  }
  return stored;
}

}  // namespace longhaul
