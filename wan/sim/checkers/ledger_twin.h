// A second, naive model of the leases and the rounds: one entry per sample position and fragment,
// moved by the durable records alone. It says which records may not be (a stale token accepted, a
// range given out twice, a contribution included that is not held), and must agree with the core's
// ledgers after every record.
#pragma once

#include <array>
#include <deque>
#include <map>
#include <set>
#include <vector>

#include "wan/sim/watcher.h"

namespace longhaul::sim {

inline constexpr size_t kMaxSimulatedFragments = 4;

class LedgerTwin : public Watcher {
 public:
  LedgerTwin(const RunConfig& config, size_t fragments);
  const char* name() const override { return "ledger"; }
  void OnRecord(const Record& record, const State& after) override;

  uint64_t leases() const { return leases_; }
  uint64_t free() const { return counts_[0][0]; }  // positions
  // Whether the session holds all of this, each position once, and it is so many steps' worth.
  bool MayClaim(FragmentId fragment, SessionId session, const std::vector<LeaseRange>& ranges,
                uint64_t steps) const;

 private:
  enum class Place : uint8_t { kFree, kLeased, kSealed, kCommitted, kDiscarded, kQuarantined };
  static constexpr size_t kPlaces = 6;
  struct Position {
    std::array<Place, kMaxSimulatedFragments> on{};
    SessionId session;
    Fence fence;
    bool released = false;  // its holder is over
    std::set<uint32_t> failed;
  };
  struct Sent {
    ContributionId id;
    std::vector<LeaseRange> leases;
    uint32_t weight = 0;
    bool held = false;
    std::set<uint32_t> held_slices;
  };
  struct Round {
    RoundId id;
    std::set<SessionId> members;
    uint64_t quorum = 0;
    std::map<SessionId, Sent> sent;
    std::vector<ContributionId> included;
    bool closed = false;
    size_t slices = 0;
  };
  using Positions = std::vector<Position>;
  using Cut = std::vector<Version>;

  struct Reader;  // one function per record

  void Put(uint64_t position, size_t fragment, Place place);
  bool AllOn(const Position& p, Place place) const;
  void SettleOne(uint64_t position);
  void Release(SessionId session);
  void ReleaseAll();
  void Blame(SessionId session, uint32_t worker);
  void CheckClaim(const ContributionAccepted& r);
  void CheckList(const RoundClosed& r, const Round& round);
  bool Includes(const Round& round, const ContributionId& id) const;
  template <class F>
  void ForEach(const Sent& sent, F&& f);
  void Seal(size_t fragment, const Sent& sent, Place from, Place to);
  bool Agrees(const State& after) const;
  void Compare(const State& after);
  void GoBack(const GenerationStarted& r, const State& after);
  void Recount();

  const uint64_t positions_per_step_;
  const size_t fragments_;
  uint64_t total_ = 0;
  Positions positions_;  // grows to the highest that was ever given out
  std::array<std::array<uint64_t, kPlaces>, kMaxSimulatedFragments> counts_{};
  uint64_t first_free_ = 0;
  Fence last_fence_;
  std::map<SessionId, WorkerKey> sessions_;
  std::map<WorkerKey, uint32_t> numbers_;
  std::vector<Round> rounds_;                                                  // by fragment
  std::map<std::pair<SessionId, uint64_t>, std::vector<LeaseRange>> carried_;  // session, fragment
  std::deque<std::pair<Cut, Positions>> cuts_;                                 // newest last
  uint64_t leases_ = 0;
};

}  // namespace longhaul::sim
