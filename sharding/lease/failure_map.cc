#include "sharding/lease/failure_map.h"

#include <algorithm>

#include "common/check.h"

namespace longhaul {
namespace {

void Insert(FailureMap::Workers& workers, uint32_t worker) {
  if (FailureMap::Full(workers) || std::ranges::find(workers, worker) != workers.end()) return;
  workers.back() = worker;
  // Zeros stay at the end.
  std::ranges::sort(workers, {}, [](uint32_t w) { return w - 1; });
}

bool Valid(const FailureMap::Workers& workers) {
  for (size_t i = 1; i < workers.size(); ++i) {
    if (workers[i] != 0 && workers[i] <= workers[i - 1]) return false;
    if (workers[i] != 0 && workers[i - 1] == 0) return false;
  }
  return true;
}

}  // namespace

FailureMap::FailureMap(uint64_t total) : total_(total) {
  if (total > 0) intervals_.emplace(0, Workers{});
}

bool FailureMap::Add(uint64_t from, uint64_t to, uint32_t worker) {
  LONGHAUL_CHECK(from < to && to <= total_ && worker != 0, "a failure has a place and a worker");
  if (intervals_.size() + 2 > kMaxFailureIntervals) return false;
  SplitAt(from);
  SplitAt(to);
  for (auto it = intervals_.find(from); it != intervals_.end() && it->first < to;) {
    const uint64_t start = it->first;
    Insert(it->second, worker);
    ++it;
    MergeAt(start);
  }
  MergeAt(to);
  return true;
}

void FailureMap::Forget(uint64_t from, uint64_t to) {
  LONGHAUL_CHECK(from < to && to <= total_, "a range of the map");
  const Entry all = At(from);
  if (all.to >= to && all.workers == Workers{}) return;
  SplitAt(from);
  SplitAt(to);
  auto it = intervals_.find(from);
  it->second = {};
  for (++it; it != intervals_.end() && it->first < to;) it = intervals_.erase(it);
  MergeAt(to);
  MergeAt(from);
}

FailureMap::Entry FailureMap::At(uint64_t position) const {
  LONGHAUL_CHECK(position < total_, "a position beyond the map");
  const auto it = std::prev(intervals_.upper_bound(position));
  return {it->first, EndOf(it), it->second};
}

std::vector<FailureMap::Entry> FailureMap::Entries() const {
  std::vector<Entry> entries;
  for (auto it = intervals_.begin(); it != intervals_.end(); ++it) {
    if (it->second != Workers{}) entries.push_back({it->first, EndOf(it), it->second});
  }
  return entries;
}

void FailureMap::Encode(ByteWriter& out) const {
  out.U64(intervals_.size());
  for (const auto& [from, workers] : intervals_) {
    out.U64(from);
    for (uint32_t worker : workers) out.U32(worker);
  }
}

std::optional<FailureMap> FailureMap::Decode(ByteReader& in, uint64_t total) {
  constexpr size_t kIntervalBytes = 8 + 4 * kMaxLeaseFailures;
  const uint64_t count = in.Count(kIntervalBytes);
  if (!in.ok() || (count == 0) != (total == 0) || count > kMaxFailureIntervals) return std::nullopt;
  FailureMap map(0);
  map.total_ = total;
  Intervals& intervals = map.intervals_;
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t from = in.U64();
    Workers workers;
    for (uint32_t& worker : workers) worker = in.U32();
    if (!in.ok() || !Valid(workers) || from >= total) return std::nullopt;
    if (i == 0 ? from != 0 : from <= intervals.rbegin()->first) return std::nullopt;
    if (i > 0 && intervals.rbegin()->second == workers) return std::nullopt;
    intervals.emplace_hint(intervals.end(), from, workers);
  }
  return map;
}

void FailureMap::SplitAt(uint64_t position) {
  if (position == total_) return;
  auto it = std::prev(intervals_.upper_bound(position));
  if (it->first != position) intervals_.emplace_hint(std::next(it), position, it->second);
}

void FailureMap::MergeAt(uint64_t position) {
  auto it = intervals_.find(position);
  if (it == intervals_.end() || it == intervals_.begin()) return;
  if (std::prev(it)->second == it->second) intervals_.erase(it);
}

uint64_t FailureMap::EndOf(Intervals::const_iterator it) const {
  const auto next = std::next(it);
  return next == intervals_.end() ? total_ : next->first;
}

}  // namespace longhaul
