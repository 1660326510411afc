#include "sync/exact_sum.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "common/rng.h"

namespace longhaul {
namespace {

using Wide = __int128;

// Round half to even of value * 2^40 by integer arithmetic on the float's own digits.
int64_t NaiveGrid(float value) {
  int exponent = 0;
  const float fraction = std::frexp(value, &exponent);
  const auto digits = static_cast<int64_t>(std::ldexp(fraction, 24));  // 24 bits, exact
  const int shift = exponent - 24 + kGridBits;
  if (shift >= 0) return digits * (int64_t{1} << shift);
  if (shift < -60) return 0;
  const Wide scaled = static_cast<Wide>(digits < 0 ? -digits : digits);
  const Wide unit = Wide{1} << -shift;
  Wide q = scaled / unit;
  const Wide rest = 2 * (scaled % unit);
  if (rest > unit || (rest == unit && q % 2 == 1)) ++q;
  return static_cast<int64_t>(digits < 0 ? -q : q);
}

float RandomValue(Rng& rng) {
  const auto x = static_cast<double>(static_cast<int64_t>(rng.Next())) * 0x1p-63;  // [-1, 1)
  return static_cast<float>(std::ldexp(x, static_cast<int>(rng.Below(50)) - 46)) * 0.999f;
}

std::vector<float> RandomValues(Rng& rng, size_t n) {
  std::vector<float> v(n);
  for (float& x : v) x = RandomValue(rng);
  return v;
}

TEST(ExactSumTest, GridEqualsTheNaiveTwin) {
  Rng rng(1);
  for (int i = 0; i < 100000; ++i) {
    const float v = RandomValue(rng);
    ASSERT_EQ(ToGrid(v), NaiveGrid(v)) << v;
  }
  const float below = std::nextafter(8.0f, 0.0f);
  for (float v : {0.0f, -0.0f, 1.0f, -1.0f, below, -below, 1e-45f, 0x1p-41f, 0x1.000002p-41f}) {
    EXPECT_EQ(ToGrid(v), NaiveGrid(v)) << v;
  }
}

TEST(ExactSumTest, TiesGoToEven) {
  EXPECT_EQ(ToGrid(0x1p-41f), 0);
  EXPECT_EQ(ToGrid(3 * 0x1p-41f), 2);
  EXPECT_EQ(ToGrid(5 * 0x1p-41f), 2);
  EXPECT_EQ(ToGrid(-3 * 0x1p-41f), -2);
  EXPECT_EQ(ToGrid(0x1.000002p-41f), 1);
}

TEST(ExactSumTest, SumsDoNotDependOnOrderAndCanBeTakenBack) {
  Rng rng(2);
  constexpr size_t kElements = 37, kParts = 6;
  std::vector<std::vector<float>> parts;
  std::vector<uint32_t> weights;
  for (size_t p = 0; p < kParts; ++p) {
    parts.push_back(RandomValues(rng, kElements));
    weights.push_back(1 + static_cast<uint32_t>(rng.Below(1000)));
  }
  std::vector<Wide> exact(kElements, 0);
  for (size_t p = 0; p < kParts; ++p) {
    for (size_t i = 0; i < kElements; ++i) {
      exact[i] += static_cast<Wide>(NaiveGrid(parts[p][i])) * weights[p];
    }
  }
  std::vector<size_t> order = {0, 1, 2, 3, 4, 5};
  do {
    std::vector<uint64_t> sum(kElements, 0);
    const std::vector<float> extra = RandomValues(rng, kElements);
    AddWeighted(extra, 77, sum);
    for (size_t p : order) AddWeighted(parts[p], weights[p], sum);
    SubtractWeighted(extra, 77, sum);
    for (size_t i = 0; i < kElements; ++i) ASSERT_EQ(static_cast<int64_t>(sum[i]), exact[i]);
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST(ExactSumTest, PassingSumsMayWrap) {
  const std::vector<float> most = {std::nextafter(8.0f, 0.0f), -std::nextafter(8.0f, 0.0f)};
  const std::vector<float> small = {0.5f, -0.25f};
  std::vector<uint64_t> sum(2, 0);
  AddWeighted(small, 3, sum);
  for (int i = 0; i < 7; ++i) AddWeighted(most, kWeightLimit - 1, sum);
  EXPECT_LT(static_cast<int64_t>(sum[0]), ToGrid(most[0]) * int64_t{kWeightLimit - 1});
  for (int i = 0; i < 7; ++i) SubtractWeighted(most, kWeightLimit - 1, sum);
  std::vector<float> mean(2);
  MeanFromSum(sum, 3, mean);
  EXPECT_EQ(mean, small);
}

TEST(ExactSumTest, LargestListKeepsItsSign) {
  const float most = std::nextafter(8.0f, 0.0f);
  const std::vector<float> values = {most, -most};
  std::vector<uint64_t> sum(2, 0);
  AddWeighted(values, kWeightLimit - 1, sum);
  std::vector<float> mean(2);
  MeanFromSum(sum, kWeightLimit - 1, mean);
  EXPECT_EQ(mean, values);
}

TEST(ExactSumTest, MeanIsTheStatedRounding) {
  Rng rng(3);
  for (int i = 0; i < 20000; ++i) {
    const auto sum = static_cast<int64_t>(rng.Next()) >> rng.Below(40);
    const uint64_t divisor = 1 + rng.Below(kWeightLimit);
    const std::vector<uint64_t> in = {static_cast<uint64_t>(sum)};
    std::vector<float> out(1);
    MeanFromSum(in, divisor, out);
    const double quotient = static_cast<double>(sum) / static_cast<double>(divisor);
    ASSERT_EQ(out[0], static_cast<float>(std::ldexp(quotient, -40)));
    const long double exact =
        std::ldexp(static_cast<long double>(sum) / static_cast<long double>(divisor), -40);
    ASSERT_NEAR(static_cast<double>(out[0] / exact), 1.0, 1e-7);
  }
}

TEST(ExactSumTest, SquaredNormIsExact) {
  Rng rng(4);
  const std::vector<float> v = RandomValues(rng, 500);
  SquaredSum expected = 0;
  for (float x : v) {
    const Wide g = NaiveGrid(x);
    expected += static_cast<SquaredSum>(g * g);
  }
  EXPECT_EQ(SquaredNorm(v), expected);
  EXPECT_EQ(SquaredNorm({}), SquaredSum{0});
  const std::vector<float> most(1000, -std::nextafter(8.0f, 0.0f));
  const auto g = static_cast<SquaredSum>(ToGrid(std::nextafter(8.0f, 0.0f)));
  EXPECT_EQ(SquaredNorm(most), 1000 * g * g);
}

TEST(ExactSumDeathTest, ValuesOutsideTheRangeAbort) {
  std::vector<uint64_t> sum(1, 0);
  EXPECT_DEATH(AddWeighted(std::vector<float>{8.0f}, 1, sum), "range");
  EXPECT_DEATH(AddWeighted(std::vector<float>{std::nanf("")}, 1, sum), "range");
  EXPECT_DEATH(AddWeighted(std::vector<float>{1.0f, 2.0f}, 1, sum), "sizes");
  std::vector<float> out(1);
  EXPECT_DEATH(MeanFromSum(sum, 0, out), "divisor");
}

}  // namespace
}  // namespace longhaul
