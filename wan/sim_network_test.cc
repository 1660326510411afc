#include "wan/sim_network.h"

#include <gtest/gtest.h>

namespace longhaul::wan {
namespace {

Scenario TwoNodes(double mbit, int64_t trip_ms) {
  Scenario out;
  for (const char* name : {"a", "b"}) {
    Node node;
    node.name = name;
    node.access.up_mbit = node.access.down_mbit = mbit;
    node.access.round_trip = Milliseconds(trip_ms) / 2;
    out.nodes.push_back(node);
  }
  return out;
}

// Seconds until `bytes` are at the other end; the clock goes on from where it stands.
double Transfer(sim::EventQueue& queue, SimNetwork& network, uint64_t bytes, bool bulk = true) {
  const Timestamp begin = queue.now();
  std::optional<Timestamp> end;
  network.Send(0, 1, bulk, bytes, [&] { end = queue.now(); });
  queue.RunUntil(begin + Seconds(1000), [&] { return end.has_value(); });
  return end ? std::chrono::duration<double>(*end - begin).count() : -1;
}

TEST(SimNetworkTest, LongTransfersTakeTheRateAndHalfATrip) {
  sim::EventQueue queue;
  const Scenario scenario = TwoNodes(100, 100);
  SimNetwork network(queue, scenario);
  Transfer(queue, network, 10'000'000);  // opens the window
  EXPECT_NEAR(Transfer(queue, network, 50'000'000), 50e6 * 8 / 100e6 * 1500 / 1448 + 0.05, 0.15);
}

TEST(SimNetworkTest, TheFirstTransferStartsSlowly) {
  sim::EventQueue queue;
  const Scenario scenario = TwoNodes(1000, 100);
  SimNetwork network(queue, scenario);
  EXPECT_NEAR(Transfer(queue, network, 1000), 0.05, 0.001);
  const double first = Transfer(queue, network, 1'000'000);  // six doublings of ten segments
  EXPECT_GT(first, 0.4);
  EXPECT_LT(Transfer(queue, network, 1'000'000), 0.12);
}

TEST(SimNetworkTest, StockMachinesStartSlowlyAfterAPause) {
  sim::EventQueue queue;
  Scenario scenario = TwoNodes(1000, 100);
  scenario.nodes[0].kernel = HostKernel::kStock;
  SimNetwork network(queue, scenario);
  Transfer(queue, network, 10'000'000);
  const double warm = Transfer(queue, network, 1'000'000);
  queue.RunUntil(queue.now() + Seconds(5), [] { return false; });
  EXPECT_GT(Transfer(queue, network, 1'000'000), 3 * warm);
}

TEST(SimNetworkTest, ControlDoesNotWaitBehindBulk) {
  sim::EventQueue queue;
  const Scenario scenario = TwoNodes(10, 40);
  SimNetwork network(queue, scenario);
  network.Send(0, 1, /*bulk=*/true, 10'000'000, [] {});
  queue.RunUntil(queue.now() + Seconds(2), [] { return false; });
  EXPECT_LT(Transfer(queue, network, 200, /*bulk=*/false), 0.1);
}

TEST(SimNetworkTest, OutagesHoldWhatWasNotSent) {
  sim::EventQueue queue;
  Scenario scenario = TwoNodes(10, 40);
  Incident outage;
  outage.action = Action::kOutage;
  outage.target = 1;
  scenario.incidents.push_back(outage);
  SimNetwork network(queue, scenario);
  network.Apply({0, true});
  std::optional<Timestamp> end;
  network.Send(0, 1, true, 1000, [&] { end = queue.now(); });
  queue.RunUntil(Timestamp{Seconds(3)}, [] { return false; });
  EXPECT_FALSE(end.has_value());
  network.Apply({0, false});
  queue.RunUntil(Timestamp{Seconds(4)}, [] { return false; });
  EXPECT_TRUE(end.has_value());
}

TEST(SimNetworkTest, WhatAKilledProcessWasSentIsLost) {
  sim::EventQueue queue;
  const Scenario scenario = TwoNodes(10, 40);
  SimNetwork network(queue, scenario);
  bool arrived = false;
  network.Send(0, 1, true, 100'000, [&] { arrived = true; });
  network.Forget(1);
  queue.RunUntil(Timestamp{Seconds(5)}, [] { return false; });
  EXPECT_FALSE(arrived);
}

TEST(SimNetworkTest, LossesCostTripsAndCubicCostsTheRate) {
  Scenario scenario = TwoNodes(100, 100);
  for (Node& node : scenario.nodes) node.access.loss_percent = 0.5;
  double seconds[2];
  for (const bool stock : {false, true}) {
    sim::EventQueue queue;
    if (stock) scenario.nodes[0].kernel = HostKernel::kStock;
    SimNetwork network(queue, scenario);
    Transfer(queue, network, 1'000'000);
    seconds[stock] = Transfer(queue, network, 2'000'000);
  }
  EXPECT_GT(seconds[1], 5 * seconds[0]);
}

}  // namespace
}  // namespace longhaul::wan
