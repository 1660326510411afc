#include "reducer/reducer.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "common/fault_storage.h"
#include "reducer/test_rig.h"
#include "sync/state_hash.h"

namespace longhaul {
namespace {

struct Case {
  uint64_t elements;
  CodecSpec up, down;
  float beta;
  AggregationRules rules = {};
};

// Tensors that cross the borders of chunks, and an odd one at the end.
std::vector<TensorSpan> Tensors(uint64_t elements) {
  if (elements < 100) return {};
  return {{0, 10}, {10, 75, TensorClass::kVector}, {85, elements - 86}, {elements - 1, 1}};
}

std::unique_ptr<Reducer> MustOpen(const Reducer::Options& options) {
  auto reducer = Reducer::Open(options);
  LONGHAUL_CHECK(reducer.ok(), "the reducer must open");
  return std::move(*reducer);
}

// Several rounds of one reducer beside its naive twin, with all the disorder that a network makes.
class TwinRounds {
 public:
  TwinRounds(const Case& c, uint64_t seed) : rng_(seed) {
    naive_.options = {
        &disk_,
        "f0",
        FragmentId{4},
        c.elements,
        c.up,
        c.down,
        c.beta,
        64,
        c.rules == AggregationRules() ? std::vector<TensorSpan>() : Tensors(c.elements),
        c.rules};
    naive_.version = Version{7};
    naive_.parameters = RandomFloats(rng_, c.elements, 1.0);
    naive_.momentum = RandomFloats(rng_, c.elements, 0.1);
    naive_.residual = RandomFloats(rng_, c.beta < 0 ? 0 : c.elements, 0.01);
    reducer_ = MustOpen(naive_.options);
    EXPECT_TRUE(
        reducer_
            ->Load(kGeneration, naive_.version, naive_.parameters, naive_.momentum, naive_.residual)
            .ok());
  }

  void Round(uint64_t round) {
    known_.clear();
    for (uint64_t i = 0; i < 5; ++i) {
      const ContributionId id{SessionId{1 + i}, round};
      known_[id] = MakeContribution(naive_.options, naive_.version, id,
                                    1 + static_cast<uint32_t>(rng_.Below(1000)),
                                    RandomFloats(rng_, naive_.options.elements, i == 4 ? 9 : 0.5));
    }
    Arrive();
    DropOne();
    Reducer::CloseOrder first = Order(round, 1, known_.size());
    const Reducer::Prepared early = CloseBoth(first);
    // Again, then a later attempt with fewer and other weights, then the first list once more.
    EXPECT_EQ(CloseBoth(first), early);
    Reducer::CloseOrder second = Order(round, 2, 1 + rng_.Below(known_.size()));
    CloseBoth(second);
    EXPECT_EQ(CloseBoth(first), early);
    const Reducer::Prepared last = CloseBoth(second);
    EXPECT_EQ(reducer_->Install(RoundId{round}, 1).code(), absl::StatusCode::kFailedPrecondition);
    ASSERT_TRUE(reducer_->Install(RoundId{round}, 2).ok());
    naive_.Install(naive_.Close(second, known_));
    ExpectSameState();
    EXPECT_EQ(StateHash(reducer_->parameters(), reducer_->momentum(), 64), last.state_hash);
    EXPECT_EQ(reducer_->contributions(), 0u);
    EXPECT_TRUE(disk_.List("f0/contributions").empty());
  }

  const Reducer& reducer() const { return *reducer_; }

 private:
  // Chunks of all contributions in random order, some twice, some damaged once.
  void Arrive() {
    std::vector<std::pair<ContributionId, size_t>> chunks;
    for (const auto& [id, c] : known_) {
      ASSERT_TRUE(reducer_->Expect(c.info, c.weight).ok());
      for (size_t i = 0; i < c.payloads.size(); ++i) {
        chunks.emplace_back(id, i);
        if (rng_.Chance(1, 4)) chunks.emplace_back(id, i);
      }
    }
    for (size_t i = chunks.size(); i > 1; --i) std::swap(chunks[i - 1], chunks[rng_.Below(i)]);
    size_t held = 0;
    for (const auto& [id, i] : chunks) {
      const Contribution& c = known_.at(id);
      if (rng_.Chance(1, 5)) {
        std::string damaged = c.payloads[i];
        damaged[rng_.Below(damaged.size())] ^= 4;
        const auto refused = reducer_->AddChunk(id, c.headers[i], AsBytes(damaged));
        EXPECT_TRUE(refused.ok() || absl::IsDataLoss(refused.status()));
      }
      const auto progress = reducer_->AddChunk(id, c.headers[i], AsBytes(c.payloads[i]));
      ASSERT_TRUE(progress.ok()) << progress.status();
      if (progress->held) ++held, ExpectNorm(*progress->held, c);
    }
    EXPECT_GE(held, known_.size());
  }

