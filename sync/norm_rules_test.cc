#include "sync/norm_rules.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "common/rng.h"

namespace longhaul {
namespace {

using Vectors = std::vector<std::vector<float>>;

Vectors RandomVectors(Rng& rng, size_t count, size_t elements) {
  Vectors out(count);
  for (auto& v : out) {
    const float size = static_cast<float>(1 + rng.Below(30)) / 64;
    for (size_t i = 0; i < elements; ++i) {
      v.push_back(size * (static_cast<float>(rng.Below(2001)) / 1000 - 1));
    }
  }
  return out;
}

double Norm(const std::vector<double>& v) {
  double squares = 0;
  for (double x : v) squares += x * x;
  return std::sqrt(squares);
}
double Norm(const std::vector<float>& v) { return Norm(std::vector<double>(v.begin(), v.end())); }

std::vector<SquaredSum> Squares(const Vectors& vectors) {
  std::vector<SquaredSum> out;
  for (const auto& v : vectors) out.push_back(SquaredNorm(v));
  return out;
}

TEST(NormRulesTest, IntegerRootIsTheFloor) {
  Rng rng(1);
  for (int i = 0; i < 2000; ++i) {
    const SquaredSum square = (SquaredSum{rng.Next()} << 64 | rng.Next()) >> rng.Below(128);
    const uint64_t root = IntegerRoot(square);
    EXPECT_LE(SquaredSum{root} * root, square);
    if (root == UINT64_MAX) continue;
    EXPECT_GT(SquaredSum{root + 1} * (root + 1), square);
  }
  EXPECT_EQ(IntegerRoot(0), 0u);
  EXPECT_EQ(IntegerRoot(~SquaredSum{0}), UINT64_MAX);
}

// What the capped mean of each element should be, in float64.
TEST(NormRulesTest, CappedMeanFollowsFloatingPoint) {
  Rng rng(2);
  for (int round = 0; round < 50; ++round) {
    const Vectors vectors = RandomVectors(rng, 1 + rng.Below(8), 40);
    std::vector<uint32_t> weights;
    for (size_t m = 0; m < vectors.size(); ++m) {
      weights.push_back(static_cast<uint32_t>(1 + rng.Below(50)));
    }
    const TensorWeights capped = NormCap(Squares(vectors), weights);
    std::vector<double> norms;
    for (const auto& v : vectors) norms.push_back(Norm(v));
    std::vector<double> sorted = norms;
    std::sort(sorted.begin(), sorted.end());
    const double median = sorted[(sorted.size() - 1) / 2];
    const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
    uint64_t sum = 0;
    for (size_t m = 0; m < vectors.size(); ++m) {
      const double expected = weights[m] / total * std::min(1.0, median / norms[m]);
      EXPECT_NEAR(static_cast<double>(capped.weights[m]) / static_cast<double>(capped.divisor),
                  expected, 2e-6);
      sum += capped.weights[m];
    }
    EXPECT_LE(sum, capped.divisor);
    EXPECT_LT(capped.divisor, kWeightLimit);
    EXPECT_GT(capped.divisor, kWeightLimit / 2);
  }
}

TEST(NormRulesTest, CapLeavesEqualNormsAloneAndSurvivesExtremes) {
  const SquaredSum huge = ~SquaredSum{0};
  const TensorWeights equal =
      NormCap(std::vector<SquaredSum>{9, 9, 9}, std::vector<uint32_t>{1, 2, 3});
  EXPECT_EQ(equal.divisor % 6, 0u);
  for (uint32_t m = 0; m < 3; ++m) EXPECT_EQ(equal.weights[m], equal.divisor / 6 * (m + 1));
  const TensorWeights outlier =
      NormCap(std::vector<SquaredSum>{1, huge, 1}, std::vector<uint32_t>{1, 1, 1});
  EXPECT_EQ(outlier.weights[1], 0u);
  EXPECT_EQ(outlier.weights[0], outlier.divisor / 3);
  const TensorWeights zero = NormCap(std::vector<SquaredSum>{0, 0}, std::vector<uint32_t>{1, 1});
  EXPECT_EQ(zero.weights[0], zero.divisor / 2);
  EXPECT_DEATH(NormCap(std::vector<SquaredSum>{1}, std::vector<uint32_t>{kWeightLimit}), "range");
}

TEST(NormRulesTest, GainFollowsFloatingPoint) {
  Rng rng(5);
  for (int round = 0; round < 50; ++round) {
    const Vectors vectors = RandomVectors(rng, 1 + rng.Below(20), 60);
    std::vector<uint32_t> weights;
    std::vector<uint64_t> sum(60);
    double norms = 0, total = 0;
    for (const auto& v : vectors) {
      weights.push_back(static_cast<uint32_t>(1 + rng.Below(50)));
      AddWeighted(v, weights.back(), sum);
      norms += weights.back() * Norm(v);
      total += weights.back();
    }
    std::vector<float> mean(60);
    MeanFromSum(sum, static_cast<uint64_t>(total), mean);
    const uint32_t gain = RestoringGain(Squares(vectors), weights, SquaredNorm(mean));
    const double expected = std::clamp(norms / total / Norm(mean), 1.0, 4.0);
    EXPECT_NEAR(gain / 65536.0, expected, 1e-4);
    std::vector<float> longer = mean;
    ApplyGain(gain, longer);
    EXPECT_NEAR(Norm(longer), expected * Norm(mean), 1e-3 * Norm(longer));
  }
}

TEST(NormRulesTest, GainStaysBetweenOneAndFour) {
  const std::vector<uint32_t> weights = {1, 1};
  const auto gain = [&](SquaredSum a, SquaredSum b, SquaredSum mean) {
    return RestoringGain(std::vector<SquaredSum>{a, b}, weights, mean);
  };
  EXPECT_EQ(gain(100, 100, 0), kGainOne);  // contributions that cancel
  EXPECT_EQ(gain(0, 0, 0), kGainOne);      // nothing at all
  EXPECT_EQ(gain(100, 100, 1), kLargestGain);
  EXPECT_EQ(gain(1, 1, 100), kGainOne);  // longer than its parts: capped norms, say
  EXPECT_EQ(gain(400, 400, 100), 2 * kGainOne);
  EXPECT_DEATH(gain(~SquaredSum{0}, 1, 1), "norm out of range");
}

}  // namespace
}  // namespace longhaul
