// Many strangers at once: what a server on the open internet meets. Limits are those of
// ServerOptions as they ship.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zmq.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <set>

#include "common/rng.h"
#include "transport/loopback.h"
#include "transport/raw_peer.h"
#include "transport/zmq_util.h"

namespace longhaul {
namespace {

using Clock = std::chrono::steady_clock;

const std::string& Greeting() {
  static const std::string greeting =
      std::string("\xFF\0\0\0\0\0\0\0\x01\x7F\x03\x00", 12) + "CURVE" + std::string(47, '\0');
  return greeting;
}

uint64_t ResidentBytes() {
  std::ifstream file("/proc/self/status");
  std::string line;
  while (std::getline(file, line)) {
    if (line.rfind("VmRSS:", 0) == 0) return std::stoull(line.substr(6)) * 1024;
  }
  return 0;
}

// A server that answers its members, and one member.
class Echo {
 public:
  explicit Echo(ServerOptions options = {}) {
    options.on_message = [this](Inbound&& in) {
      if (in.user == keys_.public_key) {
        lab_->server->Send(in.route, Text("echo"));
      } else {
        ++strange_;
      }
    };
    lab_ = std::make_unique<Lab>(std::move(options));
    lab_->table.Add(keys_.public_key, Role::kWorker);
    member_ = std::make_unique<Member>(*lab_, keys_);
    EXPECT_TRUE(member_->Saw(ConnectionChange::kConnected));
  }

  // Milliseconds of a question and its answer; the worst of a hundred, or a hundred thousand.
  double P99() {
    std::vector<double> times;
    for (int i = 0; i < 100; ++i) {
      const auto begin = Clock::now();
      const bool sent = member_->client->Send(Text("beat"));
      const bool answered = sent && member_->inbox.PopFor(kPatience).has_value();
      times.push_back(
          answered ? std::chrono::duration<double, std::milli>(Clock::now() - begin).count() : 1e5);
    }
    std::sort(times.begin(), times.end());
    return times[98];
  }
  Lab& lab() { return *lab_; }
  uint64_t strange() const { return strange_; }

 private:
  CurveKeyPair keys_ = CurveKeyPair::Generate();
  std::atomic<uint64_t> strange_{0};
  std::unique_ptr<Lab> lab_;
  std::unique_ptr<Member> member_;
};

// Each says: here comes a frame of a gigabyte, and sends the beginning of it.
TEST(FloodTest, ClaimedGigabytesTakeNoMemoryAndNoTime) {
  Echo echo;
  const double quiet_ms = echo.P99();
  const uint64_t before = ResidentBytes();
  const std::string claim = Greeting() + std::string("\x06\0\0\0\0\x40\0\0\0", 9);
  std::vector<RawTcp> strangers;
  for (int i = 0; i < 1000; ++i) {
    strangers.emplace_back(echo.lab().server->port());
    strangers.back().Write(claim + std::string(2000, 'x'));
  }
  const double busy_ms = echo.P99();
  const uint64_t after = ResidentBytes();
  std::fprintf(stderr, "1000 claims of 1 GiB: memory +%.1f MiB, member's p99 %.2f -> %.2f ms\n",
               (static_cast<double>(after) - static_cast<double>(before)) / (1 << 20), quiet_ms,
               busy_ms);
  EXPECT_LE(after, before + (uint64_t{64} << 20));
  EXPECT_LE(busy_ms, std::max(2 * quiet_ms, 50.0));
  EXPECT_EQ(echo.strange(), 0u);
}

// The eight ways to get in without being invited; each returns after the server has said no.
class Attempts {
 public:
  explicit Attempts(Lab& lab) : lab_(lab), port_(lab.server->port()) {
    const CurveKeyPair genuine = Member::Enrolled(lab);
    RawCurveClient client(port_, lab.keys.public_key, genuine);
    EXPECT_TRUE(client.Handshake());
    client.SendPart("recorded", false);
    recording_ = client.sent();
    // An invitation that has been used up: its key was known once.
    used_invitation_ = CurveKeyPair::Generate();
    lab.table.Add(used_invitation_.public_key, Role::kInvitation);
    lab.table.Remove(used_invitation_.public_key);
    auto in = lab.inbox.PopFor(kPatience);
    EXPECT_TRUE(in.has_value() && in->frames[0].ToString() == "recorded");
    if (in) victim_route_ = in->route;
    victim_ = genuine;
  }

