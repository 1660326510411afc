#include "pcn/rules/digits.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace longhaul::pcn {
namespace {

TEST(GeneratedDigits, AreAFunctionOfSeedAndNumber) {
  const ImageSet few = GeneratedDigits(20, 1), many = GeneratedDigits(100, 1);
  ASSERT_EQ(few.size(), 20);
  EXPECT_TRUE(std::equal(few.values.begin(), few.values.end(), many.values.begin()));
  EXPECT_NE(GeneratedDigits(20, 2).values, few.values);
  EXPECT_EQ(std::set<int64_t>(many.labels.begin(), many.labels.end()).size(), 10u);
  const auto [low, high] = std::minmax_element(many.values.begin(), many.values.end());
  EXPECT_GE(*low, -1);
  EXPECT_LE(*high, 1);
  EXPECT_GT(*high, 0.9f);
}

// The nearest of many others usually shows the same digit: there is something to learn.
TEST(GeneratedDigits, NeighboursShareALabel) {
  const ImageSet set = GeneratedDigits(600, 3);
  int right = 0;
  for (int64_t i = 0; i < 100; ++i) {
    double best = 1e30;
    int64_t label = -1;
    for (int64_t j = 100; j < 600; ++j) {
      double distance = 0;
      for (int64_t p = 0; p < set.pixels; ++p) {
        const double d = set.values[i * set.pixels + p] - set.values[j * set.pixels + p];
        distance += d * d;
      }
      if (distance < best) {
        best = distance;
        label = set.labels[j];
      }
    }
    right += label == set.labels[i] ? 1 : 0;
  }
  EXPECT_GT(right, 50);
  EXPECT_LT(right, 100);  // and it is not trivial
}

}  // namespace
}  // namespace longhaul::pcn
