// P4: for how many contributions a round waits (the quorum), and how much longer for the others
// (the grace), from the arrival times of past rounds.
//
// A round that stops at t costs what its workers could have done meanwhile, plus what is missing:
//
//   cost(t) = waiting_cost_per_s x t + sum of the values of what has not arrived by t.
//
// The rule is the coordinator's: stop when all have arrived, or grace x (time of the quorum) after
// the quorum. Quorum and grace are those with the least cost over the history. The clairvoyant
// knows all arrival times and stops at the best one; nothing stops before the least quorum.
//
// Pure; any thread.
#pragma once

#include <cstdint>
#include <vector>

namespace longhaul {

// Seconds from the opening of a round until each contribution is held; infinity: never.
using ArrivalTimes = std::vector<double>;

struct QuorumCosts {
  double waiting_cost_per_s = 0;
  double missing_cost = 0;    // of one contribution
  double least_quorum = 0.5;  // share of the contributions, in (0, 1]
};

struct QuorumRule {
  double quorum = 1;  // share
  double grace = 0;   // share of the time that the quorum took
  auto operator<=>(const QuorumRule&) const = default;
};

struct QuorumPlan {
  QuorumRule rule;
  double cost = 0;   // mean over the history
  double bound = 0;  // the clairvoyant's
  double ratio() const { return bound > 0 ? cost / bound : 1; }
};

// When the rule stops a round: at most the arrival of the last one that arrives at all. A round
// that never reaches its quorum stops with the last arrival.
double StopTime(const ArrivalTimes& arrivals, const QuorumRule& rule);
double CostOf(const ArrivalTimes& arrivals, const QuorumCosts& costs, double stop_s);
double ClairvoyantCost(const ArrivalTimes& arrivals, const QuorumCosts& costs);

// Mean of both over rounds, for a rule that is given.
QuorumPlan JudgeQuorum(const std::vector<ArrivalTimes>& rounds, const QuorumCosts& costs,
                       const QuorumRule& rule);
// At least one round of at least one contribution.
QuorumPlan PlanQuorum(const std::vector<ArrivalTimes>& history, const QuorumCosts& costs);

}  // namespace longhaul
