#include "reducer/slice_host.h"

#include <gtest/gtest.h>

#include <deque>

#include "common/fault_storage.h"
#include "reducer/parted_fetch.h"
#include "reducer/test_rig.h"

namespace longhaul {
namespace {

constexpr uint64_t kElements = 64 * 3;
constexpr uint64_t kChunk = 64;

WorkerKey Key(uint8_t n) {
  WorkerKey key;
  key.bytes[0] = n;
  return key;
}

// One reducer of the whole of fragment 0, and contributors whose chunks are here.
class SliceHostTest : public testing::Test {
 protected:
  SliceHostTest() : host_(MakeOptions()) {}

  SliceHost::Options MakeOptions() {
    SliceHost::Options o;
    o.storage = &disk_;
    o.folder = "slices";
    o.fragments = {{kElements, {}}};
    o.chunk_elements = kChunk;
    o.first_attempt = 100;
    o.send = [this](const WorkerKey& to, const Message& m) { sent_.emplace_back(to, m); };
    o.send_chunk = [this](const WorkerKey& to, const ChunkHeader& header, std::string&& payload) {
      if (!room_) return false;
      chunks_.push_back({to, header, std::move(payload)});
      return true;
    };
    o.overrun = [this](const WorkerKey& from) { overran_.push_back(from); };
    return o;
  }

  SliceOrder Order(uint64_t round, uint64_t base, bool continues) {
    SliceOrder order{.round = RoundId{round},
                     .fragment = FragmentId{0},
                     .base = Version{base},
                     .chunks = 3,
                     .continues = continues};
    Reducer::Options shape{&disk_, "", FragmentId{0}, kElements};
    shape.chunk_elements = kChunk;
    for (uint8_t i = 1; i <= 3; ++i) {
      const ContributionId id{SessionId{i}, round};
      Contribution c =
          MakeContribution(shape, Version{base}, id, i, RandomFloats(rng_, kElements, 0.5));
      order.contributions.push_back({id, c.info.bytes, c.info.root, i});
      known_[id] = std::move(c);
    }
    return order;
  }

  void Close(SliceOrder& order, uint32_t attempt, size_t included) {
    order.attempt = attempt;
    order.included.clear();
    order.divisor = 0;
    for (size_t i = 0; i < included; ++i) {
      order.included.push_back(order.contributions[i].id);
      order.divisor += order.contributions[i].weight;
    }
  }

  void Give(const std::vector<SliceOrder>& orders) {
    ASSERT_TRUE(host_.SetOrders(kGeneration, orders, keys_).ok());
  }

  // Answers what was asked, as far as `answers` says.
  void Answer() {
    while (!sent_.empty()) {
      const auto [to, message] = sent_.front();
      sent_.pop_front();
      const auto* fetch = std::get_if<Fetch>(&message);
      if (!fetch || mute_ == to) continue;
      const Contribution& c = known_.at(fetch->object.contribution);
      for (const ChunkRun& run : fetch->missing) {
        for (uint32_t i = run.first; i < run.first + run.count; ++i) {
          ChunkHeader header = c.headers[i];
          header.transfer = fetch->attempt;
          ASSERT_TRUE(host_.OnChunk(to, header, AsBytes(c.payloads[i])).ok());
        }
      }
    }
  }

  SliceReport Report() {
    const std::vector<SliceReport> reports = host_.Reports();
    return reports.empty() ? SliceReport{} : reports[0];
  }

