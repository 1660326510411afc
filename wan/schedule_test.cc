#include "wan/schedule.h"

#include <gtest/gtest.h>

namespace longhaul::wan {
namespace {

Scenario TwoNodes() {
  Scenario s;
  s.nodes.resize(2);
  s.nodes[0].name = "a";
  s.nodes[1].name = "b";
  s.nodes[1].access.up_mbit = 100;
  s.nodes[1].access.down_mbit = 200;
  return s;
}

Incident At(Duration at, Action action, std::optional<Duration> lasts) {
  Incident out;
  out.trigger.at = at;
  out.action = action;
  out.target = 1;
  out.lasts = lasts;
  return out;
}

TEST(ScheduleTest, BeginsAndEndsInOrder) {
  Schedule schedule(
      {At(Seconds(5), Action::kOutage, Seconds(10)), At(Seconds(6), Action::kKill, std::nullopt)});
  EXPECT_EQ(schedule.Next(), Seconds(5));
  EXPECT_TRUE(schedule.Take(Seconds(4)).empty());
  const auto begun = schedule.Take(Seconds(7));
  ASSERT_EQ(begun.size(), 2u);
  EXPECT_EQ(begun[0].incident, 0u);
  EXPECT_TRUE(begun[0].begins);
  EXPECT_EQ(begun[1].incident, 1u);
  const auto ended = schedule.Take(Seconds(15));
  ASSERT_EQ(ended.size(), 1u);
  EXPECT_FALSE(ended[0].begins);
  EXPECT_FALSE(schedule.Next().has_value());
}

TEST(ScheduleTest, StatesTriggerOnce) {
  Incident kill;
  kill.action = Action::kKill;
  kill.trigger.round = 2;
  kill.trigger.state = RoundState::kClosed;
  kill.lasts = Seconds(1);
  Schedule schedule({kill});
  EXPECT_FALSE(schedule.Next().has_value());
  schedule.OnState(Seconds(1), 2, RoundState::kOpened);
  schedule.OnState(Seconds(2), 1, RoundState::kClosed);
  EXPECT_TRUE(schedule.Take(Seconds(2)).empty());
  schedule.OnState(Seconds(3), 2, RoundState::kClosed);
  schedule.OnState(Seconds(3), 2, RoundState::kClosed);
  EXPECT_EQ(schedule.Take(Seconds(3)).size(), 1u);
  EXPECT_EQ(schedule.Take(Seconds(4)).size(), 1u);
  EXPECT_TRUE(schedule.Take(Seconds(99)).empty());
}

TEST(ScheduleTest, LinksGoDownAndComeBack) {
  Scenario scenario = TwoNodes();
  scenario.incidents = {At(Seconds(1), Action::kOutage, Seconds(1)),
                        At(Seconds(1), Action::kRate, Seconds(1))};
  scenario.incidents[1].up_mbit = 5;
  Network network(scenario.HostShapes(), {}, 1);
  ApplyToNetwork(scenario, {0, true}, network);
  EXPECT_TRUE(network.up(1).down());
  EXPECT_TRUE(network.down(1).down());
  EXPECT_FALSE(network.up(0).down());
  ApplyToNetwork(scenario, {0, false}, network);
  EXPECT_FALSE(network.up(1).down());
  ApplyToNetwork(scenario, {1, true}, network);
  EXPECT_EQ(network.up(1).shape().bits_per_s, 5'000'000u);
  EXPECT_EQ(network.down(1).shape().bits_per_s, 200'000'000u);  // not mentioned
  ApplyToNetwork(scenario, {1, false}, network);
  EXPECT_EQ(network.up(1).shape().bits_per_s, 100'000'000u);
}

}  // namespace
}  // namespace longhaul::wan
