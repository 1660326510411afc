#include "transport/link_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "transport/loopback.h"

namespace longhaul {
namespace {

using testing::HasSubstr;

TEST(LinkTableTest, SumsConnectionsOfOnePeer) {
  SocketStats a, b;
  a.rtt_us = 900, a.min_rtt_us = 700, a.bytes_sent = 1000, a.bytes_retransmitted = 10;
  a.delivery_rate_bytes_per_s = 5, a.congestion_control = "bbr", a.busy_us = 100;
  b.rtt_us = 800, b.min_rtt_us = 0, b.bytes_sent = 1000, b.bytes_retransmitted = 0;
  b.delivery_rate_bytes_per_s = 7, b.congestion_control = "bbr", b.busy_us = 100;
  b.window_limited_us = 50;
  LinkRow row = SumLinks("peer", {a, b});
  EXPECT_EQ(row.connections, 2u);
  EXPECT_EQ(row.rtt_us, 800u);
  EXPECT_EQ(row.min_rtt_us, 700u);
  EXPECT_EQ(row.rate_bytes_per_s, 12u);
  EXPECT_EQ(row.congestion_control, "bbr");
  EXPECT_DOUBLE_EQ(row.loss(), 0.005);
  EXPECT_DOUBLE_EQ(row.window_limited, 0.25);
  b.congestion_control = "cubic";
  EXPECT_EQ(SumLinks("peer", {a, b}).congestion_control, "bbr+cubic");
  EXPECT_EQ(SumLinks("peer", {}).loss(), 0);
}

TEST(LinkTableTest, AdviceOnlyWithoutBbr) {
  EXPECT_EQ(CongestionAdvice("bbr", true), "");
  EXPECT_EQ(CongestionAdvice("", true), "");
  const std::string advice = CongestionAdvice("cubic", true);
  EXPECT_THAT(advice, HasSubstr("TCP uses cubic"));
  EXPECT_THAT(advice, HasSubstr("sudo sysctl -w net.ipv4.tcp_congestion_control=bbr\n"));
  EXPECT_THAT(advice, HasSubstr("tcp_slow_start_after_idle=0"));
  EXPECT_THAT(advice, HasSubstr("every pause"));
  EXPECT_THAT(CongestionAdvice("cubic", false), testing::Not(HasSubstr("every pause")));
}

TEST(LinkTableTest, ServerKnowsTheWayToEachUser) {
  Lab lab;
  const CurveKeyPair keys = Member::Enrolled(lab);
  Member first(lab, keys), second(lab, keys);
  for (Member* member : {&first, &second}) {
    ASSERT_TRUE(member->Saw(ConnectionChange::kConnected));
    ASSERT_TRUE(member->client->Send(Text("here")));
    ASSERT_TRUE(lab.inbox.PopFor(kPatience).has_value());
  }
  EXPECT_TRUE(Eventually([&] {
    const std::vector<LinkRow> links = lab.server->Links();
    return links.size() == 1 && links[0].connections == 2 && links[0].bytes_received > 0 &&
           links[0].peer == ToHex(keys.public_key) && !links[0].congestion_control.empty();
  }));
}

}  // namespace
}  // namespace longhaul
