// Which sample positions of one fragment are free, leased, sealed, committed, discarded or
// quarantined: an interval map over [0, total). It is state of the coordinator, snapshotted and
// stored in checkpoints.
//
//   free --Grant--> leased --Seal--> sealed --Commit--> committed
//   leased --Return--> free          sealed --Unseal--> leased
//   free, leased --Discard--> discarded(reason)      free, leased --Quarantine--> quarantined
//
// Every position has exactly one state; Totals add up to `total` after every change (checked).
// A refused operation returns false (or an empty list) and changes nothing. Ranges are [from, to),
// never empty. Equal neighbours are merged, so memory grows with what is open, not with the past.
//
// Pure; owned by one thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "common/bytes.h"
#include "common/ids.h"

namespace longhaul {

enum class DiscardReason : uint8_t {
  kOtherFragmentCommitted = 1,  // the range cannot be trained again for this fragment alone
  kCarry = 2,                   // carried over too many rounds
  kRefusedContent = 3,          // trained, but the contribution was not acceptable
};

class Ledger {
 public:
  struct Range {
    Fence fence;
    uint64_t from = 0;
    uint64_t to = 0;
    auto operator<=>(const Range&) const = default;
  };
  struct Totals {
    uint64_t free = 0;
    uint64_t leased = 0;
    uint64_t sealed = 0;
    uint64_t committed = 0;
    uint64_t discarded = 0;
    uint64_t quarantined = 0;
    uint64_t Sum() const { return free + leased + sealed + committed + discarded + quarantined; }
    auto operator<=>(const Totals&) const = default;
  };

  explicit Ledger(uint64_t total);

  // Leases the lowest free positions, `count` of them or as many as there are, under one new fence.
  // Empty when nothing is free, count, session or fence is 0, or the fence is not greater than
  // every fence before it.
  std::vector<Range> Grant(SessionId session, Fence fence, uint64_t count);
  // Every position is leased (not sealed) to this session under this fence.
  bool Holds(SessionId session, Fence fence, uint64_t from, uint64_t to) const;
  bool Seal(SessionId session, Fence fence, uint64_t from, uint64_t to);
  bool Unseal(SessionId session, Fence fence, uint64_t from, uint64_t to);
  // Every position must be sealed, by whomever.
  bool Commit(uint64_t from, uint64_t to);
  // All that is leased to the session (not what is sealed) becomes free; returns it, in order.
  std::vector<Range> Return(SessionId session);
  // One range that the session holds becomes free.
  bool Return(SessionId session, Fence fence, uint64_t from, uint64_t to);
  // Every position must be free or leased.
  bool Discard(uint64_t from, uint64_t to, DiscardReason reason);
  bool Quarantine(uint64_t from, uint64_t to);

  // What is leased (not sealed) to the session, in order of position.
  std::vector<Range> LeasesOf(SessionId session) const;
  const Totals& totals() const { return totals_; }
  uint64_t total() const { return total_; }
  Fence last_fence() const { return last_fence_; }  // greatest fence ever granted; 0: none
  size_t intervals() const { return intervals_.size(); }

  void Encode(ByteWriter& out) const;
  // Nothing unless the bytes are what Encode writes for some ledger. Reads no further than that.
  static std::optional<Ledger> Decode(ByteReader& in);

  bool operator==(const Ledger&) const = default;

 private:
  enum class State : uint8_t { kFree, kLeased, kSealed, kCommitted, kDiscarded, kQuarantined };
  // What all positions of an interval share. Session and fence are 0 unless leased or sealed,
  // reason is 0 unless discarded.
  struct Holding {
    State state = State::kFree;
    uint8_t reason = 0;
    SessionId session;
    Fence fence;
    auto operator<=>(const Holding&) const = default;
  };
  using Intervals =
      std::map<uint64_t, Holding>;  // by first position; each ends where the next starts

  static bool Valid(const Holding& holding, Fence last_fence);
  uint64_t& TotalOf(State state);
  uint64_t EndOf(Intervals::const_iterator it) const;
  // All positions of a non-empty range inside [0, total) satisfy the predicate.
  template <class Predicate>
  bool All(uint64_t from, uint64_t to, Predicate predicate) const;
  // Gives all positions of a valid range one holding.
  void Assign(uint64_t from, uint64_t to, const Holding& holding);
  void SplitAt(uint64_t position);
  void MergeAt(uint64_t position);

  uint64_t total_;
  Fence last_fence_;
  Totals totals_;
  Intervals intervals_;
};

}  // namespace longhaul
