#include "sync/weights.h"

#include <gtest/gtest.h>

#include <vector>

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

TEST(WeightsTest, RawWeightsFollowTheirRule) {
  EXPECT_EQ(RawWeight(WeightRule::kEqual, 4096, 30), 1u);
  EXPECT_EQ(RawWeight(WeightRule::kTokens, 4096, 30), 4096u);
  EXPECT_EQ(RawWeight(WeightRule::kTokens2PerStep, 4096, 30), 4096u * 4096 / 30);
  EXPECT_EQ(RawWeight(WeightRule::kTokens, 0, 1), 1u);
  EXPECT_EQ(RawWeight(WeightRule::kTokens2PerStep, UINT64_MAX, 1), kMaxRawWeight);
  EXPECT_DEATH(RawWeight(WeightRule::kTokens, 1, 0), "without steps");
  // As many of the heaviest as there may be, as WeightScale sees them.
  EXPECT_LT(static_cast<unsigned __int128>(kMaxRawWeight) * kMaxContributionsPerSum,
            static_cast<unsigned __int128>(1) << 63);
}

// Against float64: mean steps times the weighted mean of (delta / steps).
TEST(WeightsTest, PerStepMeanFollowsFloatingPoint) {
  Rng rng(9);
  for (const WeightRule rule :
       {WeightRule::kEqual, WeightRule::kTokens, WeightRule::kTokens2PerStep}) {
    for (int round = 0; round < 30; ++round) {
      const size_t n = 1 + rng.Below(8);
      std::vector<uint64_t> steps, tokens;
      std::vector<float> delta;
      uint64_t planned = 0;
      for (size_t i = 0; i < n; ++i) {
        steps.push_back(1 + rng.Below(60));
        tokens.push_back(steps.back() * 1024 * (1 + rng.Below(4)));
        delta.push_back(static_cast<float>(rng.Below(2000)) / 1000 - 1);
        planned += RawWeightPerStep(rule, tokens.back(), steps.back());
      }
      const WeightRatio scale = WeightScale(planned, 0);
      std::vector<uint32_t> weights;
      std::vector<uint64_t> sum(1);
      double mean_steps = 0, weighted = 0, total = 0;
      for (size_t i = 0; i < n; ++i) {
        weights.push_back(ScaledWeight(RawWeightPerStep(rule, tokens[i], steps[i]), scale));
        AddWeighted(std::span(&delta[i], 1), weights.back(), sum);
        const double s = static_cast<double>(steps[i]), t = static_cast<double>(tokens[i]);
        const double w = rule == WeightRule::kEqual    ? 1
                         : rule == WeightRule::kTokens ? t
                                                       : t * t / s;
        mean_steps += s / static_cast<double>(n);
        weighted += w * delta[i] / s;
        total += w;
      }
      std::vector<float> mean(1);
      MeanFromSum(sum, PerStepDivisor(weights, steps), mean);
      EXPECT_NEAR(mean[0], mean_steps * weighted / total, 1e-3 * mean_steps) << n;
    }
  }
}

TEST(WeightsTest, PerStepMeanOfEqualSpeedsIsMeanStepsTimesTheSpeed) {
  const std::vector<uint64_t> steps = {10, 40};
  const std::vector<uint32_t> weights = {7, 7};
  const std::vector<float> fast = {0.01f * 40}, slow = {0.01f * 10};
  std::vector<uint64_t> sum(1);
  AddWeighted(slow, 7, sum);
  AddWeighted(fast, 7, sum);
  std::vector<float> mean(1);
  MeanFromSum(sum, PerStepDivisor(weights, steps), mean);
  EXPECT_FLOAT_EQ(mean[0], 0.25f);
  EXPECT_EQ(PerStepDivisor(std::vector<uint32_t>{3, 5}, std::vector<uint64_t>{20, 20}), 8u);
}

}  // namespace
}  // namespace longhaul
