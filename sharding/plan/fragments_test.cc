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
      EXPECT_LE(static_cast<double>(plan.shares[i].size()) * 1e7 / 16 / workers[i].bytes_per_s,
                plan.deadline_s * (1 + 1e-6));
    }
    EXPECT_GE(plan.deadline_s, plan.bound_s * (1 - 1e-6));
    EXPECT_LE(plan.deadline_s, WholePayloadSeconds(workers, 1e7));
    if (n < 100) continue;
    EXPECT_LE(plan.ratio(), 1.10) << n;
    EXPECT_GT(WholePayloadSeconds(workers, 1e7) / plan.deadline_s, 2) << n;
  }
}

// Every fragment of every worker is sent at least once in so many rounds, by counting.
uint64_t CountedWait(const FragmentShare& share, uint32_t fragments) {
  std::vector<uint64_t> last(fragments, 0);
  uint64_t longest = 0;
  for (uint64_t round = 1; round <= 4 * fragments; ++round) {
    for (const uint32_t f : FragmentsOf(share, fragments, round)) {
      if (last[f] > 0) longest = std::max(longest, round - last[f]);
      last[f] = round;
    }
  }
  return longest;
}

TEST(PlanFragmentsTest, NoFragmentWaitsLongerThanItMay) {
  Rng rng(8);
  for (uint32_t max_wait : {3u, 8u, 16u}) {
    const auto workers = Fleet(rng, 60);
    const FragmentPlan plan = PlanFragments(
        workers,
        {.fragments = 16, .payload_bytes = 1e7, .coverage = 0.9, .max_wait_rounds = max_wait});
    for (const FragmentShare& share : plan.shares) {
      EXPECT_EQ(LongestWait(share, 16), CountedWait(share, 16));
      EXPECT_LE(LongestWait(share, 16), max_wait);
    }
  }
  for (uint32_t count = 1; count <= 16; ++count) {
    EXPECT_EQ(LongestWait(SpreadEvenly(count, 5, 16), 16), (16 + count - 1) / count);
  }
}

// With few workers, against all that is possible.
TEST(PlanFragmentsTest, NearTheBestOfAllShares) {
  Rng rng(5);
  for (int i = 0; i < 6; ++i) {
    const auto workers = Fleet(rng, 4);
    const FragmentLimits limits{
        .fragments = 4, .payload_bytes = 1e7, .coverage = 0.7, .max_wait_rounds = 4};
    const FragmentPlan plan = PlanFragments(workers, limits);
    double best = WholePayloadSeconds(workers, 1e7);
    for (uint32_t code = 0; code < 1 << 16; ++code) {  // every subset of every worker
      FragmentPlan other;
      double needed = 0;
      for (size_t w = 0; w < 4; ++w) {
        FragmentShare share;
        for (uint32_t f = 0; f < 4; ++f) {
          if (code >> (4 * w + f) & 1) share.push_back(f);
        }
        needed =
            std::max(needed, static_cast<double>(share.size()) * 1e7 / 4 / workers[w].bytes_per_s);
        other.shares.push_back(std::move(share));
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
  EXPECT_EQ(plan.shares[2].size(), 0u);
  EXPECT_TRUE(plan.possible);
}

}  // namespace
}  // namespace longhaul
