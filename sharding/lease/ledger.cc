#include "sharding/lease/ledger.h"

#include <algorithm>
#include <utility>

#include "common/check.h"

namespace longhaul {
namespace {

constexpr bool ValidReason(uint8_t reason) { return reason >= 1 && reason <= kDiscardReasons; }

bool IsOpen(const Ledger::Holding& h) {
  return h.state == Ledger::State::kFree || h.state == Ledger::State::kLeased;
}

}  // namespace

Ledger::Ledger(uint64_t total) : total_(total) {
  if (total == 0) return;
  intervals_.emplace(0, Holding{});
  Link(0, {});
  Count({}, total);
}

std::vector<Ledger::Range> Ledger::Grant(SessionId session, Fence fence, uint64_t count) {
  std::vector<Range> granted;
  if (session.value == 0 || fence <= last_fence_) return granted;
  for (auto it = free_.begin(); it != free_.end() && count > 0; ++it) {
    const uint64_t length = std::min(count, EndOf(intervals_.find(*it)) - *it);
    granted.push_back({fence, *it, *it + length});
    count -= length;
  }
  for (const Range& r : granted) {
    Assign(r.from, r.to, {.state = State::kLeased, .session = session, .fence = fence});
  }
  if (!granted.empty()) last_fence_ = fence;
  return granted;
}

bool Ledger::Holds(SessionId session, Fence fence, uint64_t from, uint64_t to) const {
  const Holding leased{.state = State::kLeased, .session = session, .fence = fence};
  return All(from, to, [&](const Holding& h) { return h == leased; });
}

bool Ledger::Seal(SessionId session, Fence fence, uint64_t from, uint64_t to) {
  if (!Holds(session, fence, from, to)) return false;
  Assign(from, to, {.state = State::kSealed, .session = session, .fence = fence});
  return true;
}

bool Ledger::Unseal(SessionId session, Fence fence, uint64_t from, uint64_t to) {
  if (from >= to || to > total_) return false;
  Holding sealed = At(from).holding;
  if (sealed.state != State::kSealed || sealed.session != session || sealed.fence != fence ||
      !All(from, to, [&](const Holding& h) { return h == sealed; })) {
    return false;
  }
  sealed.state = State::kLeased;
  Assign(from, to, sealed);
  return true;
}

bool Ledger::Commit(uint64_t from, uint64_t to) {
  if (!All(from, to, [](const Holding& h) { return h.state == State::kSealed; })) return false;
  Assign(from, to, {.state = State::kCommitted});
  return true;
}

std::vector<Ledger::Range> Ledger::Return(SessionId session) {
  std::vector<Range> returned = LeasesOf(session);
  for (const Range& r : returned) Assign(r.from, r.to, {});
  return returned;
}

bool Ledger::Return(uint64_t from, uint64_t to) {
  if (!All(from, to, [](const Holding& h) { return h.state == State::kLeased; })) return false;
  Assign(from, to, {});
  return true;
}

bool Ledger::Discard(uint64_t from, uint64_t to, DiscardReason reason) {
  if (!ValidReason(static_cast<uint8_t>(reason)) || !All(from, to, IsOpen)) return false;
  Assign(from, to, {.state = State::kDiscarded, .reason = static_cast<uint8_t>(reason)});
  return true;
}

bool Ledger::Quarantine(uint64_t from, uint64_t to) {
  if (!All(from, to, IsOpen)) return false;
  Assign(from, to, {.state = State::kQuarantined});
  return true;
}

template <class Predicate>
std::vector<Ledger::Range> Ledger::Select(SessionId session, Predicate predicate) const {
  std::vector<Range> ranges;
  const auto held = held_.find(session);
  if (held == held_.end()) return ranges;
  for (uint64_t from : held->second.starts) {
    const auto it = intervals_.find(from);
    if (predicate(it->second)) ranges.push_back({it->second.fence, from, EndOf(it)});
  }
  return ranges;
}

void Ledger::MarkReleased(SessionId session) {
  for (const Range& r : HeldBy(session)) {
    Holding holding = At(r.from).holding;
    holding.released = true;
    Assign(r.from, r.to, holding);
  }
}

std::vector<Ledger::Range> Ledger::MarkAllReleased() {
  std::vector<Range> all;
  for (const auto& [session, held] : held_) {
    const std::vector<Range> ranges = Select(session, [](const Holding&) { return true; });
    all.insert(all.end(), ranges.begin(), ranges.end());
  }
  for (const Range& r : all) {
    Holding holding = At(r.from).holding;
    holding.state = State::kLeased;
    holding.released = true;
    Assign(r.from, r.to, holding);
  }
  return all;
}

std::vector<Ledger::Range> Ledger::LeasesOf(SessionId session) const {
  return Select(session, [](const Holding& h) { return h.state == State::kLeased && !h.released; });
}

std::vector<Ledger::Range> Ledger::HeldBy(SessionId session) const {
  return Select(session, [](const Holding& h) { return !h.released; });
}

uint64_t Ledger::LeasedPositions(SessionId session) const {
  const auto held = held_.find(session);
  return held == held_.end() ? 0 : held->second.leased;
}

Ledger::Piece Ledger::At(uint64_t position) const {
  LONGHAUL_CHECK(position < total_, "a position beyond the ledger");
  const auto it = std::prev(intervals_.upper_bound(position));
  return {it->second, EndOf(it)};
}

void Ledger::Encode(ByteWriter& out) const {
  out.U64(total_);
  out.Write(last_fence_);
  out.U64(intervals_.size());
  for (const auto& [from, holding] : intervals_) {
    out.U64(from);
    out.U8(static_cast<uint8_t>(holding.state));
    out.U8(holding.reason);
    out.Bool(holding.released);
    out.Write(holding.session);
    out.Write(holding.fence);
  }
}

std::optional<Ledger> Ledger::Decode(ByteReader& in) {
  constexpr size_t kIntervalBytes = 8 + 1 + 1 + 1 + 8 + 8;
  Ledger ledger(0);
  ledger.total_ = in.U64();
  in.Read(ledger.last_fence_);
  const uint64_t count = in.Count(kIntervalBytes);
  if (!in.ok() || (count == 0) != (ledger.total_ == 0)) return std::nullopt;
  Intervals& intervals = ledger.intervals_;
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t from = in.U64();
    Holding holding;
    holding.state = static_cast<State>(in.U8());
    holding.reason = in.U8();
    holding.released = in.Bool();
    in.Read(holding.session);
    in.Read(holding.fence);
    if (!in.ok() || !Valid(holding, ledger.last_fence_)) return std::nullopt;
    // Increasing, from 0 on, inside the range, and never equal to the interval before it.
    if (i == 0 ? from != 0 : from <= intervals.rbegin()->first) return std::nullopt;
    if (from >= ledger.total_) return std::nullopt;
    if (i > 0 && intervals.rbegin()->second == holding) return std::nullopt;
    intervals.emplace_hint(intervals.end(), from, holding);
  }
  for (auto it = intervals.begin(); it != intervals.end(); ++it) {
    ledger.Link(it->first, it->second);
    ledger.Count(it->second, ledger.EndOf(it) - it->first);
  }
  if (!ledger.FencesAreUnique()) return std::nullopt;
  return ledger;
}

