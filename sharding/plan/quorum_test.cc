#include "sharding/plan/quorum.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "common/rng.h"

namespace longhaul {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

// Most arrive close together, some are stragglers, some never come.
std::vector<ArrivalTimes> Trace(Rng& rng, size_t rounds, size_t workers, uint64_t late_percent,
                                uint64_t lost_percent) {
  std::vector<ArrivalTimes> trace(rounds);
  for (ArrivalTimes& round : trace) {
    for (size_t i = 0; i < workers; ++i) {
      double t = 60 + static_cast<double>(rng.Below(12'000)) / 1000;
      if (rng.Chance(late_percent, 100)) t *= 1 + static_cast<double>(1 + rng.Below(4000)) / 1000;
      round.push_back(rng.Chance(lost_percent, 100) ? kNever : t);
    }
  }
  return trace;
}

QuorumCosts Costs(size_t workers) {
  // A fleet that makes 1 token a second per worker, rounds of 60 s.
  return {.waiting_cost_per_s = static_cast<double>(workers), .missing_cost = 60};
}

TEST(QuorumTest, StopsAsTheCoordinatorDoes) {
  const ArrivalTimes arrivals = {30, 10, 20, 100};
  EXPECT_EQ(StopTime(arrivals, {0.75, 0}), 30);
  EXPECT_EQ(StopTime(arrivals, {0.75, 0.5}), 45);
  EXPECT_EQ(StopTime(arrivals, {0.75, 5}), 100);  // all are there
  EXPECT_EQ(StopTime(arrivals, {0.6, 0}), 30);
  EXPECT_EQ(StopTime({10, kNever}, {0.5, 1}), 20);
  EXPECT_EQ(StopTime({10, kNever}, {1, 1}), 10);  // the quorum never comes
  EXPECT_EQ(CostOf(arrivals, {2, 7, 0.5}, 30), 2 * 30 + 7);
}

TEST(QuorumTest, NothingBeatsTheClairvoyant) {
  Rng rng(1);
  for (const ArrivalTimes& round : Trace(rng, 200, 9, 20, 10)) {
    const QuorumCosts costs = Costs(9);
    const double bound = ClairvoyantCost(round, costs);
    for (double quorum = 0.5; quorum <= 1; quorum += 0.05) {
      for (double grace : {0.0, 0.1, 1.0}) {
        const double cost = CostOf(round, costs, StopTime(round, {quorum, grace}));
        double arrived = 0;
        for (const double t : round) arrived += std::isfinite(t);
        if (arrived / 9 < 0.5) continue;  // no quorum: nothing to compare
        EXPECT_GE(cost, bound * (1 - 1e-9));
      }
    }
  }
}

// Learnt on one half of a trace, judged on the other.
TEST(QuorumTest, IsCloseToTheClairvoyantOnTracesItHasNotSeen) {
  Rng rng(2);
  for (const auto& [late, lost] :
       std::vector<std::pair<uint64_t, uint64_t>>{{0, 0}, {2, 0}, {10, 1}, {25, 5}, {50, 10}}) {
    for (size_t workers : {4, 16, 100}) {
      const QuorumCosts costs = Costs(workers);
      const QuorumPlan plan = PlanQuorum(Trace(rng, 60, workers, late, lost), costs);
      const QuorumPlan judged = JudgeQuorum(Trace(rng, 60, workers, late, lost), costs, plan.rule);
      EXPECT_LE(judged.ratio(), 1.25) << late << " " << lost << " " << workers;
      EXPECT_GE(judged.ratio(), 1 - 1e-9);
    }
  }
}

TEST(QuorumTest, WaitsForAllWhenNobodyIsLate) {
  const QuorumPlan plan = PlanQuorum({{10, 10.1, 10.2, 10.3}}, {1, 100, 0.5});
  EXPECT_NEAR(plan.cost, 10.3, 1e-9);
  EXPECT_NEAR(plan.ratio(), 1, 1e-9);
}

}  // namespace
}  // namespace longhaul
