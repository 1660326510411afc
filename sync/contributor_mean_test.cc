#include "sync/contributor_mean.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "common/rng.h"
#include "sync/exact_sum.h"

namespace longhaul {
namespace {

constexpr size_t kElements = 97;

struct Part {
  std::vector<float> values;
  uint32_t weight;
};

// Sparse values on a coarse grid, so that float64 sums are exact.
std::vector<Part> RandomParts(Rng& rng, size_t count) {
  std::vector<Part> parts(count);
  for (Part& p : parts) {
    p.weight = static_cast<uint32_t>(1 + rng.Below(1000));
    for (size_t i = 0; i < kElements; ++i) {
      const auto level = static_cast<int64_t>(rng.Below(2049)) - 1024;
      p.values.push_back(rng.Chance(1, 5) ? static_cast<float>(level) / 256 : 0.0f);
    }
  }
  return parts;
}

struct Sums {
  std::vector<uint64_t> sum = std::vector<uint64_t>(kElements);
  std::vector<uint32_t> counts = std::vector<uint32_t>(kElements);

  void Add(const Part& p) {
    AddWeighted(p.values, p.weight, sum);
    CountContributors(p.values, p.weight, counts);
  }
  void Subtract(const Part& p) {
    SubtractWeighted(p.values, p.weight, sum);
    UncountContributors(p.values, p.weight, counts);
  }
  std::vector<float> Mean() const {
    std::vector<float> out(kElements, 7.0f);
    ContributorMean(sum, counts, out);
    return out;
  }
};

TEST(ContributorMeanTest, IsTheMeanOfThoseThatAreNotZero) {
  Rng rng(3);
  for (int round = 0; round < 20; ++round) {
    const std::vector<Part> parts = RandomParts(rng, 1 + rng.Below(9));
    Sums sums;
    for (const Part& p : parts) sums.Add(p);
    const std::vector<float> mean = sums.Mean();
    for (size_t i = 0; i < kElements; ++i) {
      double total = 0, weight = 0;
      for (const Part& p : parts) {
        if (p.values[i] == 0) continue;
        total += double{p.values[i]} * p.weight;
        weight += p.weight;
      }
      const double expected = weight == 0 ? 0 : total / weight;
      EXPECT_NEAR(mean[i], expected, 1e-6 * std::abs(expected)) << i;
    }
  }
}

TEST(ContributorMeanTest, OrderDoesNotMatterAndAPartCanBeTakenBack) {
  Rng rng(4);
  const std::vector<Part> parts = RandomParts(rng, 5);
  Sums forward, backward;
  for (size_t i = 0; i < 4; ++i) forward.Add(parts[i]);
  for (size_t i = 5; i-- > 0;) backward.Add(parts[i]);
  backward.Subtract(parts[4]);
  EXPECT_EQ(forward.Mean(), backward.Mean());
  EXPECT_EQ(forward.counts, backward.counts);
}

}  // namespace
}  // namespace longhaul
