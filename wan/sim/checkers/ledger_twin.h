// A second, naive model of the ledger: one entry per sample position, moved by the durable records
// alone. It says which records may not be (a stale token accepted, a range given out twice,
// contributions closed that were not held), and must agree with the core's ledger at every record.
#pragma once

#include <map>
#include <set>
#include <vector>

#include "wan/sim/watcher.h"

namespace longhaul::sim {

class LedgerTwin : public Watcher {
 public:
  explicit LedgerTwin(const RunConfig& config);
  const char* name() const override { return "ledger"; }
  void OnRecord(const Record& record, const State& after) override;

  uint64_t leases() const { return leases_; }

 private:
  enum class Place : uint8_t { kFree, kLeased, kSealed, kCommitted };
  struct Position {
    Place place = Place::kFree;
    SessionId session;
    Fence fence;
    Version version;  // that it was committed with
  };
  struct Sent {
    std::vector<LeaseRange> leases;
    uint32_t weight = 0;
    bool held = false;
  };

  void Start(const State& after);
  void Grant(const LeaseGranted& r);
  void Accept(const ContributionAccepted& r);
  void Close(const RoundClosed& r);
  void Commit(const RoundCommitted& r);
  void Abort();
  void GoBack(const GenerationStarted& r);
  void Move(uint64_t position, Place to);
  // All positions of a contribution's ranges.
  template <class F>
  void ForEach(const Sent& sent, F&& f);
  void ReturnOf(SessionId session);
  void Compare(const State& after);

  const uint64_t positions_per_step_;
  uint64_t total_ = 0;
  std::vector<Position> positions_;  // grows to the highest that was ever given out
  uint64_t counts_[4] = {};
  uint64_t first_free_ = 0;
  Fence last_fence_;
  std::set<SessionId> sessions_;
  std::map<ContributionId, Sent> sent_;  // to the open round
  std::vector<ContributionId> included_;
  std::set<SessionId> members_;
  uint64_t quorum_ = 0;
  uint64_t leases_ = 0;
};

}  // namespace longhaul::sim
