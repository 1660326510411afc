#include "sync/schedule.h"

#include <gtest/gtest.h>

#include <vector>

namespace longhaul {
namespace {

// Step by step: a countdown per fragment to its next send, and a list of what is on its way.
void FollowsACountdown(const FragmentSchedule& s) {
  std::vector<uint64_t> left(s.fragments), arrives(s.fragments, UINT64_MAX);
  for (uint32_t p = 0; p < s.fragments; ++p) {
    left[p] = p == 0 ? s.inner_steps : uint64_t{p} * s.inner_steps / s.fragments;
  }
  for (uint64_t t = 1; t <= 5 * s.inner_steps; ++t) {
    for (uint32_t p = 0; p < s.fragments; ++p) {
      const bool sends = --left[p] == 0;
      if (sends) {
        left[p] = s.inner_steps;
        EXPECT_TRUE(arrives[p] == UINT64_MAX) << "sent again before it was applied";
        arrives[p] = t + s.overlap_steps;
      }
      EXPECT_EQ(SendsAfter(s, p, t), sends) << t << " " << p;
      EXPECT_EQ(AppliesAfter(s, p, t), arrives[p] == t) << t << " " << p;
      if (arrives[p] == t) arrives[p] = UINT64_MAX;
    }
  }
}

TEST(ScheduleTest, FollowsACountdown) {
  for (uint32_t h = 1; h <= 12; ++h) {
    for (uint32_t p = 1; p <= h; ++p) {
      for (uint32_t tau = 0; tau < h; ++tau) FollowsACountdown({h, p, tau});
    }
  }
}

TEST(ScheduleTest, FragmentsTakeTurns) {
  const FragmentSchedule s{30, 4, 3};
  EXPECT_EQ(FirstSend(s, 0), 30u);
  EXPECT_EQ(FirstSend(s, 1), 7u);
  EXPECT_EQ(FirstSend(s, 2), 15u);
  EXPECT_EQ(FirstSend(s, 3), 22u);
  for (uint64_t t = 1; t < 100; ++t) {
    int sent = 0;
    for (uint32_t p = 0; p < 4; ++p) sent += SendsAfter(s, p, t);
    EXPECT_LE(sent, 1) << t;
  }
}

TEST(ScheduleTest, SaysWhatCannotBeFollowed) {
  EXPECT_FALSE(ScheduleProblem({1, 1, 0}));
  EXPECT_FALSE(ScheduleProblem({10, 10, 9}));
  EXPECT_NE(ScheduleProblem({0, 1, 0})->find("inner_steps"), std::string::npos);
  EXPECT_NE(ScheduleProblem({5, 0, 0})->find("fragments"), std::string::npos);
  EXPECT_NE(ScheduleProblem({5, 6, 0})->find("fragments"), std::string::npos);
  EXPECT_NE(ScheduleProblem({5, 2, 5})->find("overlap_steps"), std::string::npos);
  EXPECT_DEATH(FirstSend({5, 2, 0}, 2), "not a fragment");
}

TEST(ScheduleTest, MixingNeedsAQuorumOfAllAndNoErrorFeedback) {
  EXPECT_TRUE(MixingAllowed(-1, 1));
  EXPECT_FALSE(MixingAllowed(0, 1));
  EXPECT_FALSE(MixingAllowed(0.9, 1));
  EXPECT_FALSE(MixingAllowed(-1, 0.75));
  std::vector<float> local = {1, -2, 3};
  Mix(0.25f, std::vector<float>{5, 2, -1}, local);
  EXPECT_EQ(local, (std::vector<float>{4, 1, 0}));
}

}  // namespace
}  // namespace longhaul
