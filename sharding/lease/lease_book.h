// The leases of all fragments of a run: one Ledger per fragment, and the rule that binds them. It
// is state of the coordinator, snapshotted and stored in checkpoints.
//
// A range of sample positions changes hands only as a whole. It is free on every fragment or on
// none; a grant leases it on all. After that each fragment goes its own way (sealed, committed,
// discarded), until what is left is decided in one of two ways: every fragment is committed or
// discarded, or the holder is *released* and the range returns.
//
// What becomes of a released range, fragment for fragment the same pieces:
//   some fragment is sealed                             it waits, and is decided when that round is
//   none is sealed, some are committed or discarded     the others: kOtherFragmentCommitted
//   all are leased                                      free, or quarantined where
//                                                       kMaxLeaseFailures workers failed
// The waiting is kept in the state: Commit and Unseal decide a released range as soon as it can be,
// nobody needs to come back to it. A released range is nobody's: Holds, Seal, DropCarried refuse
// it, LeasesOf and LeasedPositions do not show it.
//
// A refused operation returns false (or an empty list) and changes nothing. Checked after every
// change: the balance of every fragment, and that free and quarantined positions are equally many
// on all.
//
// Cost: O((P · pieces touched + pieces returned) · log n), P fragments; memory as Ledger, times P.
//
// Pure; owned by one thread.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "common/bytes.h"
#include "common/ids.h"
#include "sharding/lease/failure_map.h"
#include "sharding/lease/ledger.h"

namespace longhaul {

class LeaseBook {
 public:
  using Range = Ledger::Range;
  using Totals = Ledger::Totals;

  // At least one fragment.
  LeaseBook(uint64_t total, uint32_t fragments);

  // Leases the lowest free positions on all fragments, `count` of them or as many as there are.
  // Empty when nothing is free, count, session or fence is 0, or the fence is not greater than
  // every fence before it.
  std::vector<Range> Grant(SessionId session, Fence fence, uint64_t count);
  // Every position is leased (not sealed) to the session on this fragment.
  bool Holds(FragmentId fragment, SessionId session, Fence fence, uint64_t from, uint64_t to) const;
  bool Seal(FragmentId fragment, SessionId session, Fence fence, uint64_t from, uint64_t to);
  // Every position must be sealed to the session, released since or not.
  bool Unseal(FragmentId fragment, SessionId session, Fence fence, uint64_t from, uint64_t to);
  // Every position must be sealed, by whomever.
  bool Commit(FragmentId fragment, uint64_t from, uint64_t to);

  // The holder is over (fenced) or was told to drop everything: all it has at this moment is
  // released. What it is granted later is its own. Doing it twice changes nothing more.
  void Release(SessionId session);
  // The carry bound, for ranges that the session holds on this fragment. With one fragment they
  // return; with several, that fragment's are discarded(kCarry) and the others go on.
  bool DropCarried(FragmentId fragment, SessionId session, Fence fence, uint64_t from, uint64_t to);
  // Every round is void and every holder is over: used when a checkpoint becomes the start of a new
  // generation.
  void ReleaseAll();
  // `worker` failed on what is leased to the session on all fragments. A small number that names
  // the worker's key; 0 is nobody. Remembered per position until a fragment of it is committed or
  // discarded; at most kMaxFailureIntervals pieces. Call it before Release.
  void Blame(SessionId session, uint32_t worker);

  // What is leased or sealed to the session on one fragment at least, ascending, merged.
  std::vector<Range> LeasesOf(SessionId session) const;
  // Positions leased to it, not sealed, on fragment 0; O(log n).
  uint64_t LeasedPositions(SessionId session) const;
  // In order of position, with the workers that failed there.
  std::vector<FailureMap::Entry> Quarantined() const;

  const Ledger& ledger(FragmentId fragment) const;
  const Totals& totals(FragmentId fragment) const { return ledger(fragment).totals(); }
  uint64_t discarded(FragmentId fragment, DiscardReason reason) const {
    return ledger(fragment).discarded(reason);
  }
  // Sums over the past, for reports: positions that became free again, and positions given out
  // (each as often as it was).
  uint64_t returned() const { return returned_; }
  uint64_t granted() const;
  uint64_t total() const { return ledgers_[0].total(); }
  uint32_t fragments() const { return static_cast<uint32_t>(ledgers_.size()); }
  Fence last_fence() const { return ledgers_[0].last_fence(); }  // greatest ever granted; 0: none

  void Encode(ByteWriter& out) const;
  // Nothing unless the bytes are what Encode writes for a book that some history leads to, as far
  // as one state can tell. Reads no further than that.
  static std::optional<LeaseBook> Decode(ByteReader& in);

  bool operator==(const LeaseBook&) const = default;

 private:
  // One piece of positions on all fragments.
  struct Column {
    uint64_t to = 0;
    Ledger::Holding holder;  // of a fragment that is leased or sealed; else free
    uint32_t free = 0;       // fragments in each state
    uint32_t leased = 0;
    uint32_t sealed = 0;
    uint32_t committed = 0;
    uint32_t carried = 0;    // discarded(kCarry)
    uint32_t abandoned = 0;  // discarded(kOtherFragmentCommitted)
    uint32_t quarantined = 0;
    bool one_holder = true;  // all that are leased or sealed have the same
    uint32_t done() const { return committed + carried + abandoned; }
  };

  LeaseBook() : failures_(0) {}
  Column ColumnAt(uint64_t from) const;
  // Decides what of [from, to) is released and can be decided.
  void Settle(uint64_t from, uint64_t to);
  // Leased on all fragments; becomes free or quarantined.
  void Free(uint64_t from, uint64_t to);
  void Abandon(uint64_t from, uint64_t to);
  bool CanBe(uint64_t from, const Column& column) const;
  bool Consistent() const;
  void CheckWhole() const;

  std::vector<Ledger> ledgers_;  // by fragment
  FailureMap failures_;          // of positions that are not done on any fragment
  uint64_t returned_ = 0;
};

}  // namespace longhaul
