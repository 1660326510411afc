#include "cli/verdict.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/plan_run.h"

namespace longhaul {
namespace {

using ::testing::HasSubstr;

// 800 kbit/s up, 8 Mbit/s down, 100 ms.
const LinkFacts kLink{100, "bbr", 1e5, 1e6, "", ""};

RunConfig Config() {
  RunConfig config;
  config.data.train = "wheel";
  config.sync.codec = config.sync.codec_down = "float32";
  config.sync.inner_steps = 20;
  return config;
}

// By hand: 20 steps, the bytes over the rates, and three round trips.
TEST(VerdictTest, EqualsArithmeticByHand) {
  const double step_s = 0.5;
  const auto v = JudgeLink(Config(), kLink, step_s);
  ASSERT_TRUE(v.ok()) << v.status();
  EXPECT_GT(v->up_bytes, 1e6);  // llama-1m, four bytes each
  const double exchange = v->up_bytes / 1e5 + v->down_bytes / 1e6 + 0.3;
  EXPECT_NEAR(v->exchange_s, exchange, 1e-6 * exchange);
  EXPECT_NEAR(*v->round_s, exchange + 10, 1e-6 * exchange);
  EXPECT_NEAR(*v->computing, 10 / (exchange + 10), 1e-6);
  EXPECT_NEAR(v->wanted_step_s, 9 * exchange / 20, 1e-5);
  // With such a step it is as promised.
  const auto wanted = JudgeLink(Config(), kLink, v->wanted_step_s);
  ASSERT_TRUE(wanted.ok());
  EXPECT_NEAR(*wanted->computing, kWantedComputing, 1e-6);
}

TEST(VerdictTest, OverlapHidesTheExchange) {
  RunConfig config = Config();
  config.sync.overlap_steps = 5;
  const auto slow = JudgeLink(config, kLink, 0);
  ASSERT_TRUE(slow.ok()) << slow.status();
  EXPECT_TRUE(slow->overlap);
  EXPECT_FALSE(slow->computing.has_value());
  const auto blocking = JudgeLink(Config(), kLink, 0);
  ASSERT_TRUE(blocking.ok());
  EXPECT_LT(slow->wanted_step_s, blocking->wanted_step_s / 5);
  const auto hidden = JudgeLink(config, kLink, 10 * slow->wanted_step_s);
  ASSERT_TRUE(hidden.ok());
  EXPECT_GT(*hidden->computing, 0.95);
}

TEST(VerdictTest, FewerBitsAreLessTime) {
  RunConfig config = Config();
  const auto all = JudgeLink(config, kLink, 1);
  config.sync.codec = config.sync.codec_down = "int4";
  const auto few = JudgeLink(config, kLink, 1);
  ASSERT_TRUE(all.ok() && few.ok());
  EXPECT_LT(few->exchange_s, all->exchange_s / 4);
  EXPECT_GT(*few->computing, *all->computing);
}

TEST(VerdictTest, RefusesWhatCannotBeJudged) {
  EXPECT_FALSE(JudgeLink(Config(), LinkFacts{}, 1).ok());
  RunConfig config = Config();
  config.sync.codec = "morse";
  EXPECT_FALSE(JudgeLink(config, kLink, 1).ok());
}

TEST(VerdictTest, DescriptionHasALevel) {
  RunVerdict v{.up_bytes = 2e6, .down_bytes = 1e6, .exchange_s = 3, .inner_steps = 20};
  v.wanted_step_s = 1.35;
  EXPECT_EQ(DescribeVerdict(v, 0).level, CheckLevel::kOk);
  EXPECT_THAT(DescribeVerdict(v, 0).detail, HasSubstr("20 steps of at least 1.35 s"));
  EXPECT_EQ(DescribeVerdict(v, 50).level, CheckLevel::kFail);  // asked for, not known
  v.round_s = 10;
  v.computing = 0.7;
  EXPECT_EQ(DescribeVerdict(v, 50).level, CheckLevel::kOk);
  EXPECT_THAT(DescribeVerdict(v, 50).detail, HasSubstr("70.0 % of the time, rounds of 10 s"));
  EXPECT_EQ(DescribeVerdict(v, 71).level, CheckLevel::kFail);
  EXPECT_THAT(DescribeVerdict(v, 71).next, HasSubstr("inner_steps"));
  v.computing = 0.4;
  EXPECT_EQ(DescribeVerdict(v, 0).level, CheckLevel::kWarn);
}

}  // namespace
}  // namespace longhaul
