#include "coordinator/tensorboard.h"

#include <array>
#include <cmath>

#include "common/bytes.h"
#include "common/status_macros.h"

namespace longhaul {
namespace {

constexpr size_t kMaxTagBytes = 1024;
constexpr int kMaxFilesPerSecond = 1000;

constexpr std::array<uint32_t, 256> MakeCrcTable() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? 0x82F63B78u : 0);
    table[i] = crc;
  }
  return table;
}
constexpr std::array<uint32_t, 256> kCrcTable = MakeCrcTable();

// Protobuf wire types.
enum WireType : uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

void Varint(ByteWriter& out, uint64_t value) {
  while (value >= 0x80) {
    out.U8(static_cast<uint8_t>(value | 0x80));
    value >>= 7;
  }
  out.U8(static_cast<uint8_t>(value));
}
void Key(ByteWriter& out, uint32_t field, WireType type) { Varint(out, field << 3 | type); }
void Bytes(ByteWriter& out, uint32_t field, std::string_view bytes) {
  Key(out, field, kBytes);
  Varint(out, bytes.size());
  out.Raw(bytes.data(), bytes.size());
}

void WallTime(ByteWriter& event, double wall_time) {
  Key(event, 1, kFixed64);
  event.F64(wall_time);
}

std::string VersionEvent(double wall_time) {
  ByteWriter event;
  WallTime(event, wall_time);
  Bytes(event, 3, "brain.Event:2");
  return event.Take();
}

std::string ScalarEvent(std::string_view tag, int64_t step, float value, double wall_time) {
  ByteWriter scalar, summary, event;
  Bytes(scalar, 1, tag);
  Key(scalar, 2, kFixed32);
  scalar.F32(value);
  Bytes(summary, 1, scalar.str());
  WallTime(event, wall_time);
  Key(event, 2, kVarint);
  Varint(event, static_cast<uint64_t>(step));
  Bytes(event, 5, summary.str());
  return event.Take();
}

}  // namespace

uint32_t Crc32c(ByteSpan bytes) {
  uint32_t crc = ~0u;
  for (const std::byte b : bytes)
    crc = (crc >> 8) ^ kCrcTable[(crc ^ static_cast<uint8_t>(b)) & 0xFF];
  return ~crc;
}

uint32_t MaskedCrc32c(ByteSpan bytes) { return std::rotr(Crc32c(bytes), 15) + 0xA282EAD8u; }

absl::StatusOr<std::unique_ptr<EventWriter>> EventWriter::Create(Storage& storage,
                                                                 const std::string& folder,
                                                                 double wall_time) {
  RETURN_IF_ERROR(storage.MakeFolder(folder));
  const std::string base = folder + "/events.out.tfevents." +
                           std::to_string(static_cast<int64_t>(std::floor(wall_time))) +
                           ".longhaul";
  std::string path = base;
  for (int n = 1; storage.Exists(path); ++n) {
    if (n > kMaxFilesPerSecond) return absl::ResourceExhaustedError("too many files like " + base);
    path = base + "." + std::to_string(n);
  }
  ASSIGN_OR_RETURN(auto file, storage.OpenAppend(path, /*truncate=*/true));
  std::unique_ptr<EventWriter> writer(new EventWriter(std::move(file), path));
  RETURN_IF_ERROR(writer->Append(VersionEvent(wall_time)));
  return writer;
}

absl::Status EventWriter::AddScalar(std::string_view tag, int64_t step, float value,
                                    double wall_time) {
  if (tag.empty() || tag.size() > kMaxTagBytes || step < 0) {
    return absl::InvalidArgumentError("bad tag or step for an event");
  }
  return Append(ScalarEvent(tag, step, value, wall_time));
}

absl::Status EventWriter::Append(const std::string& event) {
  ByteWriter length, record;
  length.U64(event.size());
  record.Raw(length.str().data(), length.str().size());
  record.U32(MaskedCrc32c(AsBytes(length.str())));
  record.Raw(event.data(), event.size());
  record.U32(MaskedCrc32c(AsBytes(event)));
  return file_->Append(AsBytes(record.str()));
}

}  // namespace longhaul
