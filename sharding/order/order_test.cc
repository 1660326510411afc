#include "sharding/order/order.h"

#include <gtest/gtest.h>

#include <vector>

#include "common/rng.h"

namespace longhaul {
namespace {

TEST(SampleOrderTest, IsABijectionInEveryEpoch) {
  for (uint64_t n = 1; n <= 300; ++n) {
    const SampleOrder order(n * 17, n);
    for (uint64_t epoch : {0, 1, 5}) {
      std::vector<int> seen(n, 0);
      for (uint64_t i = 0; i < n; ++i) {
        const uint64_t sample = order.Sample(epoch * n + i);
        ASSERT_LT(sample, n);
        ++seen[sample];
        ASSERT_EQ(order.Position(epoch, sample), epoch * n + i);
      }
      for (int count : seen) ASSERT_EQ(count, 1);
    }
  }
}

TEST(SampleOrderTest, InverseHoldsForLargeCounts) {
  Rng rng(1);
  for (uint64_t n : {uint64_t{65536}, uint64_t{65537}, uint64_t{1'000'003}, uint64_t{1} << 40,
                     (uint64_t{1} << 62) + 1, UINT64_MAX}) {
    const SampleOrder order(3, n);
    for (int i = 0; i < 500; ++i) {
      const uint64_t position = rng.Next();
      const uint64_t sample = order.Sample(position);
      ASSERT_LT(sample, n);
      ASSERT_EQ(order.Position(position / n, sample), position);
    }
  }
}

uint64_t Agreements(const SampleOrder& a, uint64_t from_a, const SampleOrder& b, uint64_t from_b) {
  uint64_t equal = 0;
  for (uint64_t i = 0; i < 1000; ++i) equal += a.Sample(from_a + i) == b.Sample(from_b + i);
  return equal;
}

// Two random permutations agree at one place on average.
TEST(SampleOrderTest, EpochsAndSeedsDiffer) {
  const SampleOrder one(1, 1000), two(2, 1000);
  EXPECT_EQ(Agreements(one, 0, SampleOrder(1, 1000), 0), 1000u);
  EXPECT_LT(Agreements(one, 0, one, 1000), 12u);
  EXPECT_LT(Agreements(one, 0, two, 0), 12u);
  uint64_t fixed = 0, successors = 0;
  for (uint64_t i = 0; i < 999; ++i) {
    fixed += one.Sample(i) == i;
    successors += one.Sample(i) + 1 == one.Sample(i + 1);
  }
  EXPECT_LT(fixed, 12u);
  EXPECT_LT(successors, 12u);
}

// Where a sample falls is close to uniform: chi-squared over 10 x 10 cells, 81 degrees of freedom.
TEST(SampleOrderTest, LooksShuffled) {
  constexpr uint64_t kSamples = 10000;
  const SampleOrder order(7, kSamples);
  double cells[10][10] = {};
  for (uint64_t i = 0; i < kSamples; ++i) ++cells[i / 1000][order.Sample(i) / 1000];
  double chi = 0;
  for (auto& row : cells) {
    for (double count : row) chi += (count - 100) * (count - 100) / 100;
  }
  EXPECT_LT(chi, 140);
  EXPECT_GT(chi, 35);
}

// The order is part of what a checkpoint means: it must not change unnoticed.
TEST(SampleOrderTest, PublishedValues) {
  const SampleOrder order(7, 1000);
  const std::vector<uint64_t> got = {order.Sample(0), order.Sample(1), order.Sample(999),
                                     order.Sample(1000)};
  EXPECT_EQ(got, (std::vector<uint64_t>{628, 194, 222, 877}));
}

}  // namespace
}  // namespace longhaul
