// Which sample positions of one fragment are free, leased, sealed, committed, discarded or
// quarantined: an interval map over [0, total).
//
//   free --Grant--> leased --Seal--> sealed --Commit--> committed
//   leased --Return--> free          sealed --Unseal--> leased
//   free, leased --Discard--> discarded(reason)      free, leased --Quarantine--> quarantined
//
// Every position has exactly one state; Totals add up to `total` after every change (checked).
// A refused operation returns false (or an empty list) and changes nothing. Ranges are [from, to),
// never empty. Equal neighbours are merged, so memory grows with what is open, not with the past.
//
// Cost: O((pieces touched + pieces returned) · log n) for every operation; Encode and Decode O(n).
//
// Pure; owned by one thread. The leases of all fragments together: lease_book.h.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "common/bytes.h"
#include "common/ids.h"

namespace longhaul {

enum class DiscardReason : uint8_t {
  kOtherFragmentCommitted =
      1,       // another fragment keeps it: it cannot be trained again for this one
  kCarry = 2,  // carried over too many rounds
};
inline constexpr size_t kDiscardReasons = 2;

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
  enum class State : uint8_t { kFree, kLeased, kSealed, kCommitted, kDiscarded, kQuarantined };
  // What all positions of an interval share. Session and fence are 0 unless leased or sealed,
  // reason is 0 unless discarded. A released lease is its session's no more, but not yet free.
  struct Holding {
    State state = State::kFree;
    uint8_t reason = 0;
    bool released = false;  // leased or sealed only
    SessionId session;
    Fence fence;
    bool held() const { return state == State::kLeased || state == State::kSealed; }
    auto operator<=>(const Holding&) const = default;
  };
  struct Piece {
    Holding holding;
    uint64_t to = 0;  // where it ends
  };

  explicit Ledger(uint64_t total);

  // Leases the lowest free positions, `count` of them or as many as there are, under one new fence.
  // Empty when nothing is free, count, session or fence is 0, or the fence is not greater than
  // every fence before it.
  std::vector<Range> Grant(SessionId session, Fence fence, uint64_t count);
  // Every position is leased (neither sealed nor released) to this session under this fence.
  bool Holds(SessionId session, Fence fence, uint64_t from, uint64_t to) const;
  bool Seal(SessionId session, Fence fence, uint64_t from, uint64_t to);
  // A released lease can be unsealed; it stays released.
  bool Unseal(SessionId session, Fence fence, uint64_t from, uint64_t to);
  // Every position must be sealed, by whomever.
  bool Commit(uint64_t from, uint64_t to);
  // All that is leased to the session and not released (not what is sealed) becomes free; returns
  // it, in order.
  std::vector<Range> Return(SessionId session);
  // Every position must be leased, to whomever.
  bool Return(uint64_t from, uint64_t to);
  // Every position must be free or leased.
  bool Discard(uint64_t from, uint64_t to, DiscardReason reason);
  bool Quarantine(uint64_t from, uint64_t to);
  // All that is leased or sealed to the session is marked as released: it can no more be sealed.
  void MarkReleased(SessionId session);
  // Every seal is undone and every lease is marked as released; returns them, in no order.
  std::vector<Range> MarkAllReleased();

  // What is leased (neither sealed nor released) to the session, in order of position.
  std::vector<Range> LeasesOf(SessionId session) const;
  // What is leased or sealed to it and not released, in order of position. A lease that is partly
  // sealed comes in pieces.
  std::vector<Range> HeldBy(SessionId session) const;
  // Positions in LeasesOf(session); O(log n).
  uint64_t LeasedPositions(SessionId session) const;
  // What holds at a position below `total`, and up to where.
  Piece At(uint64_t position) const;
  const Totals& totals() const { return totals_; }
  uint64_t discarded(DiscardReason reason) const {
    return discarded_.at(static_cast<size_t>(reason) - 1);
  }
  uint64_t total() const { return total_; }
  Fence last_fence() const { return last_fence_; }  // greatest fence ever granted; 0: none
  size_t intervals() const { return intervals_.size(); }

  void Encode(ByteWriter& out) const;
  // Nothing unless the bytes are what Encode writes for some ledger. Reads no further than that.
  static std::optional<Ledger> Decode(ByteReader& in);

  bool operator==(const Ledger&) const = default;

 private:
  using Intervals =
      std::map<uint64_t, Holding>;  // by first position; each ends where the next starts
  struct Held {
    std::set<uint64_t> starts;  // of the intervals leased or sealed to one session
    uint64_t leased = 0;        // positions, neither sealed nor released
    bool operator==(const Held&) const = default;
  };

  static bool Valid(const Holding& holding, Fence last_fence);
  bool FencesAreUnique() const;
  uint64_t& TotalOf(State state);
  uint64_t EndOf(Intervals::const_iterator it) const;
  // All positions of a non-empty range inside [0, total) satisfy the predicate.
  template <class Predicate>
  bool All(uint64_t from, uint64_t to, Predicate predicate) const;
  template <class Predicate>
  std::vector<Range> Select(SessionId session, Predicate predicate) const;
  // Gives all positions of a valid range one holding.
  void Assign(uint64_t from, uint64_t to, const Holding& holding);
  void SplitAt(uint64_t position);
  void MergeAt(uint64_t position);
  // An interval enters or leaves the indexes; a number of positions enters or leaves the sums.
  void Link(uint64_t from, const Holding& holding);
  void Unlink(uint64_t from, const Holding& holding);
  void Count(const Holding& holding, uint64_t positions);
  void Uncount(const Holding& holding, uint64_t positions);

  uint64_t total_;
  Fence last_fence_;
  Intervals intervals_;
  // All of the below follows from the intervals.
  Totals totals_;
  std::array<uint64_t, kDiscardReasons> discarded_{};  // positions, by reason
  std::set<uint64_t> free_;                            // starts of the free intervals
  std::map<SessionId, Held> held_;
};

}  // namespace longhaul
