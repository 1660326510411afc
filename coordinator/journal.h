// The journal: decisions in order, durable before anything that follows from them is sent; and
// snapshots of the state that they lead to, so that a restart need not read them all.
//
//   journal/000001.log ...   segments of records (journal_format.h); only the last one grows
//   journal/mark             the number of the last segment, and a sequence that was durable then
//   snapshots/N.snapshot     the newest two (snapshots.h)
//
// Segments that hold nothing after the older of the two snapshots are removed, so the disk holds at
// most about three times what lies between two snapshots.
//
// Opening takes the newest snapshot that is intact and that the journal continues; a damaged one is
// set aside (".damaged"), and the one before it is used with more of the journal. When none fits,
// and the journal does not begin with the first record, it is refused. A torn tail of a crash is
// cut off, anything else that is damaged and needed is refused (DataLoss; journal_reader.h). The
// last segment is then written anew and synced: what a process read after a crash may have been in
// the page cache only, and decisions would follow from it.
//
// Thread rule: one owner. After a failed Append or Sync every later call fails; the process must
// end, for the state of the file is unknown.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/storage.h"
#include "coordinator/journal_format.h"
#include "coordinator/journal_reader.h"

namespace longhaul {

inline constexpr uint64_t kJournalSegmentBytes = 8 * 1024 * 1024;
// Of journal between two snapshots; or the size of the last snapshot, when that is more.
inline constexpr uint64_t kJournalSnapshotBytes = 16 * 1024 * 1024;

struct JournalOptions {
  std::string folder = "journal";
  std::string snapshot_folder = "snapshots";
  uint64_t segment_bytes = kJournalSegmentBytes;
  uint64_t snapshot_bytes = kJournalSnapshotBytes;
};

class Journal {
 public:
  struct Opened {
    std::unique_ptr<Journal> journal;
    std::optional<std::string> snapshot;  // the state to begin with; none: the empty one
    std::vector<std::string> payloads;    // after it, in order
    uint64_t cut_bytes = 0;               // of a torn tail
    std::vector<std::string> set_aside;   // damaged snapshots: one line each, for the log
    bool empty() const { return !snapshot && payloads.empty(); }
  };
  // What Open would find; nothing is written, and there is no journal to go on with.
  static absl::StatusOr<Opened> Read(Storage& storage, const JournalOptions& options = {});
  // `storage` outlives the journal. DataLoss when what is there cannot be trusted.
  static absl::StatusOr<Opened> Open(Storage& storage, JournalOptions options = {});

  // Kept in memory until Sync.
  absl::Status Append(std::string_view payload);
  // Everything appended is durable when this returns OK.
  absl::Status Sync();

  // `state` is what everything appended so far leads to. FailedPrecondition unless all of it is
  // synced. When this fails otherwise, the journal is as good as before, and the next snapshot is
  // due after as much again.
  absl::Status StoreSnapshot(std::string_view state);
  // Enough was written since the last snapshot.
  bool snapshot_due() const;

  uint64_t last_sequence() const { return place_.sequence; }

 private:
  struct Found;  // what Open decided on

  Journal(Storage& storage, JournalOptions options)
      : storage_(storage), options_(std::move(options)) {}
  static absl::StatusOr<Found> Find(Storage& storage, const JournalOptions& options);
  absl::Status Continue(const Found& found);
  std::string SegmentPath(uint64_t number) const;
  absl::Status StartSegment(uint64_t number);
  absl::Status WriteMark();
  absl::Status Flush();
  absl::Status RemoveCovered();

  Storage& storage_;
  const JournalOptions options_;
  std::unique_ptr<AppendFile> file_;      // none after a failure
  std::string pending_;                   // appended, not written
  std::vector<JournalSegment> segments_;  // ascending; the last one is open
  uint64_t segment_bytes_ = 0;            // of the last one
  std::vector<uint64_t> snapshots_;       // sequences of at most two known to be intact, ascending
  uint64_t last_snapshot_bytes_ = 0;
  uint64_t bytes_since_snapshot_ = 0;
  uint64_t durable_ = 0;
  JournalPlace place_;
};

}  // namespace longhaul
