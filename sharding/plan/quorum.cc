#include "sharding/plan/quorum.h"

#include <algorithm>
#include <cmath>

#include "common/check.h"

namespace longhaul {
namespace {

constexpr double kGraces[] = {0,   0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4,
                              0.5, 0.75, 1,    1.5, 2,    3,   5,   10};
constexpr int kQuorums = 40;  // shares that are tried

size_t CountOf(double share, size_t n) {
  const auto count = static_cast<size_t>(std::ceil(share * static_cast<double>(n) - 1e-9));
  return std::clamp<size_t>(count, 1, n);
}

ArrivalTimes Sorted(ArrivalTimes arrivals) {
  std::sort(arrivals.begin(), arrivals.end());
  return arrivals;
}

// The rest expects sorted times.

double LastArrival(const ArrivalTimes& sorted) {
  double last = 0;
  for (const double t : sorted) {
    if (std::isfinite(t)) last = t;
  }
  return last;
}

double StopSorted(const ArrivalTimes& sorted, const QuorumRule& rule) {
  const double held = sorted[CountOf(rule.quorum, sorted.size()) - 1];
  if (!std::isfinite(held)) return LastArrival(sorted);
  const double patience = held * (1 + rule.grace);
  // Who never comes is waited for as long as the grace lasts.
  return std::isfinite(sorted.back()) ? std::min(patience, sorted.back()) : patience;
}

double CostSorted(const ArrivalTimes& sorted, const QuorumCosts& costs, double stop_s) {
  const auto late = sorted.end() - std::upper_bound(sorted.begin(), sorted.end(), stop_s);
  return costs.waiting_cost_per_s * stop_s + costs.missing_cost * static_cast<double>(late);
}

double ClairvoyantSorted(const ArrivalTimes& sorted, const QuorumCosts& costs) {
  const size_t least = CountOf(costs.least_quorum, sorted.size());
  double best = CostSorted(sorted, costs, LastArrival(sorted));
  for (size_t i = least - 1; i < sorted.size() && std::isfinite(sorted[i]); ++i) {
    best = std::min(best, CostSorted(sorted, costs, sorted[i]));
  }
  return best;
}

double MeanCost(const std::vector<ArrivalTimes>& sorted, const QuorumCosts& costs,
                const QuorumRule& rule) {
  double sum = 0;
  for (const ArrivalTimes& round : sorted) sum += CostSorted(round, costs, StopSorted(round, rule));
  return sum / static_cast<double>(sorted.size());
}

double MeanBound(const std::vector<ArrivalTimes>& sorted, const QuorumCosts& costs) {
  double sum = 0;
  for (const ArrivalTimes& round : sorted) sum += ClairvoyantSorted(round, costs);
  return sum / static_cast<double>(sorted.size());
}

std::vector<ArrivalTimes> AllSorted(std::vector<ArrivalTimes> rounds) {
  LONGHAUL_CHECK(!rounds.empty(), "no rounds");
  for (ArrivalTimes& round : rounds) {
    LONGHAUL_CHECK(!round.empty(), "a round of nobody");
    round = Sorted(std::move(round));
  }
  return rounds;
}

}  // namespace

double StopTime(const ArrivalTimes& arrivals, const QuorumRule& rule) {
  return StopSorted(Sorted(arrivals), rule);
}

double CostOf(const ArrivalTimes& arrivals, const QuorumCosts& costs, double stop_s) {
  return CostSorted(Sorted(arrivals), costs, stop_s);
}

double ClairvoyantCost(const ArrivalTimes& arrivals, const QuorumCosts& costs) {
  return ClairvoyantSorted(Sorted(arrivals), costs);
}

QuorumPlan JudgeQuorum(const std::vector<ArrivalTimes>& rounds, const QuorumCosts& costs,
                       const QuorumRule& rule) {
  const std::vector<ArrivalTimes> sorted = AllSorted(rounds);
  return {rule, MeanCost(sorted, costs, rule), MeanBound(sorted, costs)};
}

QuorumPlan PlanQuorum(const std::vector<ArrivalTimes>& history, const QuorumCosts& costs) {
  const std::vector<ArrivalTimes> sorted = AllSorted(history);
  QuorumPlan best;
  bool first = true;
  for (int i = 0; i <= kQuorums; ++i) {
    const double quorum = costs.least_quorum + (1 - costs.least_quorum) * i / kQuorums;
    for (const double grace : kGraces) {
      const QuorumRule rule{quorum, grace};
      const double cost = MeanCost(sorted, costs, rule);
      if (first || cost < best.cost) best = {rule, cost, 0};
      first = false;
    }
  }
  best.bound = MeanBound(sorted, costs);
  return best;
}

}  // namespace longhaul