  void Make(int kind) {
    switch (kind) {
      case 0:
        return NoCurve();
      case 1:
        return Try(CurveKeyPair::Generate().public_key, victim_, {});  // wrong server key
      case 2:
        return Try(lab_.keys.public_key, CurveKeyPair::Generate(), {});  // unknown client key
      case 3:
        return Garbage();
      case 4:
        return Replay();
      case 5:
        return Try(lab_.keys.public_key, CurveKeyPair::Generate(), {victim_route_, ""});
      case 6:
        return Try(lab_.keys.public_key, used_invitation_, {});
      default:
        return Try(lab_.keys.public_key, CurveKeyPair::Generate(), {"", ToHex(victim_.public_key)});
    }
  }

 private:
  void Try(const WorkerKey& server, const CurveKeyPair& keys,
           const RawCurveClient::Claims& claims) {
    RawCurveClient client(port_, server, keys);
    EXPECT_FALSE(client.Handshake(claims));
    client.SendPart("let me in", false);
  }
  void NoCurve() {
    RawTcp tcp(port_);
    std::string greeting = Greeting();
    greeting.replace(12, 5, std::string("NULL\0", 5));
    tcp.Write(greeting + std::string("\x04\x19\x05READY\x0bSocket-Type\0\0\0\6DEALER", 31) +
              std::string("\0\x5hello", 7));
  }
  void Garbage() {
    RawTcp tcp(port_);
    std::string bytes(1 + rng_.Below(600), '\0');
    for (char& c : bytes) c = static_cast<char>(rng_.Next());
    tcp.Write(rng_.Below(2) == 0 ? bytes : Greeting() + "\x04\xC8\x05HELLO" + bytes);
  }
  void Replay() {
    RawTcp tcp(port_);
    tcp.Write(recording_);
  }

