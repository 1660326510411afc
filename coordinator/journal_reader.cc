#include "coordinator/journal_reader.h"

#include <algorithm>
#include <utility>

#include "common/status_macros.h"

namespace longhaul {
namespace {

constexpr uint64_t kMaxSegmentBytes = 4ull * 1024 * 1024 * 1024;
constexpr uint64_t kFirstLookBytes = 64 * 1024;  // most first records fit

absl::Status Damaged(const std::string& path, const std::string& what) {
  return absl::DataLossError(
      "journal " + path + ": " + what +
      ". Restore the file, or start a new generation from a checkpoint: longhaul coordinator "
      "run.toml --set run.output_dir=NEW --resume CHECKPOINT");
}

// Where the next intact record begins, from `at` on.
std::optional<size_t> FindRecord(std::string_view bytes, size_t at) {
  std::string magic;
  AppendJournalRecord({}, magic);
  magic.resize(4);
  for (at = bytes.find(magic, at); at != std::string_view::npos; at = bytes.find(magic, at + 1)) {
    if (ParseJournalRecord(bytes.substr(at))) return at;
  }
  return std::nullopt;
}

// The highest `durable` that any intact record in `bytes` states.
uint64_t DurableStatedIn(std::string_view bytes) {
  uint64_t durable = 0;
  for (auto at = FindRecord(bytes, 0); at; at = FindRecord(bytes, *at + 1)) {
    durable = std::max(durable, ParseJournalRecord(bytes.substr(*at))->durable);
  }
  return durable;
}

// Reads segment after segment.
class Replay {
 public:
  explicit Replay(const JournalPlace& place) : start_(place) { tail_.end = place; }

  absl::Status Read(const std::string& path, std::string bytes, bool is_last) {
    const std::string_view all = bytes;
    size_t at = 0;
    while (at < all.size()) {
      std::optional<JournalRecord> record = ParseJournalRecord(all.substr(at));
      if (!record) {
        const std::optional<size_t> next = AfterCoveredDamage(all, at);
        if (next) at = *next;
        if (next) continue;
        break;
      }
      RETURN_IF_ERROR(Take(path, *record));
      at += record->bytes();
    }
    if (at < all.size() && (!is_last || DurableStatedIn(all.substr(at)) > tail_.end.sequence)) {
      return Damaged(path, "record " + std::to_string(tail_.end.sequence + 1) +
                               " is damaged although it was durable");
    }
    tail_.cut_bytes = all.size() - at;
    bytes.resize(at);
    tail_.last_segment = std::move(bytes);
    return absl::OkStatus();
  }

  // The highest sequence that was seen.
  uint64_t reached() const { return tail_.payloads.empty() ? seen_ : tail_.end.sequence; }
  JournalTail Finish() && { return std::move(tail_); }

 private:
  absl::Status Take(const std::string& path, const JournalRecord& record) {
    const JournalPlace& place = record.place;
    if (place.sequence <= start_.sequence && tail_.payloads.empty()) {
      seen_ = std::max(seen_, place.sequence);
      if (place.sequence < start_.sequence || place == start_) return absl::OkStatus();
      return Damaged(path, "record " + std::to_string(place.sequence) + " is of another history");
    }
    if (place != tail_.end.After(record.payload)) {
      return Damaged(path, "record " + std::to_string(tail_.end.sequence + 1) +
                               " is missing or out of order although it was durable");
    }
    tail_.payloads.emplace_back(record.payload);
    tail_.end = place;
    return absl::OkStatus();
  }

  // Behind damage that ends at or before the place where the reading begins.
  std::optional<size_t> AfterCoveredDamage(std::string_view bytes, size_t at) const {
    if (seen_ == start_.sequence || !tail_.payloads.empty()) return std::nullopt;
    const std::optional<size_t> next = FindRecord(bytes, at + 1);
    if (!next) return std::nullopt;
    const JournalRecord record = *ParseJournalRecord(bytes.substr(*next));
    return record.place.sequence <= start_.sequence + 1 ? next : std::nullopt;
  }

  const JournalPlace start_;
  uint64_t seen_ = 0;  // highest sequence up to `start_`
  JournalTail tail_;
};

absl::StatusOr<std::optional<uint64_t>> FirstSequence(Storage& storage, const std::string& path) {
  for (uint64_t bytes : {kFirstLookBytes, uint64_t{2} * kMaxRecordBytes}) {
    ASSIGN_OR_RETURN(std::string beginning, storage.Read(path, 0, bytes));
    const std::optional<JournalRecord> record = ParseJournalRecord(beginning);
    if (record) return std::optional(record->place.sequence);
    if (beginning.size() < bytes) break;
  }
  return std::optional<uint64_t>();
}

}  // namespace

absl::StatusOr<std::vector<JournalSegment>> ListJournalSegments(Storage& storage,
                                                                const std::string& folder) {
  std::vector<JournalSegment> segments;
  uint64_t last_first = 0;
  for (const std::string& name : storage.List(folder)) {
    const std::optional<uint64_t> number = SegmentNumber(name);
    if (!number) continue;
    const std::string path = folder + "/" + name;
    ASSIGN_OR_RETURN(const std::optional<uint64_t> first, FirstSequence(storage, path));
    if (first && *first <= last_first) return Damaged(path, "is out of order");
    last_first = first.value_or(last_first);
    segments.push_back({*number, first});
  }
  return segments;
}

absl::StatusOr<JournalTail> ReadJournalAfter(Storage& storage, const std::string& folder,
                                             const std::vector<JournalSegment>& segments,
                                             const JournalPlace& place, uint64_t durable) {
  size_t start = 0;
  for (size_t i = 0; i < segments.size(); ++i) {
    if (segments[i].first && *segments[i].first <= place.sequence + 1) start = i;
  }
  Replay replay(place);
  for (size_t i = start; i < segments.size(); ++i) {
    const std::string path = folder + "/" + SegmentName(segments[i].number);
    ASSIGN_OR_RETURN(std::string bytes, ReadWhole(storage, path, kMaxSegmentBytes));
    RETURN_IF_ERROR(replay.Read(path, std::move(bytes), i + 1 == segments.size()));
  }
  if (replay.reached() < std::max(durable, place.sequence)) {
    return Damaged(folder, "ends at record " + std::to_string(replay.reached()) +
                               " although more of it was durable");
  }
  return std::move(replay).Finish();
}

}  // namespace longhaul
