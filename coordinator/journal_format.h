// How a record of the journal lies on disk, and what its segments are called.
//
//   magic u32 | payload length u32 | sequence u64 | durable u64 | chain 32 bytes | xxh3-64 over all
//   of the above and the payload | payload
//
// Pure functions of bytes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/ids.h"

namespace longhaul {

inline constexpr uint32_t kMaxRecordBytes = 32 * 1024 * 1024;

// A place in the history: after the record `sequence` (0: before the first one).
struct JournalPlace {
  uint64_t sequence = 0;
  Digest chain{};
  bool operator==(const JournalPlace&) const = default;
  // The place after one more record: chain(n) = BLAKE2b(chain(n-1) ‖ payload(n)).
  JournalPlace After(std::string_view payload) const;
};

struct JournalRecord {
  JournalPlace place;    // after this record
  uint64_t durable = 0;  // highest sequence known to be synced when it was written
  std::string_view payload;
  size_t bytes() const;  // on disk
};

void AppendJournalRecord(const JournalRecord& record, std::string& out);
// The intact record at the start of `bytes`, which the payload points into; nothing if there is
// none.
std::optional<JournalRecord> ParseJournalRecord(std::string_view bytes);

// "000001.log"; segments are read in the order of their numbers, which is that of their names.
inline constexpr uint64_t kMaxSegmentNumber = 999'999;
std::string SegmentName(uint64_t number);
std::optional<uint64_t> SegmentNumber(std::string_view name);

}  // namespace longhaul
