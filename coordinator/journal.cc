#include "coordinator/journal.h"

#include <algorithm>
#include <utility>

#include "common/hash.h"
#include "common/status_macros.h"
#include "coordinator/snapshots.h"

namespace longhaul {
namespace {

constexpr size_t kSnapshotsKept = 2;
constexpr char kMarkName[] = "/mark";
constexpr char kTemporarySuffix[] = ".tmp";
constexpr char kDamagedSuffix[] = ".damaged";

struct Mark {
  uint64_t segment = 0;
  uint64_t durable = 0;
};

std::string EncodeMark(const Mark& mark) {
  ByteWriter w;
  w.U64(mark.segment), w.U64(mark.durable);
  w.U64(Xxh3(AsBytes(w.str())));
  return w.Take();
}

// All zero, which proves nothing, when there is no mark or it is damaged.
Mark ReadMark(Storage& storage, const std::string& path) {
  const absl::StatusOr<std::string> bytes = storage.Read(path, 0, 25);
  if (!bytes.ok()) return {};
  ByteReader r(*bytes);
  const Mark mark{r.U64(), r.U64()};
  return *bytes == EncodeMark(mark) ? mark : Mark{};
}

absl::Status RemoveTemporary(Storage& storage, const std::string& folder) {
  for (const std::string& name : storage.List(folder)) {
    if (name.ends_with(kTemporarySuffix)) RETURN_IF_ERROR(storage.Remove(folder + "/" + name));
  }
  return absl::OkStatus();
}

}  // namespace

struct Journal::Found {
  std::optional<Snapshot> snapshot;
  std::vector<JournalSegment> segments;
  JournalTail tail;
  std::vector<std::pair<uint64_t, std::string>> unusable;  // snapshots newer than that, and why

