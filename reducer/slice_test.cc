// A fragment reduced in slices: whoever reduces them, the bits are the same.
#include <gtest/gtest.h>

#include "common/fault_storage.h"
#include "reducer/reducer.h"
#include "reducer/test_rig.h"

namespace longhaul {
namespace {

constexpr uint64_t kElements = 64 * 6 + 17;  // seven chunks
const std::vector<uint32_t> kCuts = {3, 1, 3};

struct SliceCase {
  CodecSpec up, down;
  float beta;
};

std::unique_ptr<Reducer> MustOpen(const Reducer::Options& options) {
  auto reducer = Reducer::Open(options);
  LONGHAUL_CHECK(reducer.ok(), "the reducer must open");
  return std::move(*reducer);
}

// The part of a contribution that begins at chunk `first`.
Contribution PartOf(const Contribution& c, uint32_t first, uint32_t chunks) {
  Contribution part;
  part.weight = c.weight;
  part.info = c.info;
  part.info.id.first_chunk = first;
  part.info.chunks = chunks;
  part.info.bytes = 0;
  std::vector<Digest> digests;
  for (uint32_t i = 0; i < chunks; ++i) {
    part.headers.push_back(c.headers[first + i]);
    part.headers.back().chunk = i;
    part.payloads.push_back(c.payloads[first + i]);
    part.info.bytes += part.payloads.back().size();
    digests.push_back(ChunkDigest(AsBytes(part.payloads.back())));
  }
  part.info.root = RootDigest(digests);
  return part;
}

class SliceTest : public testing::TestWithParam<SliceCase> {
 protected:
  SliceTest() {
    whole_ = {&disk_,        "star",          FragmentId{4},   kElements,
              GetParam().up, GetParam().down, GetParam().beta, 64};
    if (HasBitBudget(whole_.codec_up.id)) {
      // Tensors and rows that no slice respects.
      whole_.layout = {{0, 100, TensorClass::kEmbedding, 10},
                       {100, 30, TensorClass::kVector, 0},
                       {130, kElements - 130, TensorClass::kMatrix, 0}};
    }
    star_ = MustOpen(whole_);
    Reducer::Options copy = whole_;
    copy.folder = "replica";
    replica_ = MustOpen(copy);
    parameters_ = RandomFloats(rng_, kElements, 1.0);
    momentum_ = RandomFloats(rng_, kElements, 0.1);
    for (Reducer* r : {star_.get(), replica_.get()})
      EXPECT_TRUE(r->Load(kGeneration, Version{0}, parameters_, momentum_, {}).ok());
    uint32_t first = 0;
    for (uint32_t chunks : kCuts) {
      Reducer::Options o = whole_;
      o.folder = "slice" + std::to_string(first);
      o.first_chunk = first;
      o.elements = std::min<uint64_t>(chunks * 64, kElements - first * 64);
      o.replica = false;
      slices_.push_back(MustOpen(o));
      EXPECT_TRUE(slices_.back()->Load(kGeneration, Version{0}, {}, {}, {}).ok());
      firsts_.push_back(first);
      first += chunks;
    }
  }

  void Round(uint64_t round) {
    Reducer::CloseOrder order{.round = RoundId{round},
                              .attempt = 1,
                              .version = Version{round},
                              .outer_lr = 0.7f,
                              .outer_momentum = 0.6f,
                              .slices = kCuts};
    for (uint64_t i = 1; i <= 4; ++i) {
      const ContributionId id{SessionId{i}, round};
      const Contribution c =
          MakeContribution(whole_, Version{round - 1}, id, static_cast<uint32_t>(i * 10),
                           RandomFloats(rng_, kElements, 0.3));
      ASSERT_TRUE(Deliver(*star_, c)->held);
      for (size_t s = 0; s < kCuts.size(); ++s)
        ASSERT_TRUE(Deliver(*slices_[s], PartOf(c, firsts_[s], kCuts[s]))->held);
      order.include.push_back({id, c.weight});
      order.divisor += c.weight;
    }
    const auto wanted = star_->Close(order);
    ASSERT_TRUE(wanted.ok()) << wanted.status();
    const std::vector<std::string> chunks = CloseSlices(order);
    const auto got = replica_->Assemble(order, chunks);
    ASSERT_TRUE(got.ok()) << got.status();
    EXPECT_EQ(*got, *wanted);
    for (Reducer* r : {star_.get(), replica_.get()})
      ASSERT_TRUE(r->Install(RoundId{round}, 1).ok());
    for (const auto& slice : slices_) ASSERT_TRUE(slice->Install(RoundId{round}, 1).ok());
  }

