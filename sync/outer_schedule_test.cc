#include "sync/outer_schedule.h"

#include <gtest/gtest.h>

namespace longhaul {
namespace {

TEST(OuterScheduleTest, ConstantUnlessAskedOtherwise) {
  for (uint64_t v : {uint64_t{0}, uint64_t{7}, UINT64_MAX - 1}) {
    EXPECT_EQ(OuterLearningRate({.lr = 0.7}, v), 0.7f);
  }
}

TEST(OuterScheduleTest, WarmsUpInEqualStepsAndDropsOnce) {
  const OuterSchedule s{.lr = 1.0, .warmup_rounds = 3, .drop_from = 10, .drop = 0.65};
  const float expected[] = {0.25f, 0.5f, 0.75f, 1, 1, 1, 1, 1, 1, 1, 0.65f, 0.65f};
  for (uint64_t v = 0; v < std::size(expected); ++v) {
    EXPECT_EQ(OuterLearningRate(s, v), expected[v]) << v;
  }
}

}  // namespace
}  // namespace longhaul
