// What strangers and bad members can do to a server.
#include <gtest/gtest.h>
#include <zmq.h>

#include "common/rng.h"
#include "transport/loopback.h"
#include "transport/raw_peer.h"
#include "transport/transfer.h"
#include "transport/zmq_util.h"

namespace longhaul {
namespace {

// A member with good intentions is served.
void ExpectService(Lab& lab) {
  Member member(lab);
  ASSERT_TRUE(member.Saw(ConnectionChange::kConnected));
  ASSERT_TRUE(member.client->Send(Text("still there?")));
  auto in = lab.inbox.PopFor(kPatience);
  ASSERT_TRUE(in.has_value());
  EXPECT_EQ(in->frames[0].ToString(), "still there?");
  ASSERT_TRUE(lab.server->Send(in->route, Text("yes")));
  EXPECT_TRUE(member.inbox.PopFor(kPatience).has_value());
}

// A ZeroMQ socket that does not keep our rules.
class RawZmq {
 public:
  RawZmq() : context_(zmq_ctx_new()), socket_(zmq_socket(context_.get(), ZMQ_DEALER)) {
    SetInt(socket_.get(), ZMQ_LINGER, 0);
    EXPECT_TRUE(StartMonitor(context_.get(), socket_.get(), "raw", &monitor_).ok());
  }
  void* get() { return socket_.get(); }
  void BeMember(Lab& lab) { SetCurveClient(get(), Member::Enrolled(lab), lab.keys.public_key); }
  void Connect(const Lab& lab) {
    ASSERT_EQ(zmq_connect(get(), ("tcp://" + lab.server->address()).c_str()), 0);
  }
  bool Saw(int wanted) {
    return Eventually([&] {
      auto event = NextEvent(monitor_.get());
      return event && event->event == wanted;
    });
  }

