#include "wan/run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "wan/run_report.h"

namespace longhaul::wan {
namespace {

using testing::HasSubstr;

TEST(RunTest, PercentilesAreRanks) {
  EXPECT_TRUE(std::isnan(Percentile({}, 50)));
  EXPECT_EQ(Percentile({3, 1, 2}, 50), 2);
  EXPECT_EQ(Percentile({3, 1, 2}, 99), 3);
  EXPECT_EQ(Percentile({3, 1, 2}, 0), 1);
  std::vector<double> many;
  for (int i = 1; i <= 100; ++i) many.push_back(i);
  EXPECT_EQ(Percentile(many, 90), 90);
}

TEST(RunTest, DecisionsBecomeStates) {
  const auto event = [](const std::string& text) {
    return RoundEventIn("15:24:50 coordinator debug " + text, 7);
  };
  EXPECT_EQ(event("round 2 opened at version 1, members 2, quorum 2")->state, RoundState::kOpened);
  EXPECT_EQ(event("round 12 closed, attempt 1: 1/2 2/2")->round, 12u);
  EXPECT_EQ(event("round 12 closed, attempt 1: 1/2 2/2")->state, RoundState::kClosed);
  EXPECT_EQ(event("round 3 committed: version 3")->state, RoundState::kCommitted);
  EXPECT_EQ(event("contribution 2/2 held")->round, 7u);
  EXPECT_EQ(event("contribution 2/2 accepted, weight 20480")->state, RoundState::kOffered);
  EXPECT_FALSE(event("session 1 ready").has_value());
  EXPECT_FALSE(RoundEventIn("15:24:50 coordinator info round 3 committed: x", 1).has_value());
}

RunOutcome Failed() {
  RunOutcome out;
  out.finished = true;
  out.elapsed_s = 3;
  out.metrics["final_loss"] = 5;
  Assertion wanted{"final_loss", Comparison::kLess, 4, "final_loss < 4", "a \"b\".toml:3"};
  out.checks.push_back({wanted, 5, false});
  wanted.metric = "rounds";
  out.checks.push_back({wanted, std::nan(""), false});
  return out;
}

TEST(RunTest, JunitIsEscapedAndCountsFailures) {
  Scenario scenario;
  scenario.file = "dir/a&b.toml";
  const std::string xml = OutcomeJunit(scenario, Tier::kTun, Failed());
  EXPECT_THAT(xml, HasSubstr("name=\"a&amp;b (tun)\" tests=\"4\" failures=\"2\""));
  EXPECT_THAT(xml, HasSubstr("final_loss &lt; 4"));
  EXPECT_THAT(xml, HasSubstr("a &quot;b&quot;.toml:3: final_loss is 5"));
}

TEST(RunTest, JsonTellsWhatWasNotMeasured) {
  Scenario scenario;
  scenario.file = "s.toml";
  const std::string json = OutcomeJson(scenario, Tier::kRelay, Failed());
  EXPECT_THAT(json, HasSubstr("\"tier\":\"relay\",\"passed\":false,\"valid\":true"));
  EXPECT_THAT(json, HasSubstr("\"value\":null,\"holds\":false"));
}

TEST(RunTest, SkippedAssertionsDoNotFail) {
  RunOutcome outcome = Failed();
  EXPECT_FALSE(outcome.passed());
  for (RunOutcome::Check& check : outcome.checks) check.skipped = true;
  EXPECT_TRUE(outcome.passed());
  EXPECT_THAT(OutcomeJunit(Scenario{}, Tier::kRelay, outcome), HasSubstr("<skipped/>"));
}

TEST(RunTest, LateEmulatorMakesTheRunInvalid) {
  RunOutcome outcome;
  outcome.finished = true;
  EXPECT_TRUE(outcome.passed() && outcome.valid());
  outcome.network.worst_late = Milliseconds(21);
  EXPECT_TRUE(outcome.passed());
  EXPECT_FALSE(outcome.valid());
  Scenario scenario;
  EXPECT_THAT(FormatOutcome(scenario, Tier::kTun, outcome), HasSubstr("INVALID"));
}

}  // namespace
}  // namespace longhaul::wan