bool Ledger::Valid(const Holding& h, Fence last_fence) {
  if (h.state > State::kQuarantined || h.fence > last_fence) return false;
  if ((h.session.value != 0) != h.held() || (h.fence.value != 0) != h.held()) return false;
  if (h.released && !h.held()) return false;
  return h.state == State::kDiscarded ? ValidReason(h.reason) : h.reason == 0;
}

// A fence names one grant: one session, released or not as a whole.
bool Ledger::FencesAreUnique() const {
  std::map<Fence, std::pair<SessionId, bool>> owners;
  for (const auto& [from, h] : intervals_) {
    if (!h.held()) continue;
    const std::pair<SessionId, bool> owner(h.session, h.released);
    if (owners.try_emplace(h.fence, owner).first->second != owner) return false;
  }
  return true;
}

uint64_t& Ledger::TotalOf(State state) {
  switch (state) {
    case State::kFree:
      return totals_.free;
    case State::kLeased:
      return totals_.leased;
    case State::kSealed:
      return totals_.sealed;
    case State::kCommitted:
      return totals_.committed;
    case State::kDiscarded:
      return totals_.discarded;
    case State::kQuarantined:
      return totals_.quarantined;
  }
  CheckFailed("state", __FILE__, __LINE__, "unknown state");
}

uint64_t Ledger::EndOf(Intervals::const_iterator it) const {
  const auto next = std::next(it);
  return next == intervals_.end() ? total_ : next->first;
}

template <class Predicate>
bool Ledger::All(uint64_t from, uint64_t to, Predicate predicate) const {
  if (from >= to || to > total_) return false;
  auto it = std::prev(intervals_.upper_bound(from));
  for (; it != intervals_.end() && it->first < to; ++it) {
    if (!predicate(it->second)) return false;
  }
  return true;
}

void Ledger::Assign(uint64_t from, uint64_t to, const Holding& holding) {
  SplitAt(from);
  SplitAt(to);
  auto it = intervals_.find(from);
  while (it != intervals_.end() && it->first < to) {
    Uncount(it->second, EndOf(it) - it->first);
    Unlink(it->first, it->second);
    it = it->first == from ? std::next(it) : intervals_.erase(it);
  }
  intervals_.at(from) = holding;
  Link(from, holding);
  Count(holding, to - from);
  MergeAt(to);
  MergeAt(from);
  LONGHAUL_CHECK(totals_.Sum() == total_, "ledger does not balance");
}

// Makes an interval start at `position`.
void Ledger::SplitAt(uint64_t position) {
  if (position == total_) return;
  auto it = std::prev(intervals_.upper_bound(position));
  if (it->first == position) return;
  intervals_.emplace_hint(std::next(it), position, it->second);
  Link(position, it->second);
}

// Joins the interval that starts at `position` to an equal one before it.
void Ledger::MergeAt(uint64_t position) {
  auto it = intervals_.find(position);
  if (it == intervals_.end() || it == intervals_.begin()) return;
  if (std::prev(it)->second != it->second) return;
  Unlink(it->first, it->second);
  intervals_.erase(it);
}

void Ledger::Link(uint64_t from, const Holding& holding) {
  if (holding.state == State::kFree) free_.insert(from);
  if (holding.held()) held_[holding.session].starts.insert(from);
}

void Ledger::Unlink(uint64_t from, const Holding& holding) {
  if (holding.state == State::kFree) free_.erase(from);
  if (!holding.held()) return;
  const auto held = held_.find(holding.session);
  held->second.starts.erase(from);
  if (held->second.starts.empty()) held_.erase(held);
}

void Ledger::Count(const Holding& h, uint64_t positions) {
  TotalOf(h.state) += positions;
  if (h.state == State::kDiscarded) discarded_.at(h.reason - 1) += positions;
  if (h.state == State::kLeased && !h.released) held_.at(h.session).leased += positions;
}

void Ledger::Uncount(const Holding& h, uint64_t positions) {
  TotalOf(h.state) -= positions;
  if (h.state == State::kDiscarded) discarded_.at(h.reason - 1) -= positions;
  if (h.state == State::kLeased && !h.released) held_.at(h.session).leased -= positions;
}

}  // namespace longhaul
