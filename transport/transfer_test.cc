#include "transport/transfer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "common/hash.h"
#include "common/rng.h"

namespace longhaul {
namespace {

using Verdict = ChunkReceiver::Verdict;

// An object cut in chunks of random sizes.
struct Object {
  std::vector<std::string> chunks;
  ChunkReceiver::Options options;
  Outgoing::Sizes sizes;
};

Object MakeObject(Rng& rng, uint32_t chunks, uint64_t max_chunk_bytes) {
  Object object;
  std::vector<Digest> digests;
  std::vector<uint32_t> sizes;
  for (uint32_t i = 0; i < chunks; ++i) {
    std::string payload(1 + rng.Below(max_chunk_bytes), '\0');
    for (char& c : payload) c = static_cast<char>(rng.Next());
    digests.push_back(ChunkDigest(AsBytes(payload)));
    sizes.push_back(static_cast<uint32_t>(payload.size()));
    object.options.total_bytes += payload.size();
    object.chunks.push_back(std::move(payload));
  }
  object.options.chunks = chunks;
  object.options.root = RootDigest(digests);
  object.sizes = std::make_shared<std::vector<uint32_t>>(std::move(sizes));
  return object;
}

ChunkReceiver MakeReceiver(const ChunkReceiver::Options& options) {
  auto receiver = ChunkReceiver::Create(options);
  EXPECT_TRUE(receiver.ok()) << receiver.status();
  return *std::move(receiver);
}

// Naive twin of MissingRuns: the list of missing chunks.
std::vector<uint32_t> Missing(const ChunkReceiver& receiver, uint32_t chunks) {
  std::vector<uint32_t> out;
  for (uint32_t i = 0; i < chunks; ++i) {
    if (!receiver.Has(i)) out.push_back(i);
  }
  return out;
}

std::vector<uint32_t> Expanded(const std::vector<ChunkSpan>& runs) {
  std::vector<uint32_t> out;
  for (const ChunkSpan& run : runs) {
    for (uint32_t i = 0; i < run.count; ++i) out.push_back(run.first + i);
  }
  return out;
}

// A link between one sender and one receiver that loses, repeats and reorders, and breaks at times.
// The naive twin beside it counts what is outstanding by remembering every chunk by itself.
class Link {
 public:
  Link(Object object, uint64_t window_bytes, Rng rng)
      : object_(std::move(object)), rng_(rng), outgoing_(object_.sizes) {
    object_.options.window_bytes = window_bytes;
    receiver_.emplace(MakeReceiver(object_.options));
  }

  void RunToEnd() {
    Reconnect();
    for (int step = 0; step < 2'000'000 && !receiver_->complete(); ++step) {
      const uint64_t what = rng_.Below(1000);
      if (what < 5) {
        Reconnect();
      } else if (what < 500) {
        Send();
      } else if (!in_flight_.empty()) {
        idle_steps_ = 0;
        Deliver();
      } else if (++idle_steps_ > 50) {
        Reconnect();  // nothing has come for a while
      }
      if (receiver_->GrantDue() && !rng_.Chance(1, 4)) StateGrant();
    }
    ASSERT_TRUE(receiver_->complete());
    EXPECT_TRUE(receiver_->Verified());
    EXPECT_EQ(received_, object_.chunks);
  }

 private:
  struct Packet {
    uint64_t attempt;
    uint32_t chunk;
  };

  // Old packets may still arrive: another stripe may have been slower.
  void Reconnect() {
    receiver_->StartAttempt();
    outstanding_.clear();
    const std::vector<ChunkSpan> runs = receiver_->MissingRuns(3);
    std::vector<uint32_t> asked = Expanded(runs);
    std::vector<uint32_t> missing = Missing(*receiver_, object_.options.chunks);
    missing.resize(asked.size());
    EXPECT_EQ(asked, missing);
    receiver_->NoteGrantSent();
    ASSERT_TRUE(outgoing_.OnFetch(receiver_->attempt(), runs, receiver_->GrantedBytes()).ok());
  }

  void StateGrant() {
    receiver_->NoteGrantSent();
    if (rng_.Chance(1, 10)) return;  // the message was lost; a later one repairs it
    ASSERT_TRUE(outgoing_.OnFetch(receiver_->attempt(), {}, receiver_->GrantedBytes()).ok());
  }