 private:
  ZmqContext context_;
  ZmqSocket socket_;
  ZmqSocket monitor_;
};

TEST(HostileTest, StrangerIsToldAndDeliversNothing) {
  Lab lab;
  Member stranger(lab, CurveKeyPair::Generate());
  auto event = stranger.events.PopFor(kPatience);
  ASSERT_TRUE(event.has_value());
  EXPECT_EQ(event->change, ConnectionChange::kNotAllowed);
  EXPECT_FALSE(stranger.client->Send(Text("let me in")));
  EXPECT_TRUE(Eventually([&] { return lab.server->counters().refused_connections >= 1; }));
  EXPECT_FALSE(lab.inbox.PopFor(kMoment).has_value());
  ExpectService(lab);
}

TEST(HostileTest, SelfTestIsNotCounted) {
  Lab lab;
  Member member(lab);  // comes after the stranger of the self-test
  ASSERT_TRUE(member.Saw(ConnectionChange::kConnected));
  EXPECT_TRUE(Eventually([&] { return lab.server->counters().connections == 1; }));
  EXPECT_EQ(lab.server->counters().refused_connections, 0u);
  EXPECT_EQ(lab.server->counters().refused_keys, 0u);
}

TEST(HostileTest, WrongServerKeyIsNoticedByBothSides) {
  Lab lab;
  Member member(lab.server->address(), CurveKeyPair::Generate().public_key, Member::Enrolled(lab));
  auto event = member.events.PopFor(kPatience);
  ASSERT_TRUE(event.has_value());
  EXPECT_EQ(event->change, ConnectionChange::kWrongServer);
  EXPECT_TRUE(Eventually([&] { return lab.server->counters().refused_connections >= 1; }));
  EXPECT_FALSE(lab.inbox.PopFor(kMoment).has_value());
}

TEST(HostileTest, OtherMechanismsAreRefused) {
  Lab lab;
  RawZmq null;
  null.Connect(lab);
  EXPECT_GE(zmq_send(null.get(), "plain text", 10, ZMQ_DONTWAIT), 0);  // queued over there
  EXPECT_TRUE(Eventually([&] { return lab.server->counters().refused_connections >= 1; }));
  const uint64_t refused = lab.server->counters().refused_connections;
  RawZmq plain;
  EXPECT_EQ(zmq_setsockopt(plain.get(), ZMQ_PLAIN_USERNAME, "root", 4), 0);
  EXPECT_EQ(zmq_setsockopt(plain.get(), ZMQ_PLAIN_PASSWORD, "root", 4), 0);
  plain.Connect(lab);
  EXPECT_TRUE(Eventually([&] { return lab.server->counters().refused_connections > refused; }));
  EXPECT_FALSE(lab.inbox.PopFor(kMoment).has_value());
}

TEST(HostileTest, NothingListeningIsUnreachable) {
  RawListener bound(/*listening=*/false);  // keeps its port from everybody
  Member member("127.0.0.1:" + std::to_string(bound.port()), CurveKeyPair::Generate().public_key,
                CurveKeyPair::Generate());
  auto event = member.events.PopFor(kPatience);
  ASSERT_TRUE(event.has_value());
  EXPECT_EQ(event->change, ConnectionChange::kUnreachable);
}

TEST(HostileTest, ClientTriesAgainAfterARefusal) {
  Lab lab;
  const CurveKeyPair keys = CurveKeyPair::Generate();
  Member member(lab, keys);
  ASSERT_TRUE(member.Saw(ConnectionChange::kNotAllowed));
  ASSERT_TRUE(member.Saw(ConnectionChange::kNotAllowed));
  lab.table.Add(keys.public_key, Role::kWorker);
  EXPECT_TRUE(member.Saw(ConnectionChange::kConnected));
}

// Somebody else's server, and one that breaks the protocol: ZeroMQ by itself would give up.
TEST(HostileTest, ClientTriesAgainAfterGarbage) {
  RawListener listener;
  Member member("127.0.0.1:" + std::to_string(listener.port()), CurveKeyPair::Generate().public_key,
                CurveKeyPair::Generate());
  for (int i = 0; i < 3; ++i) {
    listener.AnswerOnce("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n" +
                        std::string(100, ' '));
    EXPECT_TRUE(member.Saw(ConnectionChange::kWrongServer));
  }
}

TEST(HostileTest, OversizedMessageCutsTheConnectionOnly) {
  Lab lab;
  RawZmq member;
  member.BeMember(lab);
  member.Connect(lab);
  const std::string oversized(kMaxSocketMessageBytes + 1, 'o');
  ASSERT_TRUE(member.Saw(ZMQ_EVENT_HANDSHAKE_SUCCEEDED));
  EXPECT_GE(zmq_send(member.get(), oversized.data(), oversized.size(), 0), 0);
  EXPECT_TRUE(member.Saw(ZMQ_EVENT_DISCONNECTED));
  EXPECT_FALSE(lab.inbox.PopFor(kMoment).has_value());
  ExpectService(lab);
}

TEST(HostileTest, GarbageDoesNoHarm) {
  Lab lab;
  Rng rng(5);
  for (int i = 0; i < 30; ++i) {
    RawTcp tcp(lab.server->port());
    std::string garbage(1 + rng.Below(3000), '\0');
    for (char& c : garbage) c = static_cast<char>(rng.Next());
    // Some begin like a ZMTP 3 greeting, so that the garbage gets further.
    static const std::string kGreeting =
        std::string("\xFF\0\0\0\0\0\0\0\x01\x7F\x03\x00", 12) + "CURVE" + std::string(47, '\0');
    if (i % 3 == 1) garbage = kGreeting + garbage;
    if (i % 3 == 2) garbage = kGreeting + "\x04\xC8\x05HELLO" + garbage;
    tcp.Write(garbage);
  }
  { RawTcp(lab.server->port()).Write("GET / HTTP/1.1\r\nHost: lab\r\n\r\n"); }
  EXPECT_FALSE(lab.inbox.PopFor(kMoment).has_value());
  ExpectService(lab);
}

TEST(HostileTest, IdleHalfOpenConnectionsDoNotStopAMember) {
  Lab lab;
  std::vector<RawTcp> idle;
  for (int i = 0; i < 200; ++i) idle.emplace_back(lab.server->port());
  ExpectService(lab);
}

TEST(HostileTest, SilentConnectionsAreCutAboveTheirLimit) {
  ServerOptions options;
  options.max_silent_connections = 20;
  Lab lab(options);
  std::vector<RawTcp> idle;
  for (int i = 0; i < 100; ++i) idle.emplace_back(lab.server->port());
  EXPECT_TRUE(Eventually([&] { return lab.server->counters().cut_connections >= 80; }));
  ExpectService(lab);
}

TEST(HostileTest, ConnectionsAboveTheirLimitAreCut) {
  ServerOptions options;
  options.max_connections = 2;
  Lab lab(options);
  Member first(lab);
  Member second(lab);
  ASSERT_TRUE(first.Saw(ConnectionChange::kConnected));
  ASSERT_TRUE(second.Saw(ConnectionChange::kConnected));
  Member third(lab);
  EXPECT_TRUE(Eventually([&] { return lab.server->counters().cut_connections >= 1; }));
  EXPECT_TRUE(first.client->Send(Text("one")));
  EXPECT_TRUE(second.client->Send(Text("two")));
  EXPECT_TRUE(lab.inbox.PopFor(kPatience).has_value());
  EXPECT_TRUE(lab.inbox.PopFor(kPatience).has_value());
}

TEST(HostileTest, RemovedKeyIsDroppedAtOnceAndCannotReconnect) {
  Lab lab;
  const CurveKeyPair keys = Member::Enrolled(lab);
  Member member(lab, keys);
  ASSERT_TRUE(member.Saw(ConnectionChange::kConnected));
  lab.table.Remove(keys.public_key);
  ASSERT_TRUE(member.client->Send(Text("revoked")));
  EXPECT_TRUE(Eventually([&] { return lab.server->counters().dropped_in == 1; }));
  EXPECT_FALSE(lab.inbox.PopFor(kMoment).has_value());
  member.client.reset();
  Member again(lab, keys);
  auto event = again.events.PopFor(kPatience);
  ASSERT_TRUE(event.has_value());
  EXPECT_EQ(event->change, ConnectionChange::kNotAllowed);
}

TEST(HostileTest, TooManyFramesAreDropped) {
  Lab lab;
  RawZmq member;
  member.BeMember(lab);
  member.Connect(lab);
  for (int i = 0; i < 100; ++i) zmq_send(member.get(), "part", 4, ZMQ_SNDMORE);
  zmq_send(member.get(), "last", 4, 0);
  zmq_send(member.get(), "good", 4, 0);
  auto in = lab.inbox.PopFor(kPatience);
  ASSERT_TRUE(in.has_value());
  EXPECT_EQ(in->frames[0].ToString(), "good");
  EXPECT_EQ(lab.server->counters().dropped_in, 1u);
}

// ZeroMQ itself puts no bound on the parts of a message that never ends, and holds them all.
TEST(HostileTest, EndlessMessageIsCut) {
  ServerOptions options;
  options.max_unfinished_bytes = 4 * 1024 * 1024;
  Lab lab(options);
  RawCurveClient member(lab.server->port(), lab.keys.public_key, Member::Enrolled(lab));
  ASSERT_TRUE(member.Handshake());
  ASSERT_TRUE(member.SendPart("hello", /*more=*/false));
  ASSERT_TRUE(lab.inbox.PopFor(kPatience).has_value());
  const std::string part(100'000, 'm');
  uint64_t sent_bytes = 0;
  while (sent_bytes < uint64_t{1} << 32 && member.SendPart(part, /*more=*/true)) {
    sent_bytes += part.size();
  }
  EXPECT_GT(sent_bytes, options.max_unfinished_bytes);
  EXPECT_LT(sent_bytes, uint64_t{1} << 32);
  EXPECT_TRUE(Eventually([&] { return lab.server->counters().cut_connections == 1; }));
  EXPECT_FALSE(lab.inbox.PopFor(kMoment).has_value());
  ExpectService(lab);
}

// A member that sends chunks which nobody has granted: the receiver finds it, the server cuts it.
TEST(HostileTest, CreditOverrunIsCutAndCounted) {
  constexpr uint32_t kChunks = 64;
  constexpr uint64_t kChunkBytes = 1000;
  Lab lab;
  auto receiver = ChunkReceiver::Create(
      {.chunks = kChunks, .total_bytes = kChunks * kChunkBytes, .window_bytes = 2 * kChunkBytes});
  ASSERT_TRUE(receiver.ok());
  receiver->StartAttempt();
  receiver->NoteGrantSent();
  const uint64_t granted = receiver->GrantedBytes();
  Member member(lab);
  ASSERT_TRUE(member.Saw(ConnectionChange::kConnected));
  for (uint32_t i = 0; i < kChunks; ++i) {
    ASSERT_TRUE(member.client->Send(Text(std::string(kChunkBytes, 'c'))));
    auto in = lab.inbox.PopFor(kPatience);
    ASSERT_TRUE(in.has_value());
    if (receiver->Accept(1, i, in->frames[0].bytes()) != ChunkReceiver::Verdict::kOverrun) continue;
    lab.server->Cut(in->user, CutReason::kCreditOverrun);
    break;
  }
  EXPECT_LE(receiver->bytes_held(), granted);
  EXPECT_TRUE(member.Saw(ConnectionChange::kDisconnected));
  const auto overruns = [&] {
    return lab.server->counters().cut_by_reason[static_cast<size_t>(CutReason::kCreditOverrun)];
  };
  EXPECT_TRUE(Eventually([&] { return overruns() == 1; }));
  EXPECT_EQ(lab.server->counters().cut_connections, 1u);
  lab.server->Cut(WorkerKey{}, CutReason::kCreditOverrun);  // nobody: does nothing
  ExpectService(lab);
  EXPECT_EQ(overruns(), 1u);
}

TEST(HostileTest, LongMessageInManyPartsIsDroppedNotDelivered) {
  Lab lab;
  RawCurveClient member(lab.server->port(), lab.keys.public_key, Member::Enrolled(lab));
  ASSERT_TRUE(member.Handshake());
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(member.SendPart("part", true));
  ASSERT_TRUE(member.SendPart("last", false));
  ASSERT_TRUE(member.SendPart("good", false));
  auto in = lab.inbox.PopFor(kPatience);
  ASSERT_TRUE(in.has_value());
  EXPECT_EQ(in->frames[0].ToString(), "good");
  EXPECT_EQ(lab.server->counters().dropped_in, 1u);
}

TEST(HostileTest, StrangerWithAValidHandshakeIsRefused) {
  Lab lab;
  RawCurveClient stranger(lab.server->port(), lab.keys.public_key, CurveKeyPair::Generate());
  EXPECT_FALSE(stranger.Handshake());
  stranger.SendPart("anyway", false);
  EXPECT_FALSE(lab.inbox.PopFor(kMoment).has_value());
  EXPECT_EQ(lab.server->counters().refused_keys, 1u);
}

// Each holds a session in the middle of its handshake until the time for handshakes is over.
TEST(HostileTest, StalledHandshakesDoNotStopAMember) {
  Lab lab;
  std::vector<RawCurveClient> stalled;
  for (int i = 0; i < 50; ++i) {
    stalled.emplace_back(lab.server->port(), lab.keys.public_key, CurveKeyPair::Generate());
    ASSERT_TRUE(stalled.back().SayHello());
  }
  ExpectService(lab);
}

TEST(HostileTest, TamperedMessageCutsTheConnection) {
  Lab lab;
  RawCurveClient member(lab.server->port(), lab.keys.public_key, Member::Enrolled(lab));
  ASSERT_TRUE(member.Handshake());
  member.tamper_with_next_part();
  member.SendPart("forged", false);
  EXPECT_TRUE(member.WaitForClose());
  EXPECT_FALSE(lab.inbox.PopFor(kMoment).has_value());
  ExpectService(lab);
}

TEST(HostileTest, RouteChosenByAClientIsDropped) {
  Lab lab;
  RawZmq member;
  member.BeMember(lab);
  SetBytes(member.get(), ZMQ_ROUTING_ID, "victim", 6);
  member.Connect(lab);
  zmq_send(member.get(), "hello", 5, 0);
  EXPECT_TRUE(Eventually([&] { return lab.server->counters().dropped_in == 1; }));
  EXPECT_FALSE(lab.inbox.PopFor(kMoment).has_value());
  ExpectService(lab);
}

}  // namespace
}  // namespace longhaul