  std::vector<std::string> CloseSlices(Reducer::CloseOrder order) {
    order.slices.clear();
    std::vector<std::string> chunks;
    for (size_t s = 0; s < kCuts.size(); ++s) {
      const auto prepared = slices_[s]->Close(order);
      EXPECT_TRUE(prepared.ok()) << prepared.status();
      EXPECT_EQ(prepared->aggregate.id.first_chunk, firsts_[s]);
      for (uint32_t i = 0; i < kCuts[s]; ++i)
        chunks.push_back(slices_[s]->AggregateChunk(order.version, i)->payload);
    }
    return chunks;
  }

  FaultStorage disk_;
  Rng rng_{77};
  Reducer::Options whole_;
  std::unique_ptr<Reducer> star_, replica_;
  std::vector<std::unique_ptr<Reducer>> slices_;
  std::vector<uint32_t> firsts_;
  std::vector<float> parameters_, momentum_;
};

TEST_P(SliceTest, ThreeReducersAreOneStar) {
  for (uint64_t round = 1; round <= 3; ++round) Round(round);
}

TEST_P(SliceTest, RefusesWhatIsNotAnAggregate) {
  const Reducer::CloseOrder order{.round = RoundId{1}, .attempt = 1, .version = Version{1}};
  EXPECT_EQ(replica_->Assemble(order, {}).status().code(), absl::StatusCode::kInvalidArgument);
  const std::vector<std::string> junk(7, "junk");
  EXPECT_EQ(replica_->Assemble(order, junk).status().code(), absl::StatusCode::kInvalidArgument);
  Round(1);  // nothing has changed
}

TEST_P(SliceTest, RefusesAPartOfAnotherSlice) {
  const Contribution c = MakeContribution(whole_, Version{0}, {SessionId{1}, 1}, 5,
                                          RandomFloats(rng_, kElements, 0.3));
  EXPECT_FALSE(slices_[0]->Expect(PartOf(c, 4, 3).info, 5).ok());
  EXPECT_FALSE(star_->Expect(PartOf(c, 4, 3).info, 5).ok());
  EXPECT_TRUE(slices_[2]->Expect(PartOf(c, 4, 3).info, 5).ok());
}

INSTANTIATE_TEST_SUITE_P(
    Codecs, SliceTest,
    testing::Values(SliceCase{CodecId::kInt8, CodecId::kInt8, 0.9f},
                    SliceCase{CodecId::kFloat32, CodecId::kBf16, -1.0f},
                    SliceCase{{CodecId::kBitBudget, 2000}, {CodecId::kBitBudget, 4000}, 0.9f},
                    SliceCase{{CodecId::kTopK, 1000}, {CodecId::kTopK, 2000}, 1.0f}));

// Without a plan for the whole, it is all one where the cuts are.
TEST(SliceCutTest, CodecsOfFixedSizeDoNotSeeTheCuts) {
  FaultStorage disk;
  Rng rng(5);
  std::vector<Reducer::Prepared> results;
  const Reducer::Options options{
      &disk, "r", FragmentId{0}, kElements, CodecId::kInt4, CodecId::kInt4, 0.9f, 64};
  const Contribution c =
      MakeContribution(options, Version{0}, {SessionId{1}, 1}, 3, RandomFloats(rng, kElements, 1));
  for (const std::vector<uint32_t>& cuts : {std::vector<uint32_t>{}, kCuts, {1, 1, 5}}) {
    auto reducer = MustOpen(options);
    ASSERT_TRUE(reducer
                    ->Load(kGeneration, Version{0}, std::vector<float>(kElements),
                           std::vector<float>(kElements), {})
                    .ok());
    ASSERT_TRUE(Deliver(*reducer, c)->held);
    auto prepared = reducer->Close({.round = RoundId{1},
                                    .attempt = 1,
                                    .version = Version{1},
                                    .include = {{c.info.id.contribution, 3}},
                                    .divisor = 3,
                                    .slices = cuts});
    ASSERT_TRUE(prepared.ok());
    results.push_back(*prepared);
  }
  EXPECT_EQ(results[1], results[0]);
  EXPECT_EQ(results[2], results[0]);
}

TEST(SliceCutTest, RefusesCutsThatDoNotCoverTheFragment) {
  FaultStorage disk;
  Rng rng(5);
  const Reducer::Options options{
      &disk, "r", FragmentId{0}, kElements, CodecId::kInt4, CodecId::kInt4, 0.9f, 64};
  auto reducer = MustOpen(options);
  ASSERT_TRUE(reducer
                  ->Load(kGeneration, Version{0}, std::vector<float>(kElements),
                         std::vector<float>(kElements), {})
                  .ok());
  const Contribution c =
      MakeContribution(options, Version{0}, {SessionId{1}, 1}, 3, RandomFloats(rng, kElements, 1));
  ASSERT_TRUE(Deliver(*reducer, c)->held);
  const Reducer::CloseOrder order{.round = RoundId{1},
                                  .attempt = 1,
                                  .version = Version{1},
                                  .include = {{c.info.id.contribution, 3}},
                                  .divisor = 3,
                                  .slices = {3, 3}};
  EXPECT_EQ(reducer->Close(order).status().code(), absl::StatusCode::kInvalidArgument);
}

// A contribution that cannot be added any more is named and dropped, and the round goes on.
TEST(UnusableTest, ADamagedContributionIsNamed) {
  FaultStorage disk;
  Rng rng(9);
  const Reducer::Options options{
      &disk, "r", FragmentId{0}, kElements, CodecId::kInt8, CodecId::kInt8, 0.9f, 64};
  auto reducer = MustOpen(options);
  const std::vector<float> zeros(kElements);
  ASSERT_TRUE(reducer->Load(kGeneration, Version{0}, zeros, zeros, {}).ok());
  Reducer::CloseOrder all{.round = RoundId{1}, .attempt = 1, .version = Version{1}, .divisor = 3};
  for (uint64_t i = 1; i <= 3; ++i) {
    const ContributionId id{SessionId{i}, 1};
    const Contribution c =
        MakeContribution(options, Version{0}, id, 1, RandomFloats(rng, kElements, 0.5));
    ASSERT_TRUE(Deliver(*reducer, c)->held);
    all.include.push_back({id, 1});
  }
  Reducer::CloseOrder others = all;
  others.include.erase(others.include.begin() + 1);
  others.divisor = 2;
  const auto wanted = reducer->Close(others);
  ASSERT_TRUE(wanted.ok());
  EXPECT_TRUE(reducer->TakeUnusable(all.include)->empty());

  FaultStorage::Image image = disk.Contents();
  image.at("r/contributions/2-1.log").back() ^= 1;
  disk.Load(image);
  EXPECT_EQ(reducer->Close(all).status().code(), absl::StatusCode::kDataLoss);
  const auto unusable = reducer->TakeUnusable(all.include);
  ASSERT_TRUE(unusable.ok());
  EXPECT_EQ(*unusable, std::vector<ContributionId>{all.include[1].id});
  const auto again = reducer->Close(others);
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(*again, *wanted);
}

}  // namespace
}  // namespace longhaul