  void Send() {
    const std::optional<uint32_t> chunk = outgoing_.Next();
    if (!chunk) return;
    outgoing_.MarkSent();
    EXPECT_LE(outgoing_.sent_bytes(), outgoing_.granted_bytes());
    EXPECT_TRUE(outstanding_.emplace(*chunk, object_.chunks[*chunk].size()).second)
        << "sent twice in one attempt";
    uint64_t total = 0;
    for (const auto& [c, size] : outstanding_) total += size;
    EXPECT_LE(total, object_.options.window_bytes);
    if (rng_.Chance(1, 20)) return;  // lost
    in_flight_.push_back({outgoing_.attempt(), *chunk});
    if (rng_.Chance(1, 10)) in_flight_.push_back(in_flight_.back());
  }

  void Deliver() {
    const size_t at = rng_.Below(std::min<size_t>(in_flight_.size(), 8));
    const Packet packet = in_flight_[at];
    in_flight_.erase(in_flight_.begin() + static_cast<ptrdiff_t>(at));
    const bool had = receiver_->Has(packet.chunk);
    const Verdict verdict =
        receiver_->Accept(packet.attempt, packet.chunk, AsBytes(object_.chunks[packet.chunk]));
    EXPECT_EQ(verdict, had ? Verdict::kDuplicate : Verdict::kNew) << receiver_->refusal();
    if (packet.attempt == receiver_->attempt()) outstanding_.erase(packet.chunk);
    received_.resize(object_.chunks.size());
    if (verdict == Verdict::kNew) received_[packet.chunk] = object_.chunks[packet.chunk];
  }