  Opened TakeOpened() {
    Opened opened;
    for (const auto& [sequence, why] : unusable) opened.set_aside.push_back(why);
    if (snapshot) opened.snapshot = std::move(snapshot->state);
    opened.payloads = std::move(tail.payloads);
    opened.cut_bytes = tail.cut_bytes;
    return opened;
  }
};

// The newest snapshot that the journal continues, and what the journal holds after it.
absl::StatusOr<Journal::Found> Journal::Find(Storage& storage, const JournalOptions& options) {
  Found found;
  ASSIGN_OR_RETURN(found.segments, ListJournalSegments(storage, options.folder));
  const Mark mark = ReadMark(storage, options.folder + kMarkName);
  if (mark.segment > 0 && (found.segments.empty() || found.segments.back().number < mark.segment)) {
    return absl::DataLossError("journal " + options.folder + "/" + SegmentName(mark.segment) +
                               " is missing");
  }
  std::vector<uint64_t> candidates = ListSnapshots(storage, options.snapshot_folder);
  // A journal with a snapshot has records.
  uint64_t durable = std::max<uint64_t>(mark.durable, candidates.empty() ? 0 : 1);
  candidates.push_back(0);  // the empty state, before the first record
  absl::Status refused;
  for (uint64_t sequence : candidates) {
    found.snapshot.reset();
    if (sequence > 0) {
      absl::StatusOr<Snapshot> read = ReadSnapshot(storage, options.snapshot_folder, sequence);
      if (!read.ok()) {
        found.unusable.emplace_back(sequence, read.status().message());
        continue;
      }
      durable = std::max(durable, sequence);
      found.snapshot = std::move(*read);
    }
    absl::StatusOr<JournalTail> tail =
        ReadJournalAfter(storage, options.folder, found.segments,
                         found.snapshot ? found.snapshot->place : JournalPlace{}, durable);
    if (tail.ok()) {
      found.tail = std::move(*tail);
      return found;
    }
    if (!absl::IsDataLoss(tail.status())) return tail.status();
    if (refused.ok()) refused = tail.status();  // of the newest one
    found.unusable.emplace_back(sequence, tail.status().message());
  }
  return refused;
}

absl::StatusOr<Journal::Opened> Journal::Read(Storage& storage, const JournalOptions& options) {
  ASSIGN_OR_RETURN(Found found, Find(storage, options));
  return found.TakeOpened();
}

absl::StatusOr<Journal::Opened> Journal::Open(Storage& storage, JournalOptions options) {
  RETURN_IF_ERROR(storage.MakeFolder(options.folder));
  RETURN_IF_ERROR(storage.MakeFolder(options.snapshot_folder));
  ASSIGN_OR_RETURN(Found found, Find(storage, options));
  std::unique_ptr<Journal> journal(new Journal(storage, std::move(options)));
  RETURN_IF_ERROR(journal->Continue(found));
  Opened opened = found.TakeOpened();
  opened.journal = std::move(journal);
  return opened;
}

absl::Status Journal::Continue(const Found& found) {
  RETURN_IF_ERROR(RemoveTemporary(storage_, options_.folder));
  RETURN_IF_ERROR(RemoveTemporary(storage_, options_.snapshot_folder));
  for (const auto& [sequence, why] : found.unusable) {
    const std::string path = options_.snapshot_folder + "/" + SnapshotName(sequence);
    RETURN_IF_ERROR(storage_.Rename(path, path + kDamagedSuffix));
  }
  if (found.snapshot) {
    snapshots_ = {found.snapshot->place.sequence};
    last_snapshot_bytes_ = found.snapshot->state.size();
  }
  for (const std::string& payload : found.tail.payloads) {
    bytes_since_snapshot_ += JournalRecord{.payload = payload}.bytes();
  }
  segments_ = found.segments;
  place_ = found.tail.end;
  if (segments_.empty()) {
    durable_ = place_.sequence;
    return StartSegment(1);
  }
  const std::string path = SegmentPath(segments_.back().number);
  RETURN_IF_ERROR(WriteAtomically(storage_, path, AsBytes(found.tail.last_segment)));
  durable_ = place_.sequence;
  segment_bytes_ = found.tail.last_segment.size();
  if (segment_bytes_ == 0) segments_.back().first = place_.sequence + 1;
  ASSIGN_OR_RETURN(file_, storage_.OpenAppend(path, /*truncate=*/false));
  return WriteMark();
}

std::string Journal::SegmentPath(uint64_t number) const {
  return options_.folder + "/" + SegmentName(number);
}

absl::Status Journal::StartSegment(uint64_t number) {
  if (number > kMaxSegmentNumber) return absl::ResourceExhaustedError("the journal is full");
  ASSIGN_OR_RETURN(file_, storage_.OpenAppend(SegmentPath(number), /*truncate=*/true));
  RETURN_IF_ERROR(storage_.SyncFolder(options_.folder));
  segments_.push_back({number, place_.sequence + 1});
  segment_bytes_ = 0;
  return WriteMark();
}

absl::Status Journal::WriteMark() {
  return WriteAtomically(storage_, options_.folder + kMarkName,
                         AsBytes(EncodeMark({segments_.back().number, durable_})));
}

absl::Status Journal::Append(std::string_view payload) {
  if (payload.size() > kMaxRecordBytes)
    return absl::InvalidArgumentError("a journal record is too long");
  place_ = place_.After(payload);
  AppendJournalRecord({place_, durable_, payload}, pending_);
  return pending_.size() < options_.segment_bytes ? absl::OkStatus() : Flush();
}

absl::Status Journal::Flush() {
  if (file_ == nullptr) return absl::FailedPreconditionError("the journal has failed before");
  if (pending_.empty()) return absl::OkStatus();
  if (absl::Status written = file_->Append(AsBytes(pending_)); !written.ok()) {
    file_.reset();
    return written;
  }
  segment_bytes_ += pending_.size();
  bytes_since_snapshot_ += pending_.size();
  pending_.clear();
  return absl::OkStatus();
}

absl::Status Journal::Sync() {
  RETURN_IF_ERROR(Flush());
  absl::Status synced = file_->Sync();
  if (synced.ok()) durable_ = place_.sequence;
  if (synced.ok() && segment_bytes_ >= options_.segment_bytes) {
    synced = StartSegment(segments_.back().number + 1);
  }
  if (!synced.ok()) file_.reset();
  return synced;
}

bool Journal::snapshot_due() const {
  return bytes_since_snapshot_ >= std::max(options_.snapshot_bytes, last_snapshot_bytes_);
}

absl::Status Journal::StoreSnapshot(std::string_view state) {
  if (file_ == nullptr || durable_ != place_.sequence || place_.sequence == 0) {
    return absl::FailedPreconditionError("a snapshot stands for what is durable");
  }
  if (!snapshots_.empty() && snapshots_.back() == place_.sequence) return absl::OkStatus();
  bytes_since_snapshot_ = 0;
  RETURN_IF_ERROR(WriteSnapshot(storage_, options_.snapshot_folder, place_, state));
  snapshots_.push_back(place_.sequence);
  last_snapshot_bytes_ = state.size();
  return RemoveCovered();
}

// Removes what is older than the two snapshots. Whatever of it comes back after a crash is of no
// harm.
absl::Status Journal::RemoveCovered() {
  if (snapshots_.size() > kSnapshotsKept) snapshots_.erase(snapshots_.begin());
  if (snapshots_.size() < kSnapshotsKept) return absl::OkStatus();
  const uint64_t oldest = snapshots_.front();
  for (uint64_t sequence : ListSnapshots(storage_, options_.snapshot_folder)) {
    if (std::ranges::find(snapshots_, sequence) != snapshots_.end()) continue;
    RETURN_IF_ERROR(storage_.Remove(options_.snapshot_folder + "/" + SnapshotName(sequence)));
  }
  // The last segment that begins at or before the first record needed.
  uint64_t needed = 0;
  for (const JournalSegment& segment : segments_) {
    if (segment.first && *segment.first <= oldest + 1) needed = segment.number;
  }
  while (segments_.front().number < needed) {
    RETURN_IF_ERROR(storage_.Remove(SegmentPath(segments_.front().number)));
    segments_.erase(segments_.begin());
  }
  return absl::OkStatus();
}

}  // namespace longhaul
