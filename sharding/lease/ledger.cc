#include "sharding/lease/ledger.h"

#include <algorithm>

#include "common/check.h"

namespace longhaul {

Ledger::Ledger(uint64_t total) : total_(total) {
  totals_.free = total;
  if (total > 0) intervals_.emplace(0, Holding{});
}

std::vector<Ledger::Range> Ledger::Grant(SessionId session, Fence fence, uint64_t count) {
  std::vector<Range> granted;
  if (session.value == 0 || fence <= last_fence_) return granted;
  for (auto it = intervals_.begin(); it != intervals_.end() && count > 0; ++it) {
    if (it->second.state != State::kFree) continue;
    const uint64_t length = std::min(count, EndOf(it) - it->first);
    granted.push_back({fence, it->first, it->first + length});
    count -= length;
  }
  for (const Range& r : granted) Assign(r.from, r.to, {State::kLeased, 0, session, fence});
  if (!granted.empty()) last_fence_ = fence;
  return granted;
}

bool Ledger::Holds(SessionId session, Fence fence, uint64_t from, uint64_t to) const {
  const Holding leased{State::kLeased, 0, session, fence};
  return All(from, to, [&](const Holding& h) { return h == leased; });
}

bool Ledger::Seal(SessionId session, Fence fence, uint64_t from, uint64_t to) {
  if (!Holds(session, fence, from, to)) return false;
  Assign(from, to, {State::kSealed, 0, session, fence});
  return true;
}

bool Ledger::Unseal(SessionId session, Fence fence, uint64_t from, uint64_t to) {
  const Holding sealed{State::kSealed, 0, session, fence};
  if (!All(from, to, [&](const Holding& h) { return h == sealed; })) return false;
  Assign(from, to, {State::kLeased, 0, session, fence});
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

bool Ledger::Return(SessionId session, Fence fence, uint64_t from, uint64_t to) {
  if (!Holds(session, fence, from, to)) return false;
  Assign(from, to, {});
  return true;
}

namespace {
constexpr bool ValidReason(uint8_t reason) {
  return reason >= static_cast<uint8_t>(DiscardReason::kOtherFragmentCommitted) &&
         reason <= static_cast<uint8_t>(DiscardReason::kRefusedContent);
}
}  // namespace

bool Ledger::Discard(uint64_t from, uint64_t to, DiscardReason reason) {
  auto open = [](const Holding& h) { return h.state == State::kFree || h.state == State::kLeased; };
  if (!ValidReason(static_cast<uint8_t>(reason)) || !All(from, to, open)) return false;
  Assign(from, to, {.state = State::kDiscarded, .reason = static_cast<uint8_t>(reason)});
  return true;
}

bool Ledger::Quarantine(uint64_t from, uint64_t to) {
  auto open = [](const Holding& h) { return h.state == State::kFree || h.state == State::kLeased; };
  if (!All(from, to, open)) return false;
  Assign(from, to, {.state = State::kQuarantined});
  return true;
}

std::vector<Ledger::Range> Ledger::LeasesOf(SessionId session) const {
  std::vector<Range> leases;
  for (auto it = intervals_.begin(); it != intervals_.end(); ++it) {
    if (it->second.state != State::kLeased || it->second.session != session) continue;
    leases.push_back({it->second.fence, it->first, EndOf(it)});
  }
  return leases;
}

void Ledger::Encode(ByteWriter& out) const {
  out.U64(total_);
  out.Write(last_fence_);
  out.U64(intervals_.size());
  for (const auto& [from, holding] : intervals_) {
    out.U64(from);
    out.U8(static_cast<uint8_t>(holding.state));
    out.U8(holding.reason);
    out.Write(holding.session);
    out.Write(holding.fence);
  }
}

std::optional<Ledger> Ledger::Decode(ByteReader& in) {
  constexpr size_t kIntervalBytes = 8 + 1 + 1 + 8 + 8;
  Ledger ledger(in.U64());
  in.Read(ledger.last_fence_);
  const uint64_t count = in.Count(kIntervalBytes);
  if (!in.ok() || (count == 0) != (ledger.total_ == 0)) return std::nullopt;
  ledger.intervals_.clear();
  ledger.totals_ = {};
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t from = in.U64();
    Holding holding;
    holding.state = static_cast<State>(in.U8());
    holding.reason = in.U8();
    in.Read(holding.session);
    in.Read(holding.fence);
    if (!in.ok() || !Valid(holding, ledger.last_fence_)) return std::nullopt;
    // Increasing, from 0 on, inside the range, and never equal to the interval before it.
    if (i == 0 ? from != 0 : from <= ledger.intervals_.rbegin()->first) return std::nullopt;
    if (from >= ledger.total_) return std::nullopt;
    if (i > 0 && ledger.intervals_.rbegin()->second == holding) return std::nullopt;
    ledger.intervals_.emplace_hint(ledger.intervals_.end(), from, holding);
  }
  for (auto it = ledger.intervals_.begin(); it != ledger.intervals_.end(); ++it) {
    ledger.TotalOf(it->second.state) += ledger.EndOf(it) - it->first;
  }
  return ledger;
}

bool Ledger::Valid(const Holding& h, Fence last_fence) {
  if (h.state > State::kQuarantined) return false;
  const bool held = h.state == State::kLeased || h.state == State::kSealed;
  if ((h.session.value != 0) != held || (h.fence.value != 0) != held) return false;
  if (h.fence > last_fence) return false;
  return h.state == State::kDiscarded ? ValidReason(h.reason) : h.reason == 0;
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
    TotalOf(it->second.state) -= EndOf(it) - it->first;
    it = it->first == from ? std::next(it) : intervals_.erase(it);
  }
  intervals_.at(from) = holding;
  TotalOf(holding.state) += to - from;
  MergeAt(to);
  MergeAt(from);
  LONGHAUL_CHECK(totals_.Sum() == total_, "ledger does not balance");
}

// Makes an interval start at `position`.
void Ledger::SplitAt(uint64_t position) {
  if (position == total_) return;
  auto it = std::prev(intervals_.upper_bound(position));
  if (it->first != position) intervals_.emplace_hint(std::next(it), position, it->second);
}

// Joins the interval that starts at `position` to an equal one before it.
void Ledger::MergeAt(uint64_t position) {
  auto it = intervals_.find(position);
  if (it == intervals_.end() || it == intervals_.begin()) return;
  if (std::prev(it)->second == it->second) intervals_.erase(it);
}

}  // namespace longhaul
