#include "coordinator/journal_format.h"

#include <algorithm>
#include <cstdio>

#include "common/bytes.h"
#include "common/hash.h"

namespace longhaul {
namespace {

constexpr uint32_t kMagic = 0x314A484C;  // "LHJ1"
constexpr size_t kHeaderBytes = 4 + 4 + 8 + 8 + 32 + 8;
constexpr size_t kSegmentDigits = 6;
constexpr std::string_view kSegmentSuffix = ".log";

uint64_t Checksum(std::string_view header, std::string_view payload) {
  std::string covered;
  covered.reserve(header.size() + payload.size());
  covered.append(header).append(payload);
  return Xxh3(AsBytes(covered));
}

}  // namespace

JournalPlace JournalPlace::After(std::string_view payload) const {
  std::string input;
  input.reserve(chain.size() + payload.size());
  input.append(reinterpret_cast<const char*>(chain.data()), chain.size()).append(payload);
  return {sequence + 1, Blake2b(input)};
}

size_t JournalRecord::bytes() const { return kHeaderBytes + payload.size(); }

void AppendJournalRecord(const JournalRecord& record, std::string& out) {
  ByteWriter w;
  w.U32(kMagic), w.U32(static_cast<uint32_t>(record.payload.size()));
  w.U64(record.place.sequence), w.U64(record.durable), w.Write(record.place.chain);
  w.U64(Checksum(w.str(), record.payload));
  out.append(w.str()).append(record.payload);
}

std::optional<JournalRecord> ParseJournalRecord(std::string_view bytes) {
  ByteReader r(bytes);
  if (r.U32() != kMagic) return std::nullopt;
  JournalRecord record;
  const uint32_t length = r.U32();
  record.place.sequence = r.U64(), record.durable = r.U64();
  r.Read(record.place.chain);
  const uint64_t checksum = r.U64();
  if (!r.ok() || length > kMaxRecordBytes || bytes.size() - kHeaderBytes < length) {
    return std::nullopt;
  }
  record.payload = bytes.substr(kHeaderBytes, length);
  if (Checksum(bytes.substr(0, kHeaderBytes - 8), record.payload) != checksum) return std::nullopt;
  return record;
}

std::string SegmentName(uint64_t number) {
  char name[32];
  std::snprintf(name, sizeof name, "%06llu", static_cast<unsigned long long>(number));
  return std::string(name).append(kSegmentSuffix);
}

std::optional<uint64_t> SegmentNumber(std::string_view name) {
  if (name.size() != kSegmentDigits + kSegmentSuffix.size() || !name.ends_with(kSegmentSuffix)) {
    return std::nullopt;
  }
  uint64_t number = 0;
  for (char c : name.substr(0, kSegmentDigits)) {
    if (c < '0' || c > '9') return std::nullopt;
    number = 10 * number + static_cast<uint64_t>(c - '0');
  }
  return number;
}

}  // namespace longhaul
