#include "transport/striped_client.h"

#include <gtest/gtest.h>

#include <atomic>
#include <set>

#include "transport/loopback.h"
#include "transport/raw_peer.h"

namespace longhaul {
namespace {

struct Striped {
  explicit Striped(Lab& lab, uint32_t stripes, uint32_t most = 4) : keys(Member::Enrolled(lab)) {
    StripedOptions options;
    options.client.address = lab.server->address();
    options.client.server_key = lab.keys.public_key;
    options.client.keys = keys;
    options.client.reconnect_least = Milliseconds(20);
    options.client.reconnect_most = Milliseconds(200);
    options.client.on_message = [this](std::vector<Frame>&& f) { inbox.TryPush(std::move(f)); };
    options.client.on_event = [this](const ConnectionEvent& e) {
      events.TryPush(ConnectionEvent(e));
    };
    options.on_stripe_lost = [this] { ++lost; };
    options.hello = [] { return Text("hello"); };
    options.stripes = stripes;
    options.most_stripes = most;
    auto started = StripedClient::Start(std::move(options));
    EXPECT_TRUE(started.ok()) << started.status();
    client = *std::move(started);
  }
  CurveKeyPair keys;
  BoundedQueue<std::vector<Frame>> inbox{4096};
  BoundedQueue<ConnectionEvent> events{4096};
  std::atomic<int> lost{0};
  std::unique_ptr<StripedClient> client;
};

// The routes of the first `count` hellos.
std::vector<std::string> Hellos(Lab& lab, size_t count) {
  std::vector<std::string> routes;
  while (routes.size() < count) {
    auto in = lab.inbox.PopFor(kPatience);
    if (!in) break;
    if (in->frames[0].ToString() == "hello") routes.push_back(in->route);
  }
  return routes;
}

TEST(StripedClientTest, EachConnectionSaysHello) {
  Lab lab;
  Striped striped(lab, 3);
  const std::vector<std::string> routes = Hellos(lab, 3);
  EXPECT_EQ(std::set<std::string>(routes.begin(), routes.end()).size(), 3u);
  EXPECT_TRUE(Eventually([&] { return striped.client->connected() == 3; }));
  auto event = striped.events.PopFor(kPatience);
  ASSERT_TRUE(event.has_value());
  EXPECT_EQ(event->change, ConnectionChange::kConnected);
  EXPECT_FALSE(striped.events.PopFor(kMoment).has_value());  // once, not three times
}

TEST(StripedClientTest, MessagesTakeEveryConnection) {
  Lab lab;
  Striped striped(lab, 3);
  ASSERT_EQ(Hellos(lab, 3).size(), 3u);
  std::set<std::string> routes;
  for (int i = 0; i < 60; ++i) {
    ASSERT_TRUE(Eventually([&] { return striped.client->Send(Text(std::to_string(i))); }));
    auto in = lab.inbox.PopFor(kPatience);
    ASSERT_TRUE(in.has_value());
    routes.insert(in->route);
  }
  EXPECT_EQ(routes.size(), 3u);
  EXPECT_EQ(striped.client->counters().messages_out, 63u);
}

TEST(StripedClientTest, ServerAnswersOverAnyConnection) {
  Lab lab;
  Striped striped(lab, 3);
  const std::vector<std::string> routes = Hellos(lab, 3);
  for (int i = 0; i < 30; ++i) ASSERT_TRUE(lab.server->SendToAny(routes, Text("answer")));
  for (int i = 0; i < 30; ++i) ASSERT_TRUE(striped.inbox.PopFor(kPatience).has_value());
  EXPECT_FALSE(lab.server->SendToAny({}, Text("nobody")));
}

TEST(StripedClientTest, GrowsUpToItsLimit) {
  Lab lab;
  Striped striped(lab, 1, 4);
  ASSERT_EQ(Hellos(lab, 1).size(), 1u);
  striped.client->Grow(100);
  EXPECT_EQ(striped.client->stripes(), 4u);
  EXPECT_EQ(Hellos(lab, 3).size(), 3u);
  striped.client->Grow(1);
  EXPECT_EQ(striped.client->stripes(), 4u);  // none is closed
}

TEST(StripedClientTest, NothingIsTakenWithoutAConnection) {
  RawListener nobody(/*listening=*/false);
  Lab lab;
  StripedOptions options;
  options.client.address = "127.0.0.1:" + std::to_string(nobody.port());
  options.client.server_key = lab.keys.public_key;
  options.client.keys = CurveKeyPair::Generate();
  options.client.on_message = [](std::vector<Frame>&&) {};
  options.client.on_event = [](const ConnectionEvent&) {};
  auto client = StripedClient::Start(std::move(options));
  ASSERT_TRUE(client.ok());
  std::vector<Frame> message = Text("kept");
  EXPECT_FALSE((*client)->Send(std::move(message)));
  EXPECT_EQ(message.size(), 1u);
}

}  // namespace
}  // namespace longhaul