  Lab& lab_;
  const uint16_t port_;
  Rng rng_{11};
  std::string recording_;
  std::string victim_route_;
  CurveKeyPair victim_;
  CurveKeyPair used_invitation_;
};

TEST(FloodTest, TenThousandAttemptsDeliverNothing) {
  Lab lab;
  Attempts attempts(lab);
  constexpr int kAttempts = 10'000;
  const auto begin = Clock::now();
  for (int i = 0; i < kAttempts; ++i) attempts.Make(i % 8);
  std::fprintf(stderr, "%d attempts in %.1f s\n", kAttempts,
               std::chrono::duration<double>(Clock::now() - begin).count());
  // Everybody has gone, and is counted.
  EXPECT_TRUE(Eventually([&] {
    const ServerCounters c = lab.server->counters();
    return c.refused_connections + c.cut_connections >= kAttempts;
  }));
  EXPECT_FALSE(lab.inbox.PopFor(kMoment).has_value());
  EXPECT_EQ(lab.server->counters().messages_in, 1u);  // the recorded one, when it was genuine
}

// A member may not speak for another: its own key is what counts, whatever it says.
TEST(FloodTest, MemberCannotClaimToBeAnother) {
  Lab lab;
  const CurveKeyPair victim = Member::Enrolled(lab);
  const CurveKeyPair member = Member::Enrolled(lab);
  RawCurveClient client(lab.server->port(), lab.keys.public_key, member);
  ASSERT_TRUE(client.Handshake({"", ToHex(victim.public_key)}));
  client.SendPart("it was him", false);
  const auto in = lab.inbox.PopFor(kPatience);
  if (in) {
    EXPECT_EQ(in->user, member.public_key);
  }
}

// Members that open connections and dribble a byte now and then, for ever.
TEST(FloodTest, SlowLorisIsCut) {
  ServerOptions options;
  options.handshake_timeout = Milliseconds(500);
  Lab lab(options);
  std::vector<RawTcp> slow;
  constexpr size_t kSlow = 200;
  for (size_t i = 0; i < kSlow; ++i) slow.emplace_back(lab.server->port());
  size_t at = 0;
  EXPECT_TRUE(Eventually([&] {
    for (RawTcp& tcp : slow) tcp.Write(Greeting().substr(at % Greeting().size(), 1));
    ++at;
    return lab.server->counters().refused_connections >= kSlow;
  }));
  Member member(lab);
  EXPECT_TRUE(member.Saw(ConnectionChange::kConnected));
}

// A member that begins a message and goes on for ever, a small part at a time: memory is bounded.
TEST(FloodTest, EndlessMessagesOfManyMembersAreCut) {
  Lab lab;
  constexpr int kMembers = 4;
  const uint64_t before = ResidentBytes();
  const std::string part(200'000, 'm');
  std::vector<RawCurveClient> members;
  for (int i = 0; i < kMembers; ++i) {
    members.emplace_back(lab.server->port(), lab.keys.public_key, Member::Enrolled(lab));
    ASSERT_TRUE(members.back().Handshake());
    ASSERT_TRUE(members.back().SendPart("hello", false));
    ASSERT_TRUE(lab.inbox.PopFor(kPatience).has_value());
  }
  uint64_t worst = before;
  for (int open = kMembers; open > 0;) {
    open = 0;
    for (RawCurveClient& member : members) open += member.SendPart(part, true) ? 1 : 0;
    worst = std::max(worst, ResidentBytes());
  }
  EXPECT_TRUE(Eventually([&] { return lab.server->counters().cut_connections == kMembers; }));
  std::fprintf(stderr, "%d endless messages: memory +%.1f MiB at worst\n", kMembers,
               static_cast<double>(worst - before) / (1 << 20));
  EXPECT_FALSE(lab.inbox.PopFor(kMoment).has_value());
}

// Every worker that can speak says its number, as a worker says hello as soon as it is connected: a
// server keeps few connections that say nothing. True when all were heard, over the calls.
class Fleet {
 public:
  explicit Fleet(std::vector<ZmqSocket> workers) : workers_(std::move(workers)) {}

  bool AllHeard(Lab& lab) {
    const auto now = Clock::now();
    for (uint32_t i = 0; i < workers_.size(); ++i) {
      if (heard_.contains(i) || now < again_[i]) continue;
      if (zmq_send(workers_[i].get(), &i, sizeof i, ZMQ_DONTWAIT) < 0) continue;
      again_[i] = now + Seconds(1);  // it may have gone down with its connection
    }
    while (auto in = lab.inbox.PopFor(Duration(0))) {
      uint32_t number = 0;
      if (in->frames[0].size() != sizeof number) continue;
      std::memcpy(&number, in->frames[0].bytes().data(), sizeof number);
      heard_.insert(number);
    }
    return heard_.size() == workers_.size();
  }

 private:
  std::vector<ZmqSocket> workers_;
  std::map<uint32_t, Clock::time_point> again_;
  std::set<uint32_t> heard_;
};

// A server comes back on its port, and a fleet that has lost it returns.
TEST(FloodTest, ThousandWorkersReturnAfterARestart) {
  constexpr size_t kWorkers = 1000;
  ServerOptions options;
  auto lab = std::make_unique<Lab>(options);
  const std::string address = lab->server->address();
  const CurveKeyPair server_keys = lab->keys;
  const CurveKeyPair keys = Member::Enrolled(*lab);
  ZmqContext context(zmq_ctx_new());
  zmq_ctx_set(context.get(), ZMQ_MAX_SOCKETS, static_cast<int>(kWorkers) + 10);
  std::vector<ZmqSocket> workers;
  for (size_t i = 0; i < kWorkers; ++i) {
    ZmqSocket& socket = workers.emplace_back(zmq_socket(context.get(), ZMQ_DEALER));
    SetCommonOptions(socket.get(), 16, Seconds(10));
    SetCurveClient(socket.get(), keys, server_keys.public_key);
    SetInt(socket.get(), ZMQ_IMMEDIATE, 1);
    SetInt(socket.get(), ZMQ_RECONNECT_IVL, 200);
    SetInt(socket.get(), ZMQ_RECONNECT_IVL_MAX, 5000);
    ASSERT_EQ(zmq_connect(socket.get(), ("tcp://" + address).c_str()), 0);
    ASSERT_EQ(zmq_send(socket.get(), "here", 4, 0), 4);
  }
  for (size_t i = 0; i < kWorkers; ++i) ASSERT_TRUE(lab->inbox.PopFor(kPatience).has_value());
  Fleet fleet(std::move(workers));
  lab->server.reset();
  options.listen = address;
  options.keys = server_keys;
  options.key_table = &lab->table;
  options.on_message = [&](Inbound&& in) { lab->inbox.TryPush(std::move(in)); };
  ASSERT_TRUE(Eventually([&] {
    auto started = RouterServer::Start(options);
    if (started.ok()) lab->server = *std::move(started);
    return lab->server != nullptr;
  }));
  const auto begin = Clock::now();
  ASSERT_TRUE(Eventually([&] { return fleet.AllHeard(*lab); }));
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  std::fprintf(stderr, "%zu workers are back after %.1f s\n", kWorkers, seconds);
  EXPECT_LE(seconds, 30);
}

}  // namespace
}  // namespace longhaul
