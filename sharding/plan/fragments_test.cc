#include "sharding/plan/fragments.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "common/rng.h"

namespace longhaul {
namespace {

// Links with the spread of the log-normal (sigma 1.2) that published fleets show: the sum of twelve
// uniform numbers is close to normal.
std::vector<FragmentWorker> Fleet(Rng& rng, size_t n) {
  std::vector<FragmentWorker> workers;
  for (size_t i = 0; i < n; ++i) {
    double normal = -6;
    for (int k = 0; k < 12; ++k) normal += static_cast<double>(rng.Below(1 << 20)) / (1 << 20);
    workers.push_back({.bytes_per_s = 1e6 * std::exp(1.2 * normal),
                       .weight = 1 + static_cast<double>(rng.Below(100)) / 50});
  }
  return workers;
}

double LeastCoverage(const std::vector<FragmentWorker>& workers, const FragmentPlan& plan,
                     uint32_t fragments, uint64_t round) {
  std::vector<double> covered(fragments);
  double all = 0;
  for (size_t i = 0; i < workers.size(); ++i) {
    all += workers[i].weight;
    const auto list = FragmentsOf(plan.shares[i], fragments, round);
    for (const uint32_t f : list) covered[f] += workers[i].weight;
    std::vector<uint32_t> unique = list;
    std::sort(unique.begin(), unique.end());
    EXPECT_EQ(std::unique(unique.begin(), unique.end()), unique.end());
  }
  return *std::min_element(covered.begin(), covered.end()) / all;
}

TEST(PlanFragmentsTest, CoversInEveryRoundWithinTheDeadline) {
  Rng rng(1);
  for (size_t n : {3, 10, 100, 1000}) {
    const auto workers = Fleet(rng, n);
    const FragmentLimits limits{.fragments = 16, .payload_bytes = 1e7, .coverage = 0.95};
    const FragmentPlan plan = PlanFragments(workers, limits);
    ASSERT_TRUE(plan.possible);
    for (uint64_t round : {0, 1, 7, 16, 1000}) {
      EXPECT_GE(LeastCoverage(workers, plan, 16, round), 0.95 - 1e-6) << n << " " << round;
    }
    for (size_t i = 0; i < n; ++i) {
      EXPECT_LE(plan.shares[i].count * 1e7 / 16 / workers[i].bytes_per_s,
                plan.deadline_s * (1 + 1e-6));
    }
    EXPECT_GE(plan.deadline_s, plan.bound_s * (1 - 1e-6));
    EXPECT_LE(plan.deadline_s, WholePayloadSeconds(workers, 1e7));
    if (n >= 100) EXPECT_LE(plan.ratio(), 1.10) << n;
    if (n == 1000) EXPECT_GT(WholePayloadSeconds(workers, 1e7) / plan.deadline_s, 5);
  }
}

// Every fragment of every worker is sent at least once in ceil(F / k) rounds.
TEST(PlanFragmentsTest, NoFragmentWaitsLonger) {
  for (uint32_t fragments : {1u, 5u, 16u}) {
    for (uint32_t count = 1; count <= fragments; ++count) {
      const FragmentShare share{count, 3 % fragments};
      std::vector<uint64_t> last(fragments, 0);
      const uint64_t longest = (fragments + count - 1) / count;
      for (uint64_t round = 1; round <= 4 * fragments; ++round) {
        for (const uint32_t f : FragmentsOf(share, fragments, round)) last[f] = round;
        if (round <= fragments) continue;
        for (const uint64_t l : last) EXPECT_LE(round - l, longest) << fragments << " " << count;
      }
    }
  }
}

// With few workers: no smaller deadline is possible, whatever the offsets.
TEST(PlanFragmentsTest, NearTheBestOfAllOffsets) {
  Rng rng(5);
  for (int i = 0; i < 20; ++i) {
    const auto workers = Fleet(rng, 4);
    const FragmentLimits limits{
        .fragments = 4, .payload_bytes = 1e7, .coverage = 0.7, .max_wait_rounds = 4};
    const FragmentPlan plan = PlanFragments(workers, limits);
    double best = WholePayloadSeconds(workers, 1e7);
    for (uint32_t code = 0; code < 4 * 4 * 4 * 4 * 625; ++code) {
      FragmentPlan other;
      double needed = 0;
      uint32_t counts = code % 625, offsets = code / 625;
      for (const FragmentWorker& w : workers) {
        other.shares.push_back({counts % 5, offsets % 4});
        needed = std::max(needed, other.shares.back().count * 1e7 / 4 / w.bytes_per_s);
        counts /= 5, offsets /= 4;
      }
      if (needed < best && LeastCoverage(workers, other, 4, 0) >= 0.7) best = needed;
    }
    EXPECT_GE(plan.deadline_s, best * (1 - 1e-6)) << i;
    EXPECT_LE(plan.deadline_s, best * 1.6) << i;
    EXPECT_LE(plan.bound_s, best * (1 + 1e-6)) << i;
  }
}

TEST(PlanFragmentsTest, ASingleFragmentMeansEverybodyOrNobody) {
  const std::vector<FragmentWorker> workers = {{1e6, 0, 1}, {2e6, 0, 1}, {1e5, 0, 0.05}};
  const FragmentPlan plan =
      PlanFragments(workers, {.fragments = 1, .payload_bytes = 1e6, .coverage = 0.95});
  EXPECT_NEAR(plan.deadline_s, 1, 1e-2);
  EXPECT_EQ(plan.shares[2].count, 0u);
  EXPECT_TRUE(plan.possible);
}

}  // namespace
}  // namespace longhaul