  struct Chunk {
    WorkerKey to;
    ChunkHeader header;
    std::string payload;
  };
  FaultStorage disk_;
  Rng rng_{3};
  std::deque<std::pair<WorkerKey, Message>> sent_;
  std::vector<Chunk> chunks_;
  std::vector<WorkerKey> overran_;
  bool room_ = true;
  std::optional<WorkerKey> mute_;
  std::map<SessionId, WorkerKey> keys_ = {
      {SessionId{1}, Key(1)}, {SessionId{2}, Key(2)}, {SessionId{3}, Key(3)}};
  std::map<ContributionId, Contribution> known_;
  SliceHost host_;
};

TEST_F(SliceHostTest, CollectsClosesAndServes) {
  SliceOrder order = Order(1, 0, false);
  Give({order});
  EXPECT_EQ(sent_.size(), 3u);
  Answer();
  EXPECT_TRUE(host_.TakeChanged());
  EXPECT_FALSE(host_.TakeChanged());
  EXPECT_EQ(Report().held.size(), 3u);
  EXPECT_EQ(Report().attempt, 0u);
  Close(order, 1, 3);
  Give({order});
  ASSERT_EQ(Report().attempt, 1u);
  const ObjectInfo aggregate = Report().aggregate;

  std::deque<std::pair<WorkerKey, Fetch>> asked;
  PartedFetch::Options o;
  uint64_t transfers = 7;
  o.whole = aggregate;
  o.parts = {{aggregate, Key(9)}};
  o.next_transfer = [&] { return transfers++; };
  o.ask = [&](const WorkerKey& holder, const Fetch& f) {
    asked.emplace_back(holder, f);
    return true;
  };
  auto fetch = PartedFetch::Create(o);
  ASSERT_TRUE(fetch.ok());
  fetch->Start(Timestamp{});
  room_ = false;
  host_.OnFetch(Key(5), asked.front().second);
  EXPECT_TRUE(chunks_.empty());
  room_ = true;
  host_.OnRoom();
  for (const Chunk& c : chunks_) fetch->OnChunk(Key(9), c.header, AsBytes(c.payload), Timestamp{});
  EXPECT_TRUE(fetch->complete());
}

TEST_F(SliceHostTest, ALaterAttemptIsWhatItWouldHaveBeenAlone) {
  SliceOrder order = Order(1, 0, false);
  Close(order, 1, 3);
  Give({order});
  Answer();
  const ObjectInfo all = Report().aggregate;
  Close(order, 2, 2);
  Give({order});
  EXPECT_EQ(Report().attempt, 2u);
  EXPECT_NE(Report().aggregate.root, all.root);
  Close(order, 3, 3);
  Give({order});
  EXPECT_EQ(Report().aggregate.root, all.root);
}

TEST_F(SliceHostTest, ContinuesWithItsResidualOnlyWhenToldSo) {
  SliceOrder first = Order(1, 0, false);
  Close(first, 1, 3);
  Give({first});
  Answer();
  SliceOrder second = Order(2, 1, true);
  Close(second, 1, 3);
  Give({second});
  Answer();
  ASSERT_FALSE(Report().failed);
  ASSERT_EQ(Report().attempt, 1u);
  const Digest with = Report().aggregate.root;
  second.continues = false;
  Give({second});
  Answer();
  ASSERT_EQ(Report().attempt, 1u);
  EXPECT_NE(Report().aggregate.root, with);
}

TEST_F(SliceHostTest, AnAbortedRoundLeavesTheResidual) {
  SliceOrder first = Order(1, 0, false);
  Close(first, 1, 3);
  Give({first});
  Answer();
  SliceOrder aborted = Order(2, 1, true);
  Give({aborted});
  Answer();
  SliceOrder third = Order(3, 1, true);
  Close(third, 1, 3);
  Give({third});
  Answer();
  EXPECT_EQ(Report().attempt, 1u);
  EXPECT_EQ(Report().held.size(), 3u);
}

TEST_F(SliceHostTest, SaysSoWhenItHasNotWhatItShouldContinue) {
  Give({Order(5, 4, true)});
  EXPECT_TRUE(Report().failed);
  EXPECT_TRUE(sent_.empty());
}

TEST_F(SliceHostTest, WhoDoesNotAnswerIsLostOnceTheRoundIsClosed) {
  SliceOrder order = Order(1, 0, false);
  mute_ = Key(2);
  Give({order});
  Answer();
  Timestamp now;
  const auto wait = [&] {
    for (int i = 0; i < 10; ++i) {
      now = now + Seconds(3);
      ASSERT_TRUE(host_.Tick(now).ok());
      Answer();
    }
  };
  wait();
  EXPECT_TRUE(Report().lost.empty());  // the round may go on without it
  Close(order, 1, 3);
  Give({order});
  wait();
  EXPECT_EQ(Report().lost, std::vector<ContributionId>{order.contributions[1].id});
  Close(order, 2, 1);
  Give({order});
  EXPECT_EQ(Report().attempt, 2u);
}

TEST_F(SliceHostTest, WhoseSessionIsOverIsLostAtOnce) {
  SliceOrder order = Order(1, 0, false);
  keys_.erase(SessionId{3});
  Close(order, 1, 3);
  Give({order});
  Answer();
  EXPECT_EQ(Report().lost, std::vector<ContributionId>{order.contributions[2].id});
}

TEST_F(SliceHostTest, RefusesContentThatIsNotTheAnnounced) {
  SliceOrder order = Order(1, 0, false);
  order.contributions[0].root[0] ^= 1;
  Give({order});
  Answer();
  EXPECT_EQ(Report().refused, std::vector<ContributionId>{order.contributions[0].id});
  EXPECT_EQ(Report().held.size(), 2u);
}

TEST_F(SliceHostTest, ChunksOfSomebodyElseDoNothing) {
  Give({Order(1, 0, false)});
  const auto fetch = std::get<Fetch>(sent_.front().second);
  const Contribution& c = known_.at(fetch.object.contribution);
  for (uint32_t i = 0; i < 3; ++i) {
    ChunkHeader header = c.headers[i];
    header.transfer = fetch.attempt;
    ASSERT_TRUE(host_.OnChunk(Key(77), header, AsBytes(c.payloads[i])).ok());
  }
  EXPECT_TRUE(Report().held.empty());
  Answer();
  EXPECT_EQ(Report().held.size(), 3u);
}

TEST_F(SliceHostTest, WhoSendsMoreThanItWasGrantedIsNamedAndRefused) {
  SliceOrder order = Order(1, 0, false);
  Give({order});
  const auto [to, message] = sent_.front();
  const Fetch fetch = std::get<Fetch>(message);
  const Contribution& c = known_.at(fetch.object.contribution);
  ChunkHeader header = c.headers[0];
  header.transfer = fetch.attempt;
  // Chunk 0 over and over: it is granted once, and may come twice.
  const uint64_t times = 2 * fetch.granted_bytes / header.bytes;
  for (uint64_t i = 0; i < times; ++i)
    ASSERT_TRUE(host_.OnChunk(to, header, AsBytes(c.payloads[0])).ok());
  EXPECT_TRUE(overran_.empty());
  ASSERT_TRUE(host_.OnChunk(to, header, AsBytes(c.payloads[0])).ok());
  EXPECT_EQ(overran_, std::vector{to});
  EXPECT_EQ(Report().refused, std::vector{fetch.object.contribution});
  ASSERT_TRUE(host_.OnChunk(to, header, AsBytes(c.payloads[0])).ok());  // of no attempt any more
  EXPECT_EQ(overran_.size(), 1u);
  Answer();
  EXPECT_EQ(Report().held.size(), 2u);
}

TEST_F(SliceHostTest, ADiskThatFailsEndsTheSlices) {
  SliceOrder order = Order(1, 0, false);
  disk_.PowerOffAfter(3);
  EXPECT_FALSE(host_.SetOrders(kGeneration, {order}, keys_).ok());
  host_.FailAll();
  EXPECT_TRUE(Report().failed);
}

TEST_F(SliceHostTest, OrdersThatCannotBeAreIgnored) {
  SliceOrder order = Order(1, 0, false);
  order.first_chunk = 2;
  SliceOrder other = Order(1, 0, false);
  other.fragment = FragmentId{9};
  SliceOrder empty = Order(1, 0, false);
  empty.chunks = 0;
  Give({order, other, empty});
  EXPECT_TRUE(host_.Reports().empty());
}

TEST_F(SliceHostTest, ANewGenerationForgetsEverything) {
  SliceOrder order = Order(1, 0, false);
  Close(order, 1, 3);
  Give({order});
  Answer();
  const ObjectId old = Report().aggregate.id;
  ASSERT_TRUE(host_.ReadChunk(old, 0).ok());
  ASSERT_TRUE(host_.SetOrders({9, 9}, {}, keys_).ok());
  EXPECT_FALSE(host_.ReadChunk(old, 0).ok());
}

// ---- an object in parts ----

class PartedFetchTest : public testing::Test {
 protected:
  PartedFetchTest() {
    for (int i = 0; i < 5; ++i)
      payloads_.push_back(std::string(10 + i, static_cast<char>('a' + i)));
    whole_ = Info(0, 5);
    options_.whole = whole_;
    options_.parts = {{Info(0, 2), Key(1)}, {Info(2, 3), Key(2)}};
    options_.next_transfer = [this] { return ++transfers_; };
    options_.ask = [this](const WorkerKey& holder, const Fetch& f) {
      asked_.emplace_back(holder, f);
      return true;
    };
  }

