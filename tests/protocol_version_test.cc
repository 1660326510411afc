// A worker of another release is told so, whatever it sends.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "common/bounded_queue.h"
#include "coordinator/service.h"
#include "proto/codec.h"
#include "transport/client.h"

namespace longhaul {
namespace {

using testing::HasSubstr;

constexpr Duration kPatience = Seconds(30);

CoordinatorService::Options ToyOptions() {
  CoordinatorService::Options o;
  o.config.train.optimizer = "toy";
  o.config.network.listen = "127.0.0.1:0";
  o.shape = *PresetShape("llama-130k");
  const uint64_t elements = ParameterCount(o.shape);
  o.layout = {{{{0, elements}}, elements}};
  o.folder = testing::TempDir() + "protocol_version_test";
  o.positions = 1'000'000;
  std::filesystem::remove_all(o.folder);
  return o;
}

// Sends `envelope` with the invitation's key once connected, and returns the first answer.
std::optional<Envelope> Ask(const Invitation& invitation, const Envelope& envelope) {
  BoundedQueue<Envelope> answers(16);
  BoundedQueue<bool> connected(16);
  ClientOptions o{.address = invitation.addresses[0],
                  .server_key = invitation.server_key,
                  .keys = invitation.one_off_keys()};
  o.on_message = [&](std::vector<Frame>&& frames) {
    auto answer = DecodeEnvelope(frames[0].bytes());
    if (answer.ok()) answers.TryPush(std::move(*answer));
  };
  o.on_event = [&](const ConnectionEvent& e) {
    if (e.change == ConnectionChange::kConnected) connected.TryPush(true);
  };
  auto client = DealerClient::Start(std::move(o));
  if (!client.ok() || !connected.PopFor(kPatience)) return std::nullopt;
  std::vector<Frame> frames;
  frames.emplace_back(*EncodeEnvelope(envelope));
  (*client)->Send(std::move(frames));
  return answers.PopFor(kPatience);
}

TEST(ProtocolVersion, AnotherOneIsRefusedWithBothNumbers) {
  auto service = CoordinatorService::Start(ToyOptions(), {});
  ASSERT_TRUE(service.ok()) << service.status();
  auto text = (*service)->Invite(1, UINT32_MAX);
  ASSERT_TRUE(text.ok()) << text.status();
  std::atomic<int> stop{0};
  std::thread loop([&] { EXPECT_TRUE((*service)->Run(stop).ok()); });
  Envelope hello{.protocol_version = kProtocolVersion + 7, .run = (*service)->run_id()};
  hello.body = Hello{.name = "newer"};
  std::optional<Envelope> answer = Ask(*DecodeInvitation(*text), hello);
  stop = 1;
  loop.join();
  ASSERT_TRUE(answer.has_value());
  const auto* refused = std::get_if<Refused>(&answer->body);
  ASSERT_NE(refused, nullptr);
  EXPECT_EQ(refused->code, RefusalCode::kVersionMismatch);
  EXPECT_THAT(refused->reason, HasSubstr("version " + std::to_string(kProtocolVersion)));
  EXPECT_THAT(refused->reason, HasSubstr(std::to_string(kProtocolVersion + 7)));
  EXPECT_THAT(refused->reason, HasSubstr("install the same release"));
}

TEST(ProtocolVersion, ABodyOfAnotherOneNeedNotBeReadable) {
  Envelope envelope{.protocol_version = kProtocolVersion + 1, .run = "r", .body = Hello{}};
  std::string bytes = *EncodeEnvelope(envelope);
  // A field that no release knows, in place of the body: number 1000, length 1.
  const size_t body = EncodeEnvelope(envelope)->find("r") + 1;
  bytes.resize(body);
  bytes += "\xc2\x3e\x01x";
  auto decoded = DecodeEnvelope(AsBytes(bytes));
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->protocol_version, kProtocolVersion + 1);
}

}  // namespace
}  // namespace longhaul
