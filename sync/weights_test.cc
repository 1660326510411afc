#include "sync/weights.h"

#include <gtest/gtest.h>

#include "common/rng.h"
#include "sync/exact_sum.h"

namespace longhaul {
namespace {

TEST(WeightsTest, SmallWeightsStayAsTheyAre) {
  EXPECT_EQ(WeightScale(1000, 2), WeightRatio{});
  EXPECT_EQ(ScaledWeight(250, WeightScale(1000, 2)), 250u);
  EXPECT_EQ(ScaledWeight(0, WeightScale(1000, 2)), 1u);
}

TEST(WeightsTest, ScaledIsTheFloor) {
  EXPECT_EQ(ScaledWeight(10, {1, 3}), 3u);
  EXPECT_EQ(ScaledWeight(2, {1, 3}), 1u);
  EXPECT_EQ(ScaledWeight(UINT64_MAX, {1, UINT64_MAX}), 1u);
  EXPECT_EQ(ScaledWeight(UINT64_MAX, {UINT64_MAX, 1}), kWeightLimit - 1);
}

TEST(WeightsTest, TheSumStaysBelowTheLimit) {
  Rng rng(6);
  for (int trial = 0; trial < 300; ++trial) {
    const auto carry = static_cast<uint32_t>(rng.Below(5));
    const uint64_t members = 1 + rng.Below(3000);
    uint64_t total = 0, sum = 0;
    std::vector<uint64_t> raw;
    for (uint64_t m = 0; m < members; ++m) {
      raw.push_back(rng.Next() >> (16 + rng.Below(48)));
      total += raw.back();
    }
    const WeightRatio scale = WeightScale(total, carry);
    for (uint64_t r : raw) sum += ScaledWeight(r * (1 + carry), scale);
    ASSERT_LT(sum, kWeightLimit);
    ASSERT_GE(sum, members);
  }
}

TEST(WeightsTest, ProportionsSurvive) {
  const WeightRatio scale = WeightScale(uint64_t{4} << 40, 0);
  EXPECT_EQ(ScaledWeight(uint64_t{3} << 40, scale), 3 * ScaledWeight(uint64_t{1} << 40, scale));
}

}  // namespace
}  // namespace longhaul
