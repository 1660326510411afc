#include "sync/outer_step.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "common/rng.h"

namespace longhaul {
namespace {

// Numbers of an independent implementation.
TEST(OuterStepTest, Golden) {
  std::vector<float> theta = {1.0f, -2.0f, 0.5f}, b(3, 0.0f);
  const std::vector<std::vector<float>> deltas = {
      {0.1f, 0.2f, -0.3f}, {0.3f, -0.1f, 0.0f}, {-0.2f, 0.4f, 0.1f}};
  for (const std::vector<float>& delta : deltas) NesterovStep(delta, 0.7f, 0.6f, theta, b);
  const double want_theta[] = {0.6600800156593323, -2.6154398918151855, 0.8449599742889404};
  const double want_b[] = {0.016000017523765564, 0.41200000047683716, -0.008000008761882782};
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_NEAR(theta[i], want_theta[i], 2e-7);
    EXPECT_NEAR(b[i], want_b[i], 2e-8);
  }
}

// Each float32 operation rounded once: a double holds every product of two floats exactly.
TEST(OuterStepTest, EqualsTheNaiveTwinBitForBitPiecewiseAndOutOfPlace) {
  Rng rng(5);
  constexpr size_t kElements = 1001;
  auto random = [&] {
    std::vector<float> v(kElements);
    for (float& x : v) {
      x = static_cast<float>(static_cast<double>(static_cast<int64_t>(rng.Next())) * 0x1p-62);
    }
    return v;
  };
  const std::vector<float> delta = random(), theta = random(), b = random();
  for (float momentum : {0.0f, 0.6f, 0.9f}) {
    const float lr = 0.7f;
    std::vector<float> in_place_theta = theta, in_place_b = b;
    const size_t half = 400;
    for (auto [from, n] : {std::pair<size_t, size_t>{0, half}, {half, kElements - half}}) {
      NesterovStep(std::span(delta).subspan(from, n), lr, momentum,
                   std::span(in_place_theta).subspan(from, n),
                   std::span(in_place_b).subspan(from, n));
    }
    std::vector<float> new_theta(kElements), new_b(kElements);
    NesterovStepTo(delta, lr, momentum, theta, b, new_theta, new_b);
    EXPECT_EQ(new_theta, in_place_theta);
    EXPECT_EQ(new_b, in_place_b);
    for (size_t i = 0; i < kElements; ++i) {
      auto product = [](float x, float y) {
        return static_cast<float>(static_cast<double>(x) * static_cast<double>(y));
      };
      volatile float want_b = product(momentum, b[i]) + delta[i];
      volatile float look_ahead = delta[i] + product(momentum, want_b);
      volatile float want = theta[i] - product(lr, look_ahead);
      ASSERT_EQ(new_b[i], want_b);
      ASSERT_EQ(new_theta[i], want);
    }
  }
}

TEST(OuterStepTest, WithoutMomentumItIsPlainDescent) {
  std::vector<float> theta = {1.0f}, b = {5.0f};
  NesterovStep(std::vector<float>{0.25f}, 1.0f, 0.0f, theta, b);
  EXPECT_EQ(theta[0], 0.75f);
  EXPECT_EQ(b[0], 0.25f);
}

}  // namespace
}  // namespace longhaul
