// Tests only: a history whose state is the list of all its records, so that a snapshot and the
// records after it tell exactly what a journal gave back.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "common/bytes.h"
#include "common/fault_storage.h"
#include "common/rng.h"
#include "common/status_macros.h"
#include "coordinator/journal.h"

namespace longhaul {

using Payloads = std::vector<std::string>;

// Small, so that a short history has several segments.
inline JournalOptions SmallJournal() {
  return {.folder = "j", .snapshot_folder = "s", .segment_bytes = 700, .snapshot_bytes = 1500};
}

inline std::string StateOf(const Payloads& payloads) {
  ByteWriter w;
  for (const std::string& payload : payloads) w.String(payload);
  return w.Take();
}

inline Payloads Rebuilt(const Journal::Opened& opened) {
  Payloads all;
  if (opened.snapshot) {
    ByteReader r(*opened.snapshot);
    while (r.ok() && !r.AtEnd()) all.push_back(r.String(kMaxRecordBytes));
  }
  all.insert(all.end(), opened.payloads.begin(), opened.payloads.end());
  return all;
}

inline bool IsPrefix(const Payloads& part, const Payloads& whole) {
  return part.size() <= whole.size() && std::equal(part.begin(), part.end(), whole.begin());
}

// One process after the other on one disk.
class HistoryWriter {
 public:
  HistoryWriter(FaultStorage& disk, uint64_t seed) : disk_(disk), rng_(seed) {}

  // Opens the journal and works until `steps` are done or something fails. What it opens must be a
  // beginning of what was written, with everything that was acknowledged: if not, the status is
  // Internal.
  absl::Status Live(int steps) {
    ASSIGN_OR_RETURN(Journal::Opened opened, Journal::Open(disk_, SmallJournal()));
    const Payloads found = Rebuilt(opened);
    if (!IsPrefix(found, written_)) return absl::InternalError("not what was written");
    if (found.size() < acknowledged_) return absl::InternalError("acknowledged records are lost");
    written_ = found;
    acknowledged_ = found.size();
    for (int i = 0; i < steps; ++i) RETURN_IF_ERROR(Step(*opened.journal));
    return absl::OkStatus();
  }
  const Payloads& written() const { return written_; }
  size_t acknowledged() const { return acknowledged_; }

 private:
  absl::Status Step(Journal& journal) {
    for (uint64_t n = 1 + rng_.Below(3); n > 0; --n) {
      written_.push_back(std::to_string(rng_.Next()) + std::string(rng_.Below(60), 'x'));
      RETURN_IF_ERROR(journal.Append(written_.back()));
    }
    RETURN_IF_ERROR(journal.Sync());
    acknowledged_ = written_.size();
    if (!journal.snapshot_due()) return absl::OkStatus();
    return journal.StoreSnapshot(StateOf(written_));
  }

  FaultStorage& disk_;
  Rng rng_;
  Payloads written_;
  size_t acknowledged_ = 0;
};

}  // namespace longhaul
