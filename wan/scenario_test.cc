#include "wan/scenario.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

namespace longhaul::wan {
namespace {

using testing::HasSubstr;

constexpr char kTwoNodes[] = "[[node]]\nname = \"a\"\n[[node]]\nname = \"b\"\n";

Scenario Parsed(const std::string& text) {
  auto scenario = ParseScenario(text, "s.toml");
  EXPECT_TRUE(scenario.ok()) << scenario.status();
  return scenario.ok() ? *scenario : Scenario{};
}

std::string Problem(const std::string& text) {
  auto scenario = ParseScenario(text, "s.toml");
  EXPECT_FALSE(scenario.ok());
  return std::string(scenario.status().message());
}

TEST(ScenarioTest, PresetsAndOwnValues) {
  const Scenario s = Parsed(R"(
seed = 7
time_limit_s = 12.5
[[node]]
name = "hub"
preset = "datacenter"
[[node]]
name = "home"
count = 3
preset = "home-dsl"
up_mbit = 12.5
loss_percent = 1
kernel = "stock"
step_ms = 40
)");
  EXPECT_EQ(s.seed, 7u);
  EXPECT_EQ(s.time_limit, Milliseconds(12'500));
  ASSERT_EQ(s.nodes.size(), 4u);
  EXPECT_EQ(s.nodes[3].name, "home3");
  EXPECT_EQ(s.nodes[1].kernel, HostKernel::kStock);
  EXPECT_EQ(s.nodes[0].kernel, HostKernel::kTuned);
  EXPECT_EQ(s.nodes[2].step_ms, 40u);
  const std::vector<HostShape> hosts = s.HostShapes();
  EXPECT_EQ(hosts[1].up.bits_per_s, 12'500'000u);
  EXPECT_EQ(hosts[1].down.bits_per_s, 50'000'000u);  // of the preset
  EXPECT_DOUBLE_EQ(hosts[1].up.loss, 0.01);
  EXPECT_EQ(hosts[1].up.delay, Milliseconds(15));
}

TEST(ScenarioTest, BottlenecksTakePatterns) {
  const Scenario s = Parsed(R"(
[[node]]
name = "eu"
count = 2
[[node]]
name = "us"
count = 2
[[bottleneck]]
name = "ocean"
nodes = ["eu*"]
rate_mbit = 200
rtt_ms = 80
)");
  ASSERT_EQ(s.bottlenecks.size(), 1u);
  EXPECT_EQ(s.bottlenecks[0].nodes, (std::vector<uint32_t>{0, 1}));
  EXPECT_EQ(s.BottleneckShapes()[0].link.bits_per_s, 200'000'000u);
  EXPECT_EQ(s.BottleneckShapes()[0].link.delay, Milliseconds(40));
}

TEST(ScenarioTest, EventsByTimeAndByState) {
  const Scenario s = Parsed(std::string(kTwoNodes) + R"(
[[event]]
action = "outage"
target = "b"
at_s = 3
for_s = 0.5
[[event]]
action = "kill"
target = "b"
at_round = 2
at_state = "closed"
restart_after_s = 1
[[event]]
action = "rate"
target = "a"
at_s = 1
up_mbit = 5
)");
  ASSERT_EQ(s.incidents.size(), 3u);
  EXPECT_EQ(s.incidents[0].trigger.at, Seconds(3));
  EXPECT_EQ(s.incidents[0].lasts, Milliseconds(500));
  EXPECT_EQ(s.incidents[1].trigger.round, 2u);
  EXPECT_EQ(s.incidents[1].trigger.state, RoundState::kClosed);
  EXPECT_EQ(s.incidents[2].up_mbit, 5);
  EXPECT_FALSE(s.incidents[2].lasts.has_value());
}

TEST(ScenarioTest, Assertions) {
  const Scenario s = Parsed(std::string(kTwoNodes) + R"(
[assert]
rounds = ">= 6"
final_loss = ["< 4.25", "> 0"]
)");
  ASSERT_EQ(s.assertions.size(), 3u);
  EXPECT_EQ(s.assertions[0].metric, "final_loss");
  EXPECT_TRUE(s.assertions[0].HoldsFor(4.2));
  EXPECT_FALSE(s.assertions[0].HoldsFor(4.25));
  EXPECT_FALSE(s.assertions[0].HoldsFor(std::nan("")));
  EXPECT_TRUE(s.assertions[2].HoldsFor(6));
  EXPECT_EQ(s.assertions[2].place, "s.toml:7");
}

TEST(ScenarioTest, RunConfigKeepsItsKeys) {
  const Scenario s = Parsed(std::string(kTwoNodes) + R"(
[run]
coordinator = "b"
[run.config]
run.rounds = 6
train.learning_rate = 0.5
data.train = "wheel"
)");
  EXPECT_EQ(s.coordinator, 1u);
  EXPECT_THAT(s.run_config,
              testing::UnorderedElementsAre(testing::Pair("run.rounds", "6"),
                                            testing::Pair("data.train", "wheel"),
                                            testing::Pair("train.learning_rate", "0.5")));
  EXPECT_TRUE(s.Configures("data.train"));
}

TEST(ScenarioTest, EveryMistakeIsNamedWithItsLine) {
  const std::string problem = Problem(R"(sed = 7
[[node]]
name = "a"
preset = "home-dls"
up_mbits = 3
[[node]]
name = "b"
loss_percent = 100
[[event]]
action = "kill"
target = "c"
at_s = 1
[run.config]
run.round = 3
network.listen = "1.2.3.4:5"
run.rounds = 0.5
[assert]
final_los = "< 3"
rounds = "more"
)");
  EXPECT_THAT(problem, HasSubstr("s.toml:1: there is no key \"sed\"; did you mean \"seed\"?"));
  EXPECT_THAT(problem, HasSubstr("s.toml:4: node.preset must be one of"));
  EXPECT_THAT(problem, HasSubstr("did you mean \"home-dsl\"?"));
  EXPECT_THAT(problem, HasSubstr("s.toml:5: there is no key \"node.up_mbits\""));
  EXPECT_THAT(problem, HasSubstr("s.toml:8: node.loss_percent must be a number from 0 to 99"));
  EXPECT_THAT(problem, HasSubstr("s.toml:9: an event needs a target; there is no \"c\""));
  EXPECT_THAT(problem, HasSubstr("s.toml:14: there is no key \"run.round\"; did you mean"));
  EXPECT_THAT(problem, HasSubstr("s.toml:16: run.rounds must be a whole number from"));
  EXPECT_THAT(problem, HasSubstr("s.toml:15: network.listen is set by the lab"));
  EXPECT_THAT(problem, HasSubstr("s.toml:18: there is no metric \"final_los\"; did you mean"));
  EXPECT_THAT(problem, HasSubstr("s.toml:19: rounds must be a comparison"));
}

TEST(ScenarioTest, RefusesWhatMakesNoNetwork) {
  EXPECT_THAT(Problem(""), HasSubstr("needs two nodes"));
  EXPECT_THAT(Problem("[[node]\n"), HasSubstr("s.toml:1: "));
  EXPECT_THAT(Problem("[[node]]\nname = \"a\"\n[[node]]\nname = \"a\"\n"),
              HasSubstr("a second node \"a\""));
  EXPECT_THAT(Problem("node = 3\n"), HasSubstr("must be tables: [[node]]"));
  EXPECT_THAT(Problem(std::string(kTwoNodes) + "[[event]]\naction = \"outage\"\ntarget = \"a\"\n"),
              HasSubstr("an event needs at_s, or at_round and at_state"));
  EXPECT_THAT(Problem(std::string(kTwoNodes) + "[[bottleneck]]\nname = \"x\"\nnodes = [\"eu*\"]\n"),
              HasSubstr("no node is named \"eu*\""));
}

TEST(ScenarioTest, ExamplesParse) {
  size_t count = 0;
  const std::string folder =
      std::string(std::getenv("LONGHAUL_SOURCE_DIR")) + "/examples/scenarios";
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".toml") continue;
    ++count;
    const auto scenario = LoadScenario(entry.path().string());
    EXPECT_TRUE(scenario.ok()) << scenario.status();
    EXPECT_FALSE(scenario.ok() && scenario->description.empty()) << entry.path();
  }
  EXPECT_GE(count, 12u);
}

}  // namespace
}  // namespace longhaul::wan
