#include "sharding/lease/lease_book.h"

#include <algorithm>
#include <map>
#include <utility>

#include "common/check.h"

namespace longhaul {
namespace {

using Range = Ledger::Range;
using State = Ledger::State;

// Ascending; pieces of one grant that touch or overlap become one.
std::vector<Range> Merged(std::vector<Range> ranges) {
  std::ranges::sort(ranges, {}, &Range::from);
  size_t merged = 0;
  for (const Range& r : ranges) {
    if (merged > 0 && ranges[merged - 1].fence == r.fence && r.from <= ranges[merged - 1].to) {
      ranges[merged - 1].to = std::max(ranges[merged - 1].to, r.to);
    } else {
      ranges[merged++] = r;
    }
  }
  ranges.resize(merged);
  return ranges;
}

}  // namespace

LeaseBook::LeaseBook(uint64_t total, uint32_t fragments)
    : ledgers_(fragments, Ledger(total)), failures_(total) {
  LONGHAUL_CHECK(fragments >= 1, "a model has at least one fragment");
}

std::vector<Range> LeaseBook::Grant(SessionId session, Fence fence, uint64_t count) {
  std::vector<Range> granted = ledgers_[0].Grant(session, fence, count);
  for (size_t f = 1; f < ledgers_.size(); ++f) {
    LONGHAUL_CHECK(ledgers_[f].Grant(session, fence, count) == granted,
                   "a position is free on all fragments or on none");
  }
  return granted;
}

bool LeaseBook::Holds(FragmentId fragment, SessionId session, Fence fence, uint64_t from,
                      uint64_t to) const {
  return fragment.value < ledgers_.size() &&
         ledgers_[fragment.value].Holds(session, fence, from, to);
}

bool LeaseBook::Seal(FragmentId fragment, SessionId session, Fence fence, uint64_t from,
                     uint64_t to) {
  return fragment.value < ledgers_.size() &&
         ledgers_[fragment.value].Seal(session, fence, from, to);
}

bool LeaseBook::Unseal(FragmentId fragment, SessionId session, Fence fence, uint64_t from,
                       uint64_t to) {
  if (fragment.value >= ledgers_.size() ||
      !ledgers_[fragment.value].Unseal(session, fence, from, to)) {
    return false;
  }
  Settle(from, to);
  return true;
}

bool LeaseBook::Commit(FragmentId fragment, uint64_t from, uint64_t to) {
  if (fragment.value >= ledgers_.size() || !ledgers_[fragment.value].Commit(from, to)) return false;
  failures_.Forget(from, to);
  if (ledgers_.size() > 1) Settle(from, to);  // with one, nothing is left to decide
  return true;
}

void LeaseBook::Release(SessionId session) {
  const std::vector<Range> leases = LeasesOf(session);
  for (Ledger& ledger : ledgers_) ledger.MarkReleased(session);
  for (const Range& r : leases) Settle(r.from, r.to);
}

bool LeaseBook::DropCarried(FragmentId fragment, SessionId session, Fence fence, uint64_t from,
                            uint64_t to) {
  if (!Holds(fragment, session, fence, from, to)) return false;
  if (ledgers_.size() == 1) {
    Free(from, to);
  } else {
    LONGHAUL_CHECK(ledgers_[fragment.value].Discard(from, to, DiscardReason::kCarry),
                   "what is held can be discarded");
    failures_.Forget(from, to);
  }
  CheckWhole();
  return true;
}

void LeaseBook::ReleaseAll() {
  std::vector<Range> open;
  for (Ledger& ledger : ledgers_) {
    const std::vector<Range> held = ledger.MarkAllReleased();
    open.insert(open.end(), held.begin(), held.end());
  }
  // A piece is decided once, whichever fragment shows it first.
  for (const Range& r : open) Settle(r.from, r.to);
}

void LeaseBook::Blame(SessionId session, uint32_t worker) {
  if (worker == 0) return;
  for (const Range& r : LeasesOf(session)) {
    for (uint64_t at = r.from; at < r.to;) {
      const Column column = ColumnAt(at);
      const uint64_t to = std::min(column.to, r.to);
      if (column.leased == ledgers_.size()) failures_.Add(at, to, worker);
      at = to;
    }
  }
}

std::vector<Range> LeaseBook::LeasesOf(SessionId session) const {
  std::vector<Range> ranges = ledgers_[0].HeldBy(session);
  for (size_t f = 1; f < ledgers_.size(); ++f) {
    const std::vector<Range> held = ledgers_[f].HeldBy(session);
    ranges.insert(ranges.end(), held.begin(), held.end());
  }
  return Merged(std::move(ranges));
}

uint64_t LeaseBook::LeasedPositions(SessionId session) const {
  return ledgers_[0].LeasedPositions(session);
}

std::vector<FailureMap::Entry> LeaseBook::Quarantined() const {
  std::vector<FailureMap::Entry> found;
  for (const FailureMap::Entry& entry : failures_.Entries()) {
    for (uint64_t at = entry.from; at < entry.to;) {
      const Ledger::Piece piece = ledgers_[0].At(at);
      const uint64_t to = std::min(piece.to, entry.to);
      if (piece.holding.state == State::kQuarantined) found.push_back({at, to, entry.workers});
      at = to;
    }
  }
  return found;
}

const Ledger& LeaseBook::ledger(FragmentId fragment) const {
  LONGHAUL_CHECK(fragment.value < ledgers_.size(), "no such fragment");
  return ledgers_[fragment.value];
}

// Every position that is not free was granted once more often than it returned.
uint64_t LeaseBook::granted() const { return returned_ + total() - ledgers_[0].totals().free; }

LeaseBook::Column LeaseBook::ColumnAt(uint64_t from) const {
  Column column{.to = total()};
  for (const Ledger& ledger : ledgers_) {
    const auto [h, to] = ledger.At(from);
    column.to = std::min(column.to, to);
    column.free += h.state == State::kFree;
    column.leased += h.state == State::kLeased;
    column.sealed += h.state == State::kSealed;
    column.committed += h.state == State::kCommitted;
    column.quarantined += h.state == State::kQuarantined;
    if (h.state == State::kDiscarded) {
      const bool carried = h.reason == static_cast<uint8_t>(DiscardReason::kCarry);
      ++(carried ? column.carried : column.abandoned);
    }
    if (!h.held()) continue;
    if (column.holder.held()) {
      column.one_holder &= column.holder.session == h.session && column.holder.fence == h.fence &&
                           column.holder.released == h.released;
    }
    column.holder = h;
  }
  return column;
}

void LeaseBook::Settle(uint64_t from, uint64_t to) {
  while (from < to) {
    const Column column = ColumnAt(from);
    const uint64_t end = std::min(column.to, to);
    if (column.holder.released && column.sealed == 0) {
      if (column.done() > 0) {
        Abandon(from, end);
      } else {
        Free(from, end);
      }
    }
    from = end;
  }
  CheckWhole();
}

void LeaseBook::Free(uint64_t from, uint64_t to) {
  while (from < to) {
    const FailureMap::Entry failed = failures_.At(from);
    const uint64_t end = std::min(failed.to, to);
    const bool quarantine = FailureMap::Full(failed.workers);
    for (Ledger& ledger : ledgers_) {
      const bool ok = quarantine ? ledger.Quarantine(from, end) : ledger.Return(from, end);
      LONGHAUL_CHECK(ok, "what returns was leased on all fragments");
    }
    if (!quarantine) returned_ += end - from;
    from = end;
  }
}

// One column that is committed or discarded on some fragments and leased on the others.
void LeaseBook::Abandon(uint64_t from, uint64_t to) {
  for (Ledger& ledger : ledgers_) {
    if (ledger.At(from).holding.state != State::kLeased) continue;
    LONGHAUL_CHECK(ledger.Discard(from, to, DiscardReason::kOtherFragmentCommitted),
                   "what is leased can be discarded");
  }
}

void LeaseBook::CheckWhole() const {
  const Totals& first = ledgers_[0].totals();
  for (const Ledger& ledger : ledgers_) {
    LONGHAUL_CHECK(
        ledger.totals().free == first.free && ledger.totals().quarantined == first.quarantined,
        "a position is free or quarantined on all fragments or on none");
  }
}

void LeaseBook::Encode(ByteWriter& out) const {
  out.U64(ledgers_.size());
  for (const Ledger& ledger : ledgers_) ledger.Encode(out);
  failures_.Encode(out);
  out.U64(returned_);
}

std::optional<LeaseBook> LeaseBook::Decode(ByteReader& in) {
  constexpr size_t kMinLedgerBytes = 3 * 8;
  const uint64_t fragments = in.Count(kMinLedgerBytes);
  if (!in.ok() || fragments == 0) return std::nullopt;
  LeaseBook book;
  for (uint64_t f = 0; f < fragments; ++f) {
    std::optional<Ledger> ledger = Ledger::Decode(in);
    if (!ledger ||
        (f > 0 && (ledger->total() != book.total() || ledger->last_fence() != book.last_fence()))) {
      return std::nullopt;
    }
    book.ledgers_.push_back(std::move(*ledger));
  }
  std::optional<FailureMap> failures = FailureMap::Decode(in, book.total());
  if (!failures) return std::nullopt;
  book.failures_ = std::move(*failures);
  book.returned_ = in.U64();
  if (!in.ok() || !book.Consistent()) return std::nullopt;
  return book;
}

// Whether some history leads to this column.
bool LeaseBook::CanBe(uint64_t from, const Column& c) const {
  const size_t fragments = ledgers_.size();
  const FailureMap::Workers failed = failures_.At(from).workers;
  if (c.free > 0) return c.free == fragments && !FailureMap::Full(failed);
  if (c.quarantined > 0) return c.quarantined == fragments && FailureMap::Full(failed);
  if (!c.one_holder) return false;
  if (c.done() > 0 && failed != FailureMap::Workers{}) return false;  // of no more use
  if (c.carried + c.abandoned > 0 && fragments == 1) return false;    // returned instead
  if (c.abandoned > 0 && (c.committed + c.carried == 0 || c.holder.held())) return false;
  return !c.holder.released || c.sealed > 0;
}

bool LeaseBook::Consistent() const {
  std::map<Fence, std::pair<SessionId, bool>> owners;
  for (uint64_t at = 0; at < total();) {
    const Column column = ColumnAt(at);
    const uint64_t to = std::min(column.to, failures_.At(at).to);
    if (!CanBe(at, column)) return false;
    if (const Ledger::Holding& h = column.holder; h.held()) {
      const std::pair<SessionId, bool> owner(h.session, h.released);
      if (owners.try_emplace(h.fence, owner).first->second != owner) return false;
    }
    at = to;
  }
  return true;
}

}  // namespace longhaul
