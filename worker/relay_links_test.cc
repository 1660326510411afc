#include "worker/relay_links.h"

#include <gtest/gtest.h>

#include <cstring>

#include "common/bounded_queue.h"
#include "transport/loopback.h"

namespace longhaul {
namespace {

pcn::Bytes Numbered(size_t size) {
  pcn::Bytes bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<uint8_t>(i * 7 + i / 251);
  return bytes;
}

TEST(Parts, ComeTogetherAgain) {
  for (const size_t size : {size_t{1}, kMaxPartBytes, kMaxPartBytes + 1, 3 * kMaxPartBytes + 5}) {
    PartAssembler assembler(size);
    std::optional<pcn::Bytes> whole;
    for (const std::string& part : CutInParts(Numbered(size))) {
      EXPECT_FALSE(whole.has_value());
      EXPECT_LE(part.size(), kMaxFrameBytes);
      whole = assembler.Add(AsBytes(part));
    }
    ASSERT_TRUE(whole.has_value()) << size;
    EXPECT_EQ(*whole, Numbered(size));
  }
}

TEST(Parts, AreRefusedWhenTheyDoNotFit) {
  const auto parts = CutInParts(Numbered(2 * kMaxPartBytes));
  PartAssembler small(2 * kMaxPartBytes - 1);
  for (const std::string& part : parts) EXPECT_FALSE(small.Add(AsBytes(part)).has_value());
  PartAssembler assembler(2 * kMaxPartBytes);
  EXPECT_FALSE(assembler.Add(AsBytes(parts[1])).has_value());  // no beginning
  EXPECT_FALSE(assembler.Add(AsBytes(parts[0])).has_value());
  EXPECT_FALSE(assembler.Add(AsBytes(parts[0])).has_value());  // begins anew
  EXPECT_TRUE(assembler.Add(AsBytes(parts[1])).has_value());
  std::string lies = parts[0];
  const uint64_t far = uint64_t{1} << 60;
  std::memcpy(lies.data(), &far, sizeof far);
  EXPECT_FALSE(assembler.Add(AsBytes(lies)).has_value());
  EXPECT_FALSE(assembler.Add(AsBytes(std::string(kPartHeaderBytes, '\0'))).has_value());
}

Duration Now() { return std::chrono::steady_clock::now().time_since_epoch(); }

struct End {
  End() {
    RelayLinks::Options o;
    o.keys = CurveKeyPair::Generate();
    key = o.keys.public_key;
    o.most_message_bytes = 8 << 20;
    o.on_frames = [this](RelayLinks::Received&& received) { inbox.TryPush(std::move(received)); };
    auto started = RelayLinks::Start(std::move(o));
    LONGHAUL_CHECK(started.ok(), std::string(started.status().message()).c_str());
    links = *std::move(started);
  }
  // The next message within the patience.
  std::optional<pcn::Message> Next(End& other) {
    const auto until = std::chrono::steady_clock::now() + kPatience;
    while (std::chrono::steady_clock::now() < until) {
      other.Pump();
      if (auto received = inbox.PopFor(Milliseconds(5))) {
        if (auto message = links->OnFrames(*received)) return message;
      }
      links->Flush(Now());
    }
    return std::nullopt;
  }
  void Pump() {
    while (auto received = inbox.PopFor(Duration(0))) links->OnFrames(*received);
    links->Flush(Now());
  }
  BoundedQueue<RelayLinks::Received> inbox{4096};
  WorkerKey key;
  std::unique_ptr<RelayLinks> links;
};

pcn::Message State(uint64_t m, size_t bytes) {
  pcn::Message message{.from = 0, .to = 1, .micro_batch = m};
  message.payload = std::make_shared<const pcn::Bytes>(Numbered(bytes));
  return message;
}

TEST(RelayLinks, CarryMessagesBothWaysWhateverTheirSize) {
  End below, above;
  above.links->SetBelow(below.key);
  ASSERT_TRUE(below.links->SetAbove(above.links->address(), above.key).ok());
  below.links->Send(State(1, 3 << 20), /*up=*/true);  // before there is a connection
  const auto up = above.Next(below);
  ASSERT_TRUE(up.has_value());
  EXPECT_EQ(up->micro_batch, 1u);
  EXPECT_EQ(*up->payload, Numbered(3 << 20));
  above.links->Send(State(2, 10), /*up=*/false);
  const auto down = below.Next(above);
  ASSERT_TRUE(down.has_value());
  EXPECT_EQ(down->micro_batch, 2u);
}

// A snapshot on its way does not hold up what is sent after it.
TEST(RelayLinks, SnapshotsTravelInTheBackground) {
  End below, above;
  above.links->SetBelow(below.key);
  ASSERT_TRUE(below.links->SetAbove(above.links->address(), above.key).ok());
  below.links->Send(State(1, 10), true);
  ASSERT_TRUE(above.Next(below).has_value());  // there is a connection
  pcn::Message snapshot = State(2, 10 * kBackgroundPartBytes + 3);
  snapshot.kind = pcn::MessageKind::kSnapshot;
  below.links->Send(snapshot, true);
  EXPECT_TRUE(below.links->sends_in_background());
  below.links->Flush(Now());  // begins to count
  below.links->Send(State(3, 10), true);
  const auto state = above.Next(below);
  ASSERT_TRUE(state.has_value());
  EXPECT_EQ(state->micro_batch, 3u);
  const auto late = above.Next(below);
  ASSERT_TRUE(late.has_value());
  EXPECT_EQ(late->kind, pcn::MessageKind::kSnapshot);
  EXPECT_EQ(*late->payload, *snapshot.payload);
  EXPECT_FALSE(below.links->sends_in_background());
}

TEST(RelayLinks, AreBoundedAndForgetAReplacedNeighbour) {
  End below, above, next;
  ASSERT_TRUE(below.links->SetAbove("127.0.0.1:1", above.key).ok());  // nobody is there
  for (uint64_t m = 0; m < RelayLinks::kMaxWaitingParts + 10; ++m) {
    below.links->Send(State(m, 1), true);
  }
  EXPECT_EQ(below.links->waiting(), RelayLinks::kMaxWaitingParts);
  next.links->SetBelow(below.key);
  ASSERT_TRUE(below.links->SetAbove(next.links->address(), next.key).ok());
  EXPECT_EQ(below.links->waiting(), 0u);
  below.links->Send(State(5, 1), true);
  const auto message = next.Next(below);
  ASSERT_TRUE(message.has_value());
  EXPECT_EQ(message->micro_batch, 5u);
}

}  // namespace
}  // namespace longhaul
