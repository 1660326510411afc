#include "wan/sim_run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "wan/run_report.h"

namespace longhaul::wan {
namespace {

constexpr char kThreeHomes[] = R"(
[[node]]
name = "hub"
preset = "datacenter"
[[node]]
name = "home"
count = 3
preset = "home-dsl"
[run]
coordinator = "hub"
[run.config]
run.rounds = 4
sync.inner_steps = 5
train.toy_step_ms = 20
)";

Scenario Parsed(const std::string& more) {
  auto scenario = ParseScenario(kThreeHomes + more, "homes.toml");
  EXPECT_TRUE(scenario.ok()) << scenario.status();
  return *scenario;
}

RunOutcome Simulated(const Scenario& scenario) {
  auto outcome = SimulateScenario(scenario, {});
  EXPECT_TRUE(outcome.ok()) << outcome.status();
  return *outcome;
}

TEST(SimRunTest, SameFileSameBytes) {
  const Scenario scenario = Parsed("[assert]\nrounds = \">= 4\"\nhash_mismatches = \"== 0\"\n");
  const RunOutcome first = Simulated(scenario);
  EXPECT_TRUE(first.passed()) << first.problem;
  EXPECT_GT(first.metrics.at("committed_tokens"), 0);
  EXPECT_EQ(OutcomeJson(scenario, Tier::kSim, first),
            OutcomeJson(scenario, Tier::kSim, Simulated(scenario)));
  Scenario other = scenario;
  other.seed = 2;
  EXPECT_NE(OutcomeJson(scenario, Tier::kSim, first),
            OutcomeJson(scenario, Tier::kSim, Simulated(other)));
}

TEST(SimRunTest, SlowerLinesMakeLongerRounds) {
  const Scenario fast = Parsed("");
  Scenario slow = fast;
  for (size_t i = 1; i < slow.nodes.size(); ++i) slow.nodes[i].access.up_mbit = 0.5;
  EXPECT_GT(Simulated(slow).metrics.at("round_seconds_p50"),
            2 * Simulated(fast).metrics.at("round_seconds_p50"));
}

TEST(SimRunTest, KillsAreSurvived) {
  const Scenario scenario = Parsed(R"(
[[event]]
action = "kill"
target = "hub"
at_round = 2
at_state = "closed"
restart_after_s = 1
[[event]]
action = "kill"
target = "home2"
at_round = 3
at_state = "offered"
restart_after_s = 2
[assert]
rounds = ">= 4"
killed = "== 2"
hash_mismatches = "== 0"
final_loss = "< 100"
)");
  const RunOutcome outcome = Simulated(scenario);
  EXPECT_TRUE(outcome.passed()) << outcome.problem;
  EXPECT_TRUE(outcome.checks.back().skipped || outcome.checks[0].skipped ||
              outcome.checks[1].skipped || outcome.checks[2].skipped);
}

TEST(SimRunTest, ARunThatCannotEndInTimeFails) {
  Scenario scenario = Parsed("[assert]\nrounds = \">= 4\"\n");
  scenario.time_limit = Milliseconds(1500);
  const RunOutcome outcome = Simulated(scenario);
  EXPECT_FALSE(outcome.passed());
  EXPECT_THAT(outcome.problem, testing::HasSubstr("time_limit_s"));
}

TEST(SimRunTest, RefusesWhatIsNoConfiguration) {
  Scenario scenario = Parsed("");
  scenario.run_config.push_back({"sync.inner_steps", "none"});
  EXPECT_FALSE(SimulateScenario(scenario, {}).ok());
}

}  // namespace
}  // namespace longhaul::wan
