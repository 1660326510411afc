#include "wan/emulate/network.h"

#include <gtest/gtest.h>

#include <cmath>

namespace longhaul::wan {
namespace {

constexpr uint32_t kBytes = 1250;  // a millisecond at 10 Mbit/s

LinkShape Shape(uint64_t mbit, Duration delay) {
  LinkShape shape;
  shape.bits_per_s = mbit * 1'000'000;
  shape.delay = delay;
  return shape;
}

std::vector<HostShape> Hosts(size_t count, const LinkShape& link) {
  std::vector<HostShape> hosts(count);
  for (HostShape& host : hosts) host.up = host.down = link;
  return hosts;
}

// One segment, without content.
Parcel Small(uint32_t from, uint32_t to, uint32_t bytes = kBytes) {
  Parcel parcel;
  parcel.from = from;
  parcel.to = to;
  parcel.wire_bytes = parcel.segment_bytes = bytes;
  parcel.bytes.assign(40, 0);
  return parcel;
}

// Segments that stand in one packet; cannot be sliced, so only for links without losses.
Parcel Large(uint32_t from, uint32_t to, uint32_t segments) {
  Parcel parcel = Small(from, to);
  parcel.segments = segments;
  parcel.wire_bytes = segments * kBytes;
  return parcel;
}

constexpr Duration kEver = Seconds(1000);

TEST(NetworkTest, DelayAndRateOfBothLinks) {
  Network network(Hosts(2, Shape(10, Milliseconds(20))), {}, 1);
  network.Send(Seconds(1), Small(0, 1));
  EXPECT_FALSE(network.Receive(Seconds(1) + Milliseconds(41)).has_value());
  const auto delivery = network.Receive(Seconds(1) + Milliseconds(42));
  ASSERT_TRUE(delivery.has_value());
  EXPECT_EQ(delivery->due, Seconds(1) + Milliseconds(42));  // 1 + 20 + 1 + 20
  EXPECT_FALSE(network.NextDue().has_value());
}

// A packet of many segments takes as long as the segments one after the other: the second link
// begins before the first one ends.
TEST(NetworkTest, SegmentsFlowThrough) {
  Network whole(Hosts(2, Shape(10, Milliseconds(20))), {}, 1);
  whole.Send(Duration(0), Large(0, 1, 30));
  Network single(Hosts(2, Shape(10, Milliseconds(20))), {}, 1);
  for (int i = 0; i < 30; ++i) single.Send(Duration(0), Small(0, 1));
  Duration last{0};
  while (auto delivery = single.Receive(kEver)) last = delivery->due;
  EXPECT_EQ(whole.Receive(kEver)->due, last);
  EXPECT_EQ(last, Milliseconds(30 + 20 + 1 + 20));
}

// From a fast link into a slow one the slow one decides, from a slow into a fast one too.
TEST(NetworkTest, SlowestLinkDecides) {
  for (bool slow_first : {true, false}) {
    std::vector<HostShape> hosts = Hosts(2, Shape(100, Milliseconds(0)));
    (slow_first ? hosts[0].up : hosts[1].down).bits_per_s = 10'000'000;
    Network network(hosts, {}, 1);
    network.Send(Duration(0), Large(0, 1, 30));
    const Duration expected = Milliseconds(30) + Duration(100'000);
    EXPECT_EQ(network.Receive(kEver)->due, expected);
  }
}

// While a long packet trickles in over a slow link, a fast link in common serves others.
TEST(NetworkTest, SlowSenderDoesNotBlockTheSharedLink) {
  std::vector<HostShape> hosts = Hosts(3, Shape(100, Milliseconds(0)));
  hosts[0].up.bits_per_s = 10'000'000;
  Network network(hosts, {}, 1);
  network.Send(Duration(0), Large(0, 2, 30));
  network.Send(Milliseconds(1), Small(1, 2));
  EXPECT_EQ(network.Receive(kEver)->due, Milliseconds(1) + Duration(200'000));
}

TEST(NetworkTest, QueueDropsWhatDoesNotFit) {
  LinkShape link = Shape(10, Milliseconds(0));
  link.queue = Milliseconds(10);
  std::vector<HostShape> hosts = Hosts(2, link);
  hosts[1].down.bits_per_s = 1'000'000'000;
  Network network(hosts, {}, 1);
  for (int i = 0; i < 100; ++i) network.Send(Duration(0), Small(0, 1));
  int delivered = 0;
  while (network.Receive(kEver)) ++delivered;
  EXPECT_EQ(delivered, 11);  // one on the wire, ten milliseconds of others
  EXPECT_EQ(network.up(0).counters().queue_drops, 89u);
  EXPECT_EQ(network.up(0).counters().packets, 11u);
}

TEST(NetworkTest, RateIsKeptOverTime) {
  Network network(Hosts(2, Shape(10, Milliseconds(5))), {}, 1);
  Duration last{0};
  uint64_t bytes = 0;
  for (Duration now{0}; now < Seconds(2); now += Milliseconds(3)) {
    for (int i = 0; i < 4; ++i) network.Send(now, Small(0, 1));  // 13 Mbit/s are offered
    while (auto delivery = network.Receive(now)) {
      bytes += delivery->parcel.wire_bytes;
      last = delivery->due;
    }
  }
  EXPECT_NEAR(static_cast<double>(bytes) * 8 / std::chrono::duration<double>(last).count(), 10e6,
              0.2e6);
}

TEST(NetworkTest, HalfDuplexSharesOneMedium) {
  std::vector<HostShape> hosts = Hosts(2, Shape(10, Milliseconds(0)));
  hosts[1].up.bits_per_s = hosts[1].down.bits_per_s = 1'000'000'000;
  hosts[0].half_duplex = true;
  Network network(hosts, {}, 1);
  for (int i = 0; i < 10; ++i) network.Send(Duration(0), Small(0, 1));
  for (int i = 0; i < 10; ++i) network.Send(Duration(0), Small(1, 0));
  Duration last{0};
  while (auto delivery = network.Receive(kEver)) last = delivery->due;
  EXPECT_GE(last, Milliseconds(20));
}

TEST(NetworkTest, BottleneckIsSharedByItsMembersOnly) {
  BottleneckShape cable;
  cable.members = {0, 1};
  cable.link = Shape(10, Milliseconds(30));
  Network network(Hosts(4, Shape(1000, Milliseconds(1))), {cable}, 1);
  network.Send(Duration(0), Small(0, 1));  // inside
  network.Send(Duration(0), Small(2, 3));  // outside
  EXPECT_LT(network.Receive(kEver)->due, Milliseconds(3));
  EXPECT_LT(network.Receive(kEver)->due, Milliseconds(3));
  for (int i = 0; i < 10; ++i) network.Send(Duration(0), Small(0, 2));
  for (int i = 0; i < 10; ++i) network.Send(Duration(0), Small(1, 3));
  Duration last{0};
  while (auto delivery = network.Receive(kEver)) last = delivery->due;
  EXPECT_GT(last, Milliseconds(20 + 32));
  EXPECT_EQ(network.outward(0).counters().packets, 20u);
  EXPECT_EQ(network.inward(0).counters().packets, 0u);
}

TEST(NetworkTest, IndependentAndBurstyLossHaveTheSameMean) {
  for (double burst : {1.0, 8.0}) {
    LinkShape shape = Shape(1000, Milliseconds(0));
    shape.loss = 0.02;
    shape.burst = burst;
    Link link(shape, 7);
    constexpr uint32_t kDraws = 400'000;
    std::vector<bool> survives;
    link.DrawLosses(kDraws, &survives);
    uint32_t lost = 0, runs = 0;
    for (uint32_t i = 0; i < kDraws; ++i) {
      if (survives[i]) continue;
      ++lost;
      if (i == 0 || survives[i - 1]) ++runs;
    }
    EXPECT_NEAR(lost / double{kDraws}, 0.02, 0.003);
    EXPECT_NEAR(lost / double(runs), burst, 0.1 * burst);
  }
}

TEST(NetworkTest, OutageLosesAndRateChanges) {
  Network network(Hosts(2, Shape(10, Milliseconds(0))), {}, 1);
  network.up(0).SetDown(true);
  network.Send(Duration(0), Small(0, 1));
  EXPECT_FALSE(network.Receive(kEver).has_value());
  EXPECT_EQ(network.up(0).counters().losses, 1u);
  network.up(0).SetDown(false);
  network.up(0).SetRate(1'000'000);
  network.Send(Seconds(1), Small(0, 1));
  EXPECT_EQ(network.Receive(kEver)->due, Seconds(1) + Milliseconds(11));
}

TEST(NetworkTest, JitterWandersWithoutReordering) {
  LinkShape shape = Shape(1000, Milliseconds(10));
  shape.jitter = Milliseconds(20);
  std::vector<HostShape> hosts = Hosts(2, Shape(1000, Milliseconds(0)));
  hosts[0].up = shape;
  Network network(hosts, {}, 3);
  Duration least = kEver, most{0}, before{0};
  for (Duration now{0}; now < Seconds(5); now += Milliseconds(1)) {
    Parcel parcel = Small(0, 1);
    parcel.bytes.assign(8, 0);
    network.Send(now, std::move(parcel));
    const auto delivery = network.Receive(kEver);
    EXPECT_GE(delivery->due, before);
    before = delivery->due;
    least = std::min(least, delivery->due - now);
    most = std::max(most, delivery->due - now);
  }
  EXPECT_LT(least, Milliseconds(13));
  EXPECT_GT(most, Milliseconds(27));
}

TEST(NetworkTest, SameSeedSameRun) {
  const auto run = [](uint64_t seed) {
    LinkShape shape = Shape(50, Milliseconds(5));
    shape.loss = 0.05;
    shape.jitter = Milliseconds(2);
    Network network(Hosts(3, shape), {}, seed);
    std::vector<int64_t> trace;
    for (uint32_t i = 0; i < 3000; ++i) {
      network.Send(Duration(i * 100'000), Small(i % 3, (i + 1) % 3));
      while (auto d = network.Receive(Duration(i * 100'000))) trace.push_back(d->due.count());
    }
    return trace;
  };
  EXPECT_EQ(run(1), run(1));
  EXPECT_NE(run(1), run(2));
}

}  // namespace
}  // namespace longhaul::wan
