#include "compression/test_values.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "common/rng.h"

namespace longhaul {

// Standard normal by Box-Muller, in double.
double Normal(uint64_t seed, uint64_t stream, uint64_t tensor, uint64_t i) {
  const double u1 = static_cast<double>((Draw(seed, {stream, tensor, 2 * i}) >> 11) + 1) * 0x1p-53;
  const double u2 = static_cast<double>(Draw(seed, {stream, tensor, 2 * i + 1}) >> 11) * 0x1p-53;
  return std::sqrt(-2 * std::log(u1)) * std::cos(2 * std::numbers::pi * u2);
}

std::vector<float> Normals(uint64_t tensor, size_t n, double scale) {
  std::vector<float> v(n);
  for (size_t i = 0; i < n; ++i) v[i] = static_cast<float>(scale * Normal(1, 9, tensor, i));
  return v;
}

// Student's t with 3 degrees of freedom: heavy tails.
std::vector<float> HeavyTailed(uint64_t tensor, size_t n, double scale) {
  std::vector<float> v(n);
  for (size_t i = 0; i < n; ++i) {
    double sum = 0;
    for (uint64_t j = 1; j <= 3; ++j) sum += std::pow(Normal(2, j, tensor, i), 2);
    v[i] = static_cast<float>(scale * Normal(2, 0, tensor, i) / std::sqrt(sum / 3));
  }
  return v;
}

namespace {

TEST(TestValues, HaveTheTailsTheyShould) {
  for (const bool heavy : {false, true}) {
    const std::vector<float> values = heavy ? HeavyTailed(1, 100000, 2.0) : Normals(1, 100000, 2.0);
    double sum = 0, beyond = 0;
    for (float v : values) {
      sum += v;
      beyond += std::fabs(v) > 6.0f ? 1e-5 : 0;
    }
    EXPECT_NEAR(sum / 1e5, 0, 0.05);
    // Beyond three times the scale: 0.27 % of a normal distribution, 5.77 % of Student's t3.
    EXPECT_NEAR(beyond, heavy ? 0.0577 : 0.0027, 0.002);
  }
}

}  // namespace
}  // namespace longhaul
