// Reads what the segments of a journal hold after a given place, and tells a crash from damage.
//
// A crash leaves at most a torn tail: records that were never synced, which nobody was told about.
// They are cut off. Everything else is damage and refused (DataLoss): a record that is missing, out
// of order or of another history; a damaged one that had been durable. That it had been durable is
// proven by any later record that says so, by a later segment (begun only when all before it is
// synced), or by the caller. Damage at or below the given place is passed over: nothing of it is
// needed.
//
// What no evidence can show is the loss of the last records as a whole, when nothing that was
// written later is left.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/storage.h"
#include "coordinator/journal_format.h"

namespace longhaul {

struct JournalSegment {
  uint64_t number = 0;
  // Sequence of its first record; none: it is empty, or its beginning is damaged.
  std::optional<uint64_t> first;
};

struct JournalTail {
  std::vector<std::string> payloads;  // after the given place, in order
  JournalPlace end;
  std::string last_segment;  // its bytes, without what is cut
  uint64_t cut_bytes = 0;
};

// In order. Reads no more than the first record of each. DataLoss when they are out of order.
absl::StatusOr<std::vector<JournalSegment>> ListJournalSegments(Storage& storage,
                                                                const std::string& folder);

// `durable`: the journal is known to have reached this sequence.
absl::StatusOr<JournalTail> ReadJournalAfter(Storage& storage, const std::string& folder,
                                             const std::vector<JournalSegment>& segments,
                                             const JournalPlace& place, uint64_t durable);

}  // namespace longhaul