  ObjectInfo Info(uint32_t first, uint32_t chunks) {
    ObjectInfo info{{ObjectKind::kAggregate, kGeneration, {}, Version{1}, {}, first}, chunks};
    std::vector<Digest> digests;
    for (uint32_t i = first; i < first + chunks; ++i) {
      info.bytes += payloads_[i].size();
      digests.push_back(ChunkDigest(AsBytes(payloads_[i])));
    }
    info.root = RootDigest(digests);
    return info;
  }

  // Every holder but `mute` gives what it is asked for.
  void Answer(PartedFetch& fetch, const WorkerKey& mute = Key(99)) {
    while (!asked_.empty()) {
      const auto [holder, f] = asked_.front();
      asked_.pop_front();
      if (holder == mute) continue;
      for (const ChunkRun& run : f.missing) {
        for (uint32_t i = run.first; i < run.first + run.count; ++i) {
          const std::string& payload = payloads_[f.object.first_chunk + i];
          const ChunkHeader header{ObjectKind::kAggregate, f.attempt, i, 3, 10, payload.size(),
                                   Xxh3(AsBytes(payload))};
          fetch.OnChunk(holder, header, AsBytes(payload), now_);
        }
      }
    }
  }

  std::vector<std::string> payloads_;
  ObjectInfo whole_;
  PartedFetch::Options options_;
  uint64_t transfers_ = 0;
  Timestamp now_;
  std::deque<std::pair<WorkerKey, Fetch>> asked_;
};

TEST_F(PartedFetchTest, PartsBecomeTheWhole) {
  auto fetch = PartedFetch::Create(options_);
  ASSERT_TRUE(fetch.ok());
  fetch->Start(now_);
  Answer(*fetch);
  ASSERT_TRUE(fetch->complete());
  EXPECT_EQ(*fetch->Take(), payloads_);
}

TEST_F(PartedFetchTest, ASilentHolderIsReplacedByTheCoordinator) {
  auto fetch = PartedFetch::Create(options_);
  fetch->Start(now_);
  Answer(*fetch, Key(2));
  EXPECT_FALSE(fetch->complete());
  now_ = now_ + Seconds(6);
  fetch->Tick(now_);
  ASSERT_EQ(asked_.size(), 1u);
  EXPECT_EQ(asked_[0].first, WorkerKey{});
  EXPECT_EQ(asked_[0].second.object.first_chunk, 2u);
  Answer(*fetch);
  ASSERT_TRUE(fetch->complete());
  EXPECT_EQ(*fetch->Take(), payloads_);
}

TEST_F(PartedFetchTest, ARefusalAsksTheCoordinatorAndThenNobody) {
  auto fetch = PartedFetch::Create(options_);
  fetch->Start(now_);
  asked_.clear();
  const ObjectId part = options_.parts[0].object.id;
  EXPECT_TRUE(fetch->OnRefused(Key(1), part, now_));
  ASSERT_EQ(asked_.size(), 1u);
  EXPECT_EQ(asked_[0].first, WorkerKey{});
  EXPECT_FALSE(fetch->OnRefused(WorkerKey{}, part, now_));
}

TEST_F(PartedFetchTest, PartsOfSomethingElseAreNotTaken) {
  options_.whole.root[0] ^= 1;
  auto fetch = PartedFetch::Create(options_);
  fetch->Start(now_);
  const auto asked = asked_;
  asked_.clear();
  for (const auto& request : asked) {
    asked_ = {request};
    const auto before = transfers_;
    const auto [holder, f] = asked_.front();
    for (uint32_t i = 0; i < f.missing[0].count; ++i) {
      const std::string& payload = payloads_[f.object.first_chunk + i];
      fetch->OnChunk(
          holder,
          {ObjectKind::kAggregate, f.attempt, i, 3, 10, payload.size(), Xxh3(AsBytes(payload))},
          AsBytes(payload), now_);
    }
    if (holder == Key(1)) {
      EXPECT_EQ(transfers_, before);
    }
  }
  EXPECT_FALSE(fetch->complete());
  // All of it is asked of the coordinator, whose word counts.
  size_t of_coordinator = 0;
  for (const auto& [holder, f] : asked_) of_coordinator += holder == WorkerKey{};
  EXPECT_EQ(of_coordinator, 2u);
}

TEST_F(PartedFetchTest, RefusesPartsThatAreNotTheWhole) {
  options_.parts.pop_back();
  EXPECT_EQ(PartedFetch::Create(options_).status().code(), absl::StatusCode::kInvalidArgument);
  options_.parts.clear();
  options_.whole.chunks = 0;
  EXPECT_EQ(PartedFetch::Create(options_).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace longhaul