  static void ExpectNorm(const Reducer::Held& held, const Contribution& c) {
    unsigned __int128 norm = 0;
    for (float v : c.decoded) {
      const auto g = static_cast<__int128>(std::nearbyint(std::ldexp(static_cast<double>(v), 40)));
      norm += static_cast<unsigned __int128>(g * g);
    }
    EXPECT_EQ(held.id, c.info.id.contribution);
    EXPECT_EQ(held.squared_norm_high, static_cast<uint64_t>(norm >> 64));
    EXPECT_EQ(held.squared_norm_low, static_cast<uint64_t>(norm));
  }

  void DropOne() {
    const ContributionId id = known_.begin()->first;
    EXPECT_TRUE(reducer_->Drop(id).ok());
    EXPECT_TRUE(reducer_->Drop(id).ok());
    known_.erase(id);
  }

  Reducer::CloseOrder Order(uint64_t round, uint32_t attempt, size_t how_many) {
    Reducer::CloseOrder order{RoundId{round}, attempt, naive_.version.Next(), {}, 0, 0.7f, 0.6f};
    for (const auto& [id, c] : known_) {
      if (order.include.size() == how_many) break;
      const bool other_weight = attempt == 2 && rng_.Chance(1, 2);
      order.include.push_back({id, other_weight ? c.weight + 3 : c.weight});
      order.divisor += order.include.back().weight;
    }
    std::reverse(order.include.begin(), order.include.end());
    return order;
  }

  Reducer::Prepared CloseBoth(const Reducer::CloseOrder& order) {
    const auto prepared = reducer_->Close(order);
    LONGHAUL_CHECK(prepared.ok(), prepared.status().ToString().c_str());
    ExpectAggregate(order, *prepared);
    ExpectSameState();  // nothing visible has changed
    return *prepared;
  }

  void ExpectAggregate(const Reducer::CloseOrder& order, const Reducer::Prepared& prepared) {
    const NaiveReducer::Outcome expected = naive_.Close(order, known_);
    EXPECT_EQ(prepared.aggregate.root, expected.root);
    EXPECT_EQ(prepared.state_hash, expected.state_hash);
    EXPECT_EQ(prepared.aggregate.id.version, order.version);
    EXPECT_EQ(prepared.aggregate.chunks, expected.payloads.size());
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < expected.payloads.size(); ++i) {
      const auto chunk = reducer_->AggregateChunk(order.version, i);
      LONGHAUL_CHECK(chunk.ok(), "an aggregate chunk must be there");
      EXPECT_EQ(chunk->payload, expected.payloads[i]);
      EXPECT_EQ(chunk->header.checksum, Xxh3(AsBytes(chunk->payload)));
      EXPECT_EQ(chunk->header.kind, ObjectKind::kAggregate);
      bytes += chunk->payload.size();
    }
    EXPECT_EQ(prepared.aggregate.bytes, bytes);
    const auto sizes = reducer_->AggregateChunkBytes(order.version);
    LONGHAUL_CHECK(sizes.ok(), "an aggregate must be there");
    ASSERT_EQ(sizes->size(), expected.payloads.size());
    for (size_t i = 0; i < sizes->size(); ++i) EXPECT_EQ((*sizes)[i], expected.payloads[i].size());
  }

  void ExpectSameState() {
    EXPECT_EQ(reducer_->version(), naive_.version);
    EXPECT_TRUE(std::ranges::equal(reducer_->parameters(), naive_.parameters));
    EXPECT_TRUE(std::ranges::equal(reducer_->momentum(), naive_.momentum));
    EXPECT_TRUE(std::ranges::equal(reducer_->residual(), naive_.residual));
  }

