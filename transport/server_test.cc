#include "transport/server.h"

#include <gtest/gtest.h>
#include <zmq.h>

#include <future>

#include "transport/loopback.h"
#include "transport/self_test.h"
#include "transport/zmq_util.h"

namespace longhaul {
namespace {

TEST(ServerTest, KnownKeyGetsThroughAndBackWithItsName) {
  Lab lab;
  const CurveKeyPair keys = CurveKeyPair::Generate();
  lab.table.Add(keys.public_key, Role::kAdmin);
  Member member(lab, keys);
  ASSERT_TRUE(member.Saw(ConnectionChange::kConnected));
  std::vector<Frame> message = Text("header");
  message.emplace_back(std::string(100'000, 'p'));
  ASSERT_TRUE(member.client->Send(std::move(message)));

  auto in = lab.inbox.PopFor(kPatience);
  ASSERT_TRUE(in.has_value());
  EXPECT_EQ(in->user, keys.public_key);
  EXPECT_EQ(in->role, Role::kAdmin);
  ASSERT_EQ(in->frames.size(), 2u);
  EXPECT_EQ(in->frames[0].ToString(), "header");
  EXPECT_EQ(in->frames[1].ToString(), std::string(100'000, 'p'));

  ASSERT_TRUE(lab.server->Send(in->route, Text("answer")));
  auto back = member.inbox.PopFor(kPatience);
  ASSERT_TRUE(back.has_value());
  ASSERT_EQ(back->size(), 1u);
  EXPECT_EQ((*back)[0].ToString(), "answer");
  EXPECT_FALSE(member.client->congestion_control().empty());
}

TEST(ServerTest, LargestFramePassesBothWays) {
  Lab lab;
  Member member(lab);
  ASSERT_TRUE(member.Saw(ConnectionChange::kConnected));
  const std::string large(kMaxFrameBytes, 'x');
  ASSERT_TRUE(member.client->Send(Text(large)));
  auto in = lab.inbox.PopFor(kPatience);
  ASSERT_TRUE(in.has_value());
  EXPECT_EQ(in->frames[0].size(), kMaxFrameBytes);
  ASSERT_TRUE(lab.server->Send(in->route, std::move(in->frames)));
  auto back = member.inbox.PopFor(kPatience);
  ASSERT_TRUE(back.has_value());
  EXPECT_EQ((*back)[0].ToString(), large);
}

TEST(ServerTest, TwoConnectionsOfOneKeyBothWork) {
  Lab lab;
  const CurveKeyPair keys = Member::Enrolled(lab);
  Member control(lab, keys);
  Member bulk(lab, keys);
  ASSERT_TRUE(control.Saw(ConnectionChange::kConnected));
  ASSERT_TRUE(bulk.Saw(ConnectionChange::kConnected));
  ASSERT_TRUE(control.client->Send(Text("control")));
  ASSERT_TRUE(bulk.client->Send(Text("bulk")));
  for (int i = 0; i < 2; ++i) {
    auto in = lab.inbox.PopFor(kPatience);
    ASSERT_TRUE(in.has_value());
    EXPECT_EQ(in->user, keys.public_key);
    ASSERT_TRUE(lab.server->Send(in->route, Text("for " + in->frames[0].ToString())));
  }
  auto to_control = control.inbox.PopFor(kPatience);
  auto to_bulk = bulk.inbox.PopFor(kPatience);
  ASSERT_TRUE(to_control && to_bulk);
  EXPECT_EQ((*to_control)[0].ToString(), "for control");
  EXPECT_EQ((*to_bulk)[0].ToString(), "for bulk");
}

TEST(ServerTest, ManyMessagesKeepTheirOrder) {
  Lab lab;
  Member member(lab);
  ASSERT_TRUE(member.Saw(ConnectionChange::kConnected));
  constexpr int kCount = 3000;
  for (int i = 0; i < kCount; ++i) {
    ASSERT_TRUE(Eventually([&] { return member.client->Send(Text(std::to_string(i))); }));
  }
  for (int i = 0; i < kCount; ++i) {
    auto in = lab.inbox.PopFor(kPatience);
    ASSERT_TRUE(in.has_value());
    ASSERT_EQ(in->frames[0].ToString(), std::to_string(i));
  }
}

TEST(ServerTest, UnknownRouteIsDroppedAndCounted) {
  Lab lab;
  EXPECT_TRUE(lab.server->Send(std::string("\0abcd", 5), Text("nobody")));
  EXPECT_TRUE(Eventually([&] { return lab.server->counters().dropped_out == 1; }));
}

TEST(ServerTest, CountsMessagesPayloadAndSocketBytes) {
  Lab lab;
  Member member(lab);
  ASSERT_TRUE(member.Saw(ConnectionChange::kConnected));
  ASSERT_TRUE(member.client->Send(Text(std::string(50'000, 'u'))));
  auto in = lab.inbox.PopFor(kPatience);
  ASSERT_TRUE(in.has_value());
  ASSERT_TRUE(lab.server->Send(in->route, Text(std::string(20'000, 'd'))));
  ASSERT_TRUE(member.inbox.PopFor(kPatience).has_value());

  EXPECT_TRUE(Eventually([&] {
    const ServerCounters c = lab.server->counters();
    const auto link = lab.server->Stats(in->route);
    return c.socket_bytes_in > 50'000 && c.socket_bytes_out > 20'000 && c.connections >= 1 &&
           link && link->bytes_received > 50'000 && link->bytes_sent > 20'000;
  }));
  const ServerCounters c = lab.server->counters();
  EXPECT_EQ(c.messages_in, 1u);
  EXPECT_EQ(c.messages_out, 1u);
  EXPECT_EQ(c.payload_bytes_in, 50'000u);
  EXPECT_EQ(c.payload_bytes_out, 20'000u);
  EXPECT_EQ(c.refused_connections, 0u);
  EXPECT_LT(c.socket_bytes_in, 70'000u);  // encryption, framing and handshake are small
  EXPECT_TRUE(Eventually([&] { return member.client->counters().socket_bytes_out > 50'000; }));
  EXPECT_LT(member.client->counters().socket_bytes_out, 70'000u);
}

TEST(ServerTest, StartRefusesBadAddressesAndTakenPorts) {
  Lab lab;
  ServerOptions options;
  options.keys = lab.keys;
  options.key_table = &lab.table;
  options.on_message = [](Inbound&&) {};
  options.listen = "nonsense";
  EXPECT_EQ(RouterServer::Start(options).status().code(), absl::StatusCode::kInvalidArgument);
  options.listen = lab.server->address();
  EXPECT_EQ(RouterServer::Start(options).status().code(), absl::StatusCode::kUnavailable);
}

// A member that does not read, with little room on the way.
class SlowReader {
 public:
  explicit SlowReader(Lab& lab) : context_(zmq_ctx_new()) {
    socket_.reset(zmq_socket(context_.get(), ZMQ_DEALER));
    SetCommonOptions(socket_.get(), 1, kPatience);
    SetInt(socket_.get(), ZMQ_RCVBUF, 4096);
    SetCurveClient(socket_.get(), Member::Enrolled(lab), lab.keys.public_key);
    EXPECT_EQ(zmq_connect(socket_.get(), ("tcp://" + lab.server->address()).c_str()), 0);
    EXPECT_GE(zmq_send(socket_.get(), "hello", 5, 0), 0);
  }
  // Reads one message, waiting for it.
  size_t ReadOne() {
    SetInt(socket_.get(), ZMQ_RCVTIMEO, 30'000);
    Frame frame;
    const int size = zmq_msg_recv(static_cast<zmq_msg_t*>(frame.zmq_message()), socket_.get(), 0);
    return size < 0 ? 0 : static_cast<size_t>(size);
  }

 private:
  ZmqContext context_;
  ZmqSocket socket_;
};

TEST(ServerTest, FullQueueSaysNoAndTellsWhenThereIsRoom) {
  BoundedQueue<std::string> room(100);
  ServerOptions options;
  options.max_queued_messages_per_route = 8;
  options.high_water_messages = 2;
  options.on_room = [&](const std::string& route) { room.TryPush(std::string(route)); };
  Lab lab(options);
  SlowReader reader(lab);
  auto hello = lab.inbox.PopFor(kPatience);
  ASSERT_TRUE(hello.has_value());

  // The kernel's buffers take some; then the queues fill up.
  constexpr size_t kBytes = 500'000;
  size_t taken = 0;
  const auto fill = [&] {
    size_t before = taken;
    while (taken < 1000 && lab.server->Send(hello->route, Text(std::string(kBytes, 'z')))) ++taken;
    return taken == before;
  };
  ASSERT_TRUE(Eventually(fill));
  ASSERT_LT(taken, 1000u);

  // Another member is not held up.
  Member other(lab);
  ASSERT_TRUE(other.Saw(ConnectionChange::kConnected));
  ASSERT_TRUE(other.client->Send(Text("me too")));
  auto in = lab.inbox.PopFor(kPatience);
  ASSERT_TRUE(in.has_value());
  ASSERT_TRUE(lab.server->Send(in->route, Text("yes")));
  ASSERT_TRUE(other.inbox.PopFor(kPatience).has_value());

  while (room.PopFor(Duration(0))) {
  }
  fill();  // ends with a refusal, which the next room answers
  for (size_t i = 0; i < taken; ++i) ASSERT_EQ(reader.ReadOne(), kBytes) << i;
  EXPECT_EQ(room.PopFor(kPatience), hello->route);
}

TEST(ClientTest, SendSaysNoWhenNotConnectedOrFull) {
  std::promise<void> release;
  std::shared_future<void> released(release.get_future());
  ServerOptions server_options;
  server_options.high_water_messages = 2;
  server_options.on_message = [released](Inbound&&) { released.wait(); };
  Lab lab(server_options);
  ClientOptions options;
  options.max_queued_messages = 4;
  options.high_water_messages = 2;
  BoundedQueue<int> room(10);
  options.on_room = [&] { room.TryPush(1); };
  Member member(lab.server->address(), lab.keys.public_key, Member::Enrolled(lab), options);
  ASSERT_TRUE(member.Saw(ConnectionChange::kConnected));
  size_t taken = 0;
  ASSERT_TRUE(Eventually([&] {
    const size_t before = taken;
    while (taken < 1000 && member.client->Send(Text(std::string(500'000, 'a')))) ++taken;
    return taken == before;
  }));
  ASSERT_LT(taken, 1000u);
  release.set_value();
  EXPECT_TRUE(Eventually([&] { return lab.server->counters().messages_in == taken; }));

  lab.server.reset();
  ASSERT_TRUE(member.Saw(ConnectionChange::kDisconnected));
  EXPECT_FALSE(member.client->connected());
  EXPECT_FALSE(member.client->Send(Text("anybody there?")));
}

TEST(ClientTest, ReconnectsToARestartedServer) {
  auto first = std::make_unique<Lab>();
  const std::string address = first->server->address();
  const CurveKeyPair keys = Member::Enrolled(*first);
  const CurveKeyPair server_keys = first->keys;
  Member member(*first, keys);
  ASSERT_TRUE(member.Saw(ConnectionChange::kConnected));
  ASSERT_TRUE(member.client->Send(Text("one")));
  ASSERT_TRUE(first->inbox.PopFor(kPatience).has_value());
  const uint64_t before = member.client->counters().socket_bytes_out;
  first.reset();
  ASSERT_TRUE(member.Saw(ConnectionChange::kDisconnected));
  ASSERT_TRUE(member.Saw(ConnectionChange::kUnreachable));

  KeyTable table;
  table.Add(keys.public_key, Role::kWorker);
  BoundedQueue<Inbound> inbox(10);
  ServerOptions options;
  options.listen = address;
  options.keys = server_keys;
  options.key_table = &table;
  options.on_message = [&](Inbound&& in) { inbox.TryPush(std::move(in)); };
  auto second = RouterServer::Start(options);
  ASSERT_TRUE(second.ok()) << second.status();
  ASSERT_TRUE(member.Saw(ConnectionChange::kConnected));
  ASSERT_TRUE(member.client->Send(Text("two")));
  auto in = inbox.PopFor(kPatience);
  ASSERT_TRUE(in.has_value());
  EXPECT_EQ(in->frames[0].ToString(), "two");
  EXPECT_EQ(member.client->counters().connects, 2u);
  EXPECT_TRUE(Eventually([&] { return member.client->counters().socket_bytes_out > before; }));
}

TEST(ClientTest, UplinkCapSlowsSending) {
  Lab lab;
  ClientOptions options;
  options.uplink_bytes_per_s = 8 * 1024 * 1024;
  Member member(lab.server->address(), lab.keys.public_key, Member::Enrolled(lab), options);
  ASSERT_TRUE(member.Saw(ConnectionChange::kConnected));
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(member.client->Send(Text(std::string(1 << 20, 'u'))));
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(lab.inbox.PopFor(kPatience).has_value());
  // 3 MiB at 8 MiB/s are 375 ms; the kernel may send a burst first.
  EXPECT_GT(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(150));
}

TEST(ClientTest, StartRefusesMalformedAddresses) {
  ClientOptions options;
  options.on_message = [](std::vector<Frame>&&) {};
  options.on_event = [](const ConnectionEvent&) {};
  for (const char* address : {"", "host", "host:0", "host:99999"}) {
    options.address = address;
    EXPECT_EQ(DealerClient::Start(options).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST(SelfTest, FindsADoorThatIsOpen) {
  ZmqContext context(zmq_ctx_new());
  ZmqSocket router(zmq_socket(context.get(), ZMQ_ROUTER));
  const CurveKeyPair keys = CurveKeyPair::Generate();
  SetInt(router.get(), ZMQ_CURVE_SERVER, 1);  // no ZAP handler: everybody gets in
  SetBytes(router.get(), ZMQ_CURVE_SECRETKEY, keys.secret.data(), keys.secret.size());
  ASSERT_EQ(zmq_bind(router.get(), "tcp://127.0.0.1:*"), 0);
  char endpoint[100];
  size_t size = sizeof endpoint;
  ASSERT_EQ(zmq_getsockopt(router.get(), ZMQ_LAST_ENDPOINT, endpoint, &size), 0);
  const std::string address = std::string(endpoint).substr(6);
  EXPECT_EQ(CheckStrangerIsRefused(address, keys.public_key, kPatience).code(),
            absl::StatusCode::kFailedPrecondition);
  // A clear refusal is needed: this one only fails to talk to us.
  EXPECT_EQ(CheckStrangerIsRefused(address, CurveKeyPair::Generate().public_key, Milliseconds(200))
                .code(),
            absl::StatusCode::kDeadlineExceeded);
}

}  // namespace
}  // namespace longhaul