  Object object_;
  Rng rng_;
  Outgoing outgoing_;
  std::optional<ChunkReceiver> receiver_;
  std::vector<Packet> in_flight_;
  std::map<uint32_t, size_t> outstanding_;  // sent in the current attempt, not yet arrived
  std::vector<std::string> received_;
  int idle_steps_ = 0;
};

TEST(TransferTest, EndsWithEqualBytesOverBadLinks) {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(seed);
    Rng rng(seed);
    const uint64_t max_chunk = 1 + rng.Below(200);
    const uint64_t window = max_chunk * (1 + rng.Below(10));
    Object object = MakeObject(rng, static_cast<uint32_t>(1 + rng.Below(120)), max_chunk);
    // One chunk must fit the window; the receiver would raise it by itself.
    const uint64_t least = object.options.total_bytes - (object.options.chunks - 1);
    Link(std::move(object), std::max(window, least), Rng(seed + 1000)).RunToEnd();
  }
}

TEST(TransferTest, CreateRefusesImpossibleObjects) {
  const auto created = [](uint32_t chunks, uint64_t bytes) {
    return ChunkReceiver::Create({.chunks = chunks, .total_bytes = bytes}).ok();
  };
  EXPECT_FALSE(created(0, 0));
  EXPECT_FALSE(created(kMaxTransferChunks + 1, kMaxTransferChunks + 1));
  EXPECT_TRUE(created(kMaxTransferChunks, kMaxTransferChunks));
  EXPECT_FALSE(created(3, 2));
  EXPECT_TRUE(created(3, 3 * kMaxTransferChunkBytes));
  EXPECT_FALSE(created(3, 3 * kMaxTransferChunkBytes + 1));
  EXPECT_FALSE(created(3, UINT64_MAX));
}

TEST(TransferTest, ReceiverRefusesWhatDoesNotFit) {
  ChunkReceiver receiver = MakeReceiver({.chunks = 3, .total_bytes = 10});
  receiver.StartAttempt();
  receiver.NoteGrantSent();
  EXPECT_EQ(receiver.Accept(1, 3, AsBytes("x")), Verdict::kRefused);
  EXPECT_EQ(receiver.Accept(2, 0, AsBytes("x")), Verdict::kRefused);
  EXPECT_EQ(receiver.Accept(1, 0, {}), Verdict::kRefused);
  EXPECT_EQ(receiver.Accept(1, 0, AsBytes("nine bytes")), Verdict::kRefused);
  EXPECT_FALSE(receiver.refusal().empty());
  EXPECT_EQ(receiver.Accept(1, 0, AsBytes("12345")), Verdict::kNew);
  EXPECT_EQ(receiver.Accept(1, 1, AsBytes("123")), Verdict::kNew);
  EXPECT_EQ(receiver.Accept(1, 2, AsBytes("1")), Verdict::kRefused);  // 9 of 10 bytes
  EXPECT_EQ(receiver.Accept(1, 2, AsBytes("12")), Verdict::kNew);
  EXPECT_TRUE(receiver.complete());
  EXPECT_EQ(receiver.bytes_held(), 10u);
}

TEST(TransferTest, SenderThatOverrunsItsCreditIsFound) {
  ChunkReceiver receiver =
      MakeReceiver({.chunks = 100, .total_bytes = 10'000, .window_bytes = 9'901});
  const std::string payload(100, 'p');
  receiver.StartAttempt();
  EXPECT_EQ(receiver.Accept(1, 0, AsBytes(payload)), Verdict::kOverrun);  // nothing was granted
  EXPECT_FALSE(receiver.Has(0));
  receiver.NoteGrantSent();  // 9901 bytes
  for (uint32_t i = 0; i < 99; ++i) {
    EXPECT_EQ(receiver.Accept(1, i, AsBytes(payload)), Verdict::kNew) << i;
  }
  EXPECT_EQ(receiver.Accept(1, 99, AsBytes(payload)), Verdict::kOverrun);
  receiver.NoteGrantSent();
  EXPECT_EQ(receiver.Accept(1, 99, AsBytes(payload)), Verdict::kNew);
}

TEST(TransferTest, RepeatedChunksAreCreditToo) {
  ChunkReceiver receiver = MakeReceiver({.chunks = 4, .total_bytes = 400});
  const std::string payload(100, 'p');
  receiver.StartAttempt();
  receiver.SetWindow(1);  // one chunk, which may have up to 397 bytes
  receiver.NoteGrantSent();
  EXPECT_EQ(receiver.Accept(1, 0, AsBytes(payload)), Verdict::kNew);
  for (int i = 0; i < 6; ++i) {
    EXPECT_EQ(receiver.Accept(1, 0, AsBytes(payload)), Verdict::kDuplicate);
  }
  EXPECT_EQ(receiver.Accept(1, 0, AsBytes(payload)), Verdict::kOverrun);  // 800 of 794 bytes
  // A new attempt grants anew, for what is late as well.
  receiver.StartAttempt();
  EXPECT_EQ(receiver.Accept(1, 0, AsBytes(payload)), Verdict::kOverrun);
  receiver.NoteGrantSent();
  EXPECT_EQ(receiver.Accept(1, 0, AsBytes(payload)), Verdict::kDuplicate);
  EXPECT_EQ(receiver.Accept(2, 1, AsBytes(payload)), Verdict::kNew);
}

// The account that others use without a ChunkReceiver.
TEST(TransferTest, CreditAccountHoldsWhatWasStated) {
  CreditAccount credit;
  EXPECT_FALSE(credit.Take(0, 1));
  credit.StartAttempt(3);
  EXPECT_FALSE(credit.Take(0, 1));
  credit.State(100);
  credit.State(50);  // never shrinks
  EXPECT_TRUE(credit.Take(0, 100));
  EXPECT_FALSE(credit.Take(1, 1));
  EXPECT_TRUE(credit.Take(0, 100));  // once more
  EXPECT_EQ(credit.consumed_bytes(), 100u);
  EXPECT_FALSE(credit.Take(0, 1));
  EXPECT_FALSE(credit.Take(7, 1));  // no such chunk
  EXPECT_FALSE(credit.TakeLate(UINT64_MAX));
  credit.StartAttempt(3);
  EXPECT_EQ(credit.consumed_bytes(), 0u);
  EXPECT_FALSE(credit.Take(0, 1));
  credit.State(10);
  EXPECT_FALSE(credit.Take(0, 11));
  EXPECT_TRUE(credit.Take(0, 10));
  EXPECT_TRUE(credit.TakeLate(10));
  EXPECT_FALSE(credit.TakeLate(1));
}

TEST(TransferTest, WrongRootIsNotVerifiedAndResetStartsOver) {
  Rng rng(1);
  Object object = MakeObject(rng, 2, 50);
  ChunkReceiver receiver = MakeReceiver(object.options);
  std::string changed = object.chunks[1];
  changed[0] = static_cast<char>(changed[0] ^ 1);
  EXPECT_EQ(receiver.Accept(0, 0, AsBytes(object.chunks[0])), Verdict::kNew);
  EXPECT_FALSE(receiver.Verified());
  EXPECT_EQ(receiver.Accept(0, 1, AsBytes(changed)), Verdict::kNew);
  EXPECT_TRUE(receiver.complete());
  EXPECT_FALSE(receiver.Verified());
  receiver.Reset();
  EXPECT_EQ(receiver.MissingRuns(9), (std::vector<ChunkSpan>{{0, 2}}));
  EXPECT_EQ(receiver.Accept(0, 0, AsBytes(object.chunks[0])), Verdict::kNew);
  EXPECT_EQ(receiver.Accept(0, 1, AsBytes(object.chunks[1])), Verdict::kNew);
  EXPECT_TRUE(receiver.Verified());
}

TEST(TransferTest, MissingRunsStopAtTheLimit) {
  ChunkReceiver receiver = MakeReceiver({.chunks = 7, .total_bytes = 7});
  receiver.Accept(0, 1, AsBytes("x"));
  receiver.Accept(0, 4, AsBytes("x"));
  EXPECT_EQ(receiver.MissingRuns(9), (std::vector<ChunkSpan>{{0, 1}, {2, 2}, {5, 2}}));
  EXPECT_EQ(receiver.MissingRuns(2), (std::vector<ChunkSpan>{{0, 1}, {2, 2}}));
}

TEST(TransferTest, WindowHoldsAtLeastOneChunk) {
  ChunkReceiver one = MakeReceiver({.chunks = 1, .total_bytes = 5000, .window_bytes = 10});
  one.StartAttempt();
  EXPECT_EQ(one.GrantedBytes(), 5000u);
  ChunkReceiver many =
      MakeReceiver({.chunks = 100, .total_bytes = 50 * kMaxTransferChunkBytes, .window_bytes = 1});
  EXPECT_EQ(many.GrantedBytes(), kMaxTransferChunkBytes);
}

TEST(TransferTest, SenderRefusesBadFetchesAndKeepsItsState) {
  Outgoing out(std::make_shared<std::vector<uint32_t>>(5, 10u));
  EXPECT_FALSE(out.Next().has_value());
  const std::vector<std::vector<ChunkSpan>> bad = {
      {{0, 0}}, {{4, 2}}, {{5, 1}}, {{2, 1}, {1, 1}}, {{0, 2}, {1, 1}}, {{1, UINT32_MAX}}};
  for (const auto& missing : bad) EXPECT_FALSE(out.OnFetch(1, missing, 1000).ok());
  EXPECT_EQ(out.attempt(), 0u);
  ASSERT_TRUE(out.OnFetch(1, std::vector<ChunkSpan>{{1, 1}, {3, 2}}, 25).ok());
  EXPECT_EQ(out.Next(), 1u);
  out.MarkSent();
  EXPECT_EQ(out.Next(), 3u);
  out.MarkSent();
  EXPECT_FALSE(out.Next().has_value());  // 5 bytes of credit left
  ASSERT_TRUE(out.OnFetch(1, {}, 20).ok());
  EXPECT_EQ(out.granted_bytes(), 25u);  // never shrinks
  ASSERT_TRUE(out.OnFetch(1, {}, 30).ok());
  EXPECT_EQ(out.Next(), 4u);
  out.MarkSent();
  EXPECT_TRUE(out.finished());
  ASSERT_TRUE(out.OnFetch(0, std::vector<ChunkSpan>{{0, 1}}, 99).ok());  // stale
  EXPECT_TRUE(out.finished());
  ASSERT_TRUE(out.OnFetch(2, std::vector<ChunkSpan>{{0, 1}}, 10).ok());
  EXPECT_EQ(out.Next(), 0u);
  EXPECT_EQ(out.sent_bytes(), 0u);
}

}  // namespace
}  // namespace longhaul