  FaultStorage disk_;
  Rng rng_;
  NaiveReducer naive_;
  std::unique_ptr<Reducer> reducer_;
  std::map<ContributionId, Contribution> known_;
};

TEST(ReducerTest, EqualsTheNaiveTwin) {
  const Case cases[] = {
      {1, CodecId::kInt8, CodecId::kInt8, 0.9f},
      {63, CodecId::kFloat32, CodecId::kFloat32, 0.9f},
      {64, CodecId::kInt4, CodecId::kInt8, -1.0f},
      {65, CodecId::kBf16, CodecId::kInt4, 1.0f},
      {200, CodecId::kInt2, CodecId::kInt4, 0.9f},
      {1000, CodecId::kInt8, CodecId::kInt2, 0.5f},
      {640, CodecId::kInt4, CodecId::kBf16, 0.0f},
      {1000, {CodecId::kBitBudget, 2000}, {CodecId::kBitBudget, 4000}, 0.9f},
      {640, {CodecId::kTopK, 500}, {CodecId::kBitBudget, 500}, 0.9f},
      {65, {CodecId::kBitBudget, 8000}, {CodecId::kTopK, 3000}, 0.5f},
      {300, CodecId::kInt8, CodecId::kInt8, 0.9f, {.norm_cap = true}},
      {640, CodecId::kInt4, CodecId::kFloat32, -1.0f, {.restore_norm = true}},
      {1000,
       {CodecId::kBitBudget, 500},
       {CodecId::kBitBudget, 1000},
       0.97f,
       {.norm_cap = true, .restore_norm = true}},
      {640, {CodecId::kTopK, 500}, CodecId::kInt8, 0.9f, {.contributor_mean = true}},
      {90,
       {CodecId::kTopK, 500},
       CodecId::kInt8,
       0.9f,
       {.contributor_mean = true, .restore_norm = true}}};
  uint64_t seed = 1;
  for (const Case& c : cases) {
    TwinRounds rounds(c, ++seed);
    for (uint64_t round = 1; round <= 4; ++round) {
      rounds.Round(round);
      ASSERT_FALSE(testing::Test::HasFailure()) << c.elements << " elements, round " << round;
    }
  }
}

TEST(ReducerTest, MissingChunksAreRuns) {
  FaultStorage disk;
  const Reducer::Options options{&disk, "f", FragmentId{0}, 640, CodecId::kInt8, CodecId::kInt8,
                                 0.9f,  64};
  auto reducer = MustOpen(options);
  Rng rng(1);
  const std::vector<float> zero(640, 0.0f);
  ASSERT_TRUE(reducer->Load(kGeneration, Version{0}, zero, zero, {}).ok());
  const ContributionId id{SessionId{1}, 1};
  const Contribution c = MakeContribution(options, Version{0}, id, 1, RandomFloats(rng, 640, 1.0));
  ASSERT_TRUE(reducer->Expect(c.info, 1).ok());
  EXPECT_EQ(reducer->MissingChunks(id, 9), (std::vector<ChunkRun>{{0, 10}}));
  for (uint32_t i : {3, 4, 7}) {
    const auto progress = reducer->AddChunk(id, c.headers[i], AsBytes(c.payloads[i]));
    ASSERT_TRUE(progress.ok());
    EXPECT_FALSE(progress->held.has_value());
  }
  EXPECT_EQ(reducer->MissingChunks(id, 9), (std::vector<ChunkRun>{{0, 3}, {5, 2}, {8, 2}}));
  EXPECT_EQ(reducer->MissingChunks(id, 2), (std::vector<ChunkRun>{{0, 3}, {5, 2}}));
  EXPECT_EQ(reducer->Expect(c.info, 1)->have, 3u);
  ASSERT_TRUE(Deliver(*reducer, c)->held.has_value());
  EXPECT_TRUE(reducer->MissingChunks(id, 9).empty());
  EXPECT_TRUE(reducer->MissingChunks({SessionId{2}, 1}, 9).empty());
}

TEST(ReducerTest, MemoryDoesNotGrowWithTheWorkers) {
  FaultStorage disk;
  constexpr uint64_t kElements = 20000;
  const Reducer::Options options{&disk,          "f",  FragmentId{0}, kElements, CodecId::kInt4,
                                 CodecId::kInt8, 0.9f, 4096};
  auto reducer = MustOpen(options);
  Rng rng(1);
  const std::vector<float> zero(kElements, 0.0f);
  ASSERT_TRUE(reducer->Load(kGeneration, Version{0}, zero, zero, {}).ok());
  const std::vector<float> values = RandomFloats(rng, kElements, 1.0);
  for (uint64_t i = 1; i <= 50; ++i) {
    const ContributionId id{SessionId{i}, 1};
    const Contribution c = MakeContribution(options, Version{0}, id, 1, values);
    ASSERT_TRUE(Deliver(*reducer, c)->held.has_value());
    ASSERT_LE(reducer->MemoryBytes(), 5 * 4 * kElements + i * 400);
  }
  EXPECT_GE(reducer->MemoryBytes(), 5 * 4 * kElements);
}

TEST(ReducerTest, OldAggregatesAreKeptUntilDeleted) {
  FaultStorage disk;
  const Reducer::Options options{
      &disk, "f", FragmentId{0}, 10, CodecId::kFloat32, CodecId::kFloat32, 0.9f, 64};
  auto reducer = MustOpen(options);
  const std::vector<float> zero(10, 0.0f), ones(10, 1.0f);
  ASSERT_TRUE(reducer->Load(kGeneration, Version{0}, zero, zero, {}).ok());
  for (uint64_t v = 1; v <= 12; ++v) {
    const ContributionId id{SessionId{1}, v};
    ASSERT_TRUE(Deliver(*reducer, MakeContribution(options, Version{v - 1}, id, 1, ones)).ok());
    ASSERT_TRUE(reducer->Close({RoundId{v}, 0, Version{v}, {{id, 1}}, 1, 1.0f, 0.0f}).ok());
    ASSERT_TRUE(reducer->Install(RoundId{v}, 0).ok());
  }
  EXPECT_EQ(reducer->parameters()[0], -12.0f);
  EXPECT_EQ(disk.List("f/residuals"), std::vector<std::string>{"12"});
  EXPECT_TRUE(reducer->AggregateChunk(Version{2}, 0).ok());
  ASSERT_TRUE(reducer->DeleteAggregatesBefore(Version{10}).ok());
  EXPECT_TRUE(absl::IsNotFound(reducer->AggregateChunk(Version{9}, 0).status()));
  EXPECT_TRUE(reducer->AggregateChunk(Version{10}, 0).ok());
  EXPECT_TRUE(reducer->AggregateChunk(Version{12}, 0).ok());
  EXPECT_FALSE(reducer->AggregateChunk(Version{12}, 1).ok());
}

TEST(ReducerTest, WorksOnRealFiles) {
  const std::string root = testing::TempDir() + "/longhaul_reducer_test";
  auto disk = OpenFileStorage(root);
  ASSERT_TRUE(disk.ok());
  ASSERT_TRUE((*disk)->Remove("f").ok());
  const Reducer::Options options{
      disk->get(), "f", FragmentId{0}, 150, CodecId::kInt8, CodecId::kInt8, 0.9f, 64};
  auto reducer = MustOpen(options);
  Rng rng(2);
  const std::vector<float> zero(150, 0.0f);
  ASSERT_TRUE(reducer->Load(kGeneration, Version{0}, zero, zero, {}).ok());
  const ContributionId id{SessionId{1}, 1};
  const Contribution c = MakeContribution(options, Version{0}, id, 3, RandomFloats(rng, 150, 1.0));
  ASSERT_TRUE(Deliver(*reducer, c)->held.has_value());
  // Another process finds the log, one chunk of which is torn, and goes on.
  const std::string log = "f/contributions/1-1.log";
  const std::string bytes = *(*disk)->Read(log, 0, 1 << 20);
  ASSERT_TRUE((*(*disk)->OpenAppend(log, true))->Append(AsBytes(bytes.substr(0, 300))).ok());
  reducer = MustOpen(options);
  ASSERT_TRUE(reducer->Load(kGeneration, Version{0}, zero, zero, {}).ok());
  EXPECT_EQ(reducer->Expect(c.info, 3)->have, 1u);
  ASSERT_TRUE(Deliver(*reducer, c)->held.has_value());
  EXPECT_EQ(*(*disk)->Read(log, 0, 1 << 20), bytes);
  const Reducer::CloseOrder order{RoundId{1}, 1, Version{1}, {{id, 3}}, 3, 0.7f, 0.6f};
  const auto prepared = reducer->Close(order);
  ASSERT_TRUE(prepared.ok()) << prepared.status();
  ASSERT_TRUE(reducer->Install(RoundId{1}, 1).ok());
  const std::vector<float> installed(reducer->parameters().begin(), reducer->parameters().end());
  reducer = MustOpen(options);
  ASSERT_TRUE(reducer->Load(kGeneration, Version{0}, zero, zero, {}).ok());
  const auto recovered = reducer->Recover(std::vector<CommitView>{CommitOf(order, *prepared)});
  ASSERT_TRUE(recovered.ok());
  EXPECT_FALSE(recovered->residual_reset);
  EXPECT_TRUE(std::ranges::equal(reducer->parameters(), installed));
  ASSERT_TRUE((*disk)->Remove("f").ok());
}

}  // namespace
}  // namespace longhaul
