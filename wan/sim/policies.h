// What two common ways of handing out data would have made of the same history: the same hand-outs,
// expiries and late arrivals, replayed (for the first fragment).
//
//   advance    the index goes on, whatever becomes of what was handed out: data is lost whose first
//              contribution was not in the round that it was sent to, or never came (Psyche-like)
//   requeue    what has timed out is handed out again, and what comes late is applied all the same:
//              data is applied twice when both come (DLRover-like)
//
// A roll-back begins a new account. Only what is decided counts.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include "wan/sim/watcher.h"

namespace longhaul::sim {

struct PolicyShares {
  uint64_t handed_out = 0;  // positions, decided for the first time
  uint64_t lost = 0;        // of them, by advancing
  uint64_t applied = 0;     // different positions, by requeueing
  uint64_t twice = 0;       // of them, more often than once
  void Add(const PolicyShares& other);
};

class Policies : public Watcher {
 public:
  const char* name() const override { return "policies"; }
  void OnRecord(const Record& record, const State& after) override;
  void OnTrained(size_t process, const std::vector<uint64_t>& positions) override;
  void OnCoded(size_t process, const ObjectInfo& object,
               const std::vector<std::string>& chunks) override;
  void OnProgressVoid(size_t process) override;
  PolicyShares shares() const;

 private:
  enum class First : uint8_t { kNone, kHandedOut, kSent, kTrained, kLost };
  struct Position {
    First first = First::kNone;
    uint8_t applied = 0;
    bool over = false;  // handed out here after it was applied: requeueing would not do that
  };

  Position& At(uint64_t position);
  void HandedOut(const LeaseGranted& r, const State& after);
  void Ended(SessionId session, const State& after);
  void Decided(FragmentId fragment);
  void Arrived(size_t process);
  void NewAccount();

  std::vector<Position> positions_;
  std::map<SessionId, std::vector<uint64_t>> first_of_;  // handed out for the first time, to whom
  std::map<ContributionId, std::vector<LeaseRange>> sent_;  // to the open round
  std::set<ContributionId> listed_;
  std::map<size_t, std::vector<uint64_t>> trained_;  // by process; not arrived yet
  std::set<size_t> old_;                             // processes that have not heard of a roll-back
  std::set<size_t> processes_;
  PolicyShares before_;  // of the accounts that are closed
};

}  // namespace longhaul::sim
