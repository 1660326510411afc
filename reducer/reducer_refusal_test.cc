// What a reducer must not accept.
#include <gtest/gtest.h>

#include <limits>

#include "common/fault_storage.h"
#include "reducer/reducer.h"
#include "reducer/test_rig.h"

namespace longhaul {
namespace {

class ReducerRefusalTest : public testing::Test {
 protected:
  ReducerRefusalTest() {
    options_ = {&disk_, "f", FragmentId{2}, 150, CodecId::kFloat32, CodecId::kInt8, 0.9f, 64};
    reducer_ = std::move(*Reducer::Open(options_));
    const std::vector<float> zero(150, 0.0f);
    EXPECT_TRUE(reducer_->Load(kGeneration, Version{5}, zero, zero, {}).ok());
  }
  Contribution Make(uint64_t session) {
    return MakeContribution(options_, Version{5}, {SessionId{session}, 1}, 2,
                            RandomFloats(rng_, 150, 1.0));
  }
  Reducer::CloseOrder Order(std::vector<Reducer::Included> include) {
    return {RoundId{9}, 1, Version{6}, std::move(include), 4, 0.7f, 0.6f};
  }

  FaultStorage disk_;
  Rng rng_{3};
  Reducer::Options options_;
  std::unique_ptr<Reducer> reducer_;
};

TEST_F(ReducerRefusalTest, Options) {
  const Reducer::Options good = options_;
  auto refused = [&](auto change) {
    Reducer::Options o = good;
    change(o);
    return absl::IsInvalidArgument(Reducer::Open(o).status());
  };
  EXPECT_TRUE(refused([](auto& o) { o.storage = nullptr; }));
  EXPECT_TRUE(refused([](auto& o) { o.elements = 0; }));
  EXPECT_TRUE(refused([](auto& o) { o.chunk_elements = 0; }));
  EXPECT_TRUE(refused([](auto& o) { o.chunk_elements = 1 << 20; }));
  EXPECT_TRUE(refused([](auto& o) { o.elements = UINT64_MAX; }));
  EXPECT_TRUE(refused([](auto& o) { o.codec_up = static_cast<CodecId>(77); }));
  EXPECT_TRUE(refused([](auto& o) { o.beta_down = std::nanf(""); }));
  EXPECT_TRUE(refused([](auto& o) { o.rules = {.contributor_mean = true, .norm_cap = true}; }));
  EXPECT_FALSE(refused([](auto&) {}));
}

TEST_F(ReducerRefusalTest, States) {
  const std::vector<float> good(150, 0.0f), wrong(149, 0.0f);
  std::vector<float> infinite = good;
  infinite[149] = std::numeric_limits<float>::infinity();
  EXPECT_FALSE(reducer_->Load(kGeneration, Version{1}, wrong, good, {}).ok());
  EXPECT_FALSE(reducer_->Load(kGeneration, Version{1}, good, wrong, {}).ok());
  EXPECT_FALSE(reducer_->Load(kGeneration, Version{1}, good, good, wrong).ok());
  EXPECT_FALSE(reducer_->Load(kGeneration, Version{1}, infinite, good, {}).ok());
  EXPECT_FALSE(reducer_->Load(kGeneration, Version{1}, good, good, infinite).ok());
  EXPECT_EQ(reducer_->version(), Version{5});
}

TEST_F(ReducerRefusalTest, Announcements) {
  const Contribution good = Make(1);
  auto refused = [&](auto change) {
    ObjectInfo info = good.info;
    change(info);
    return absl::IsInvalidArgument(reducer_->Expect(info, 2).status());
  };
  EXPECT_TRUE(refused([](auto& i) { i.id.kind = ObjectKind::kAggregate; }));
  EXPECT_TRUE(refused([](auto& i) { i.id.generation.random++; }));
  EXPECT_TRUE(refused([](auto& i) { i.id.fragment.value++; }));
  EXPECT_TRUE(refused([](auto& i) { i.id.version.value--; }));
  EXPECT_TRUE(refused([](auto& i) { i.chunks++; }));
  EXPECT_TRUE(refused([](auto& i) { i.bytes--; }));
  EXPECT_FALSE(reducer_->Expect(good.info, 0).ok());
  EXPECT_FALSE(reducer_->Expect(good.info, 1 << 20).ok());
  EXPECT_EQ(reducer_->contributions(), 0u);
  EXPECT_TRUE(reducer_->Expect(good.info, 2).ok());
  EXPECT_TRUE(refused([](auto& i) { i.root[0] ^= 1; }));  // other content under the same id
  EXPECT_TRUE(reducer_->Expect(good.info, 2).ok());
}

TEST_F(ReducerRefusalTest, ChunksThatDoNotFitDropTheContribution) {
  const Contribution c = Make(1);
  const ContributionId id = c.info.id.contribution;
  EXPECT_TRUE(
      absl::IsNotFound(reducer_->AddChunk(id, c.headers[0], AsBytes(c.payloads[0])).status()));
  auto refused = [&](auto change) {
    EXPECT_TRUE(reducer_->Expect(c.info, 2).ok());
    ChunkHeader header = c.headers[0];
    change(header);
    const auto status = reducer_->AddChunk(id, header, AsBytes(c.payloads[0])).status();
    return absl::IsInvalidArgument(status) && reducer_->contributions() == 0;
  };
  EXPECT_TRUE(refused([](auto& h) { h.kind = ObjectKind::kState; }));
  EXPECT_TRUE(refused([](auto& h) { h.chunk = 3; }));
  EXPECT_TRUE(refused([](auto& h) { h.chunk = 2; }));  // the last one is shorter
  EXPECT_TRUE(refused([](auto& h) { h.codec = 3; }));
  EXPECT_TRUE(refused([](auto& h) { h.elements--; }));
  EXPECT_TRUE(refused([](auto& h) { h.bytes--; }));
  EXPECT_FALSE(refused([](auto& h) { h.transfer = 77; }));
}

TEST_F(ReducerRefusalTest, ValuesThatAreNotFinite) {
  for (float bad : {std::nanf(""), std::numeric_limits<float>::infinity(), 8.0f}) {
    Contribution c = Make(1);
    std::memcpy(c.payloads[1].data() + 4, &bad, 4);
    c.headers[1].checksum = Xxh3(AsBytes(c.payloads[1]));
    EXPECT_TRUE(absl::IsInvalidArgument(Deliver(*reducer_, c).status()));
    EXPECT_EQ(reducer_->contributions(), 0u);
    EXPECT_TRUE(disk_.List("f/contributions").empty());
  }
}

TEST_F(ReducerRefusalTest, OtherContentThanAnnounced) {
  Contribution c = Make(1), other = Make(1);
  std::swap(c.payloads[2], other.payloads[2]);
  std::swap(c.headers[2], other.headers[2]);
  EXPECT_TRUE(absl::IsInvalidArgument(Deliver(*reducer_, c).status()));
  EXPECT_EQ(reducer_->contributions(), 0u);
}

TEST_F(ReducerRefusalTest, Orders) {
  const Contribution a = Make(1), b = Make(2), late = Make(3);
  const ContributionId ia = a.info.id.contribution, ib = b.info.id.contribution;
  ASSERT_TRUE(Deliver(*reducer_, a).ok());
  ASSERT_TRUE(Deliver(*reducer_, b).ok());
  ASSERT_TRUE(reducer_->Expect(late.info, 2).ok());
  auto refused = [&](const Reducer::CloseOrder& order) {
    return absl::IsInvalidArgument(reducer_->Close(order).status());
  };
  EXPECT_TRUE(refused(Order({})));
  EXPECT_TRUE(refused(Order({{ia, 2}, {ia, 2}})));
  EXPECT_TRUE(refused(Order({{ia, 2}, {late.info.id.contribution, 2}})));
  EXPECT_TRUE(refused(Order({{ia, 2}, {{SessionId{9}, 9}, 2}})));
  EXPECT_TRUE(refused(Order({{ia, 0}})));
  EXPECT_TRUE(refused(Order({{ia, 1 << 19}, {ib, 1 << 19}})));
  Reducer::CloseOrder order = Order({{ia, 2}, {ib, 2}});
  order.version = Version{7};
  EXPECT_TRUE(refused(order));
  order = Order({{ia, 2}});
  order.divisor = 0;
  EXPECT_TRUE(refused(order));
  order.divisor = uint64_t{1} << 52;
  EXPECT_TRUE(refused(order));
  order = Order({{ia, 2}});
  order.outer_lr = std::nanf("");
  EXPECT_TRUE(refused(order));
  EXPECT_TRUE(absl::IsFailedPrecondition(reducer_->Install(RoundId{9}, 1)));
  EXPECT_TRUE(reducer_->Close(Order({{ia, 2}, {ib, 2}})).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(reducer_->Install(RoundId{8}, 1)));
}

// A held contribution whose log rots: it cannot be taken out of the sum any more, and yet the
// others' sum is right; closing with it is refused.
TEST_F(ReducerRefusalTest, DamagedLogs) {
  const Contribution a = Make(1), b = Make(2);
  const ContributionId ia = a.info.id.contribution, ib = b.info.id.contribution;
  ASSERT_TRUE(Deliver(*reducer_, a).ok());
  const auto alone = reducer_->Close(Order({{ia, 3}}));
  ASSERT_TRUE(alone.ok());
  ASSERT_TRUE(Deliver(*reducer_, b).ok());
  disk_.Bytes("f/contributions/2-1.log")->back() ^= 1;
  EXPECT_EQ(*reducer_->Close(Order({{ia, 3}})), *alone);
  EXPECT_TRUE(absl::IsDataLoss(reducer_->Close(Order({{ia, 3}, {ib, 2}})).status()));
  EXPECT_EQ(*reducer_->Close(Order({{ia, 3}})), *alone);
  ASSERT_TRUE(reducer_->Drop(ib).ok());
  EXPECT_EQ(*reducer_->Close(Order({{ia, 3}})), *alone);
}

TEST_F(ReducerRefusalTest, DamagedPreparationChangesNothing) {
  const Contribution a = Make(1);
  ASSERT_TRUE(Deliver(*reducer_, a).ok());
  const Reducer::CloseOrder order = Order({{a.info.id.contribution, 3}});
  for (const char* path : {"f/aggregates/6", "f/residuals/6"}) {
    ASSERT_TRUE(reducer_->Close(order).ok());
    (*disk_.Bytes(path))[100] ^= 1;
    EXPECT_TRUE(absl::IsDataLoss(reducer_->Install(RoundId{9}, 1)));
    EXPECT_EQ(reducer_->version(), Version{5});
    for (float v : reducer_->parameters()) EXPECT_EQ(v, 0.0f);
    for (float v : reducer_->residual()) EXPECT_EQ(v, 0.0f);
  }
  ASSERT_TRUE(reducer_->Close(order).ok());
  EXPECT_TRUE(reducer_->Install(RoundId{9}, 1).ok());
}

// With a codec of variable size the announced bytes are an upper bound, and then exact.
TEST_F(ReducerRefusalTest, SizesThatWereNotAnnounced) {
  options_.codec_up = CodecSpec(CodecId::kBitBudget, 2000);
  options_.folder = "v";
  auto reducer = std::move(*Reducer::Open(options_));
  const std::vector<float> zero(150, 0.0f);
  ASSERT_TRUE(reducer->Load(kGeneration, Version{5}, zero, zero, {}).ok());
  const std::vector<float> values = RandomFloats(rng_, 150, 1.0);
  Contribution c = MakeContribution(options_, Version{5}, {SessionId{1}, 1}, 2, values);
  c.info.bytes += 1;
  EXPECT_TRUE(absl::IsInvalidArgument(Deliver(*reducer, c).status()));
  c.info.bytes = 1 << 20;
  EXPECT_TRUE(absl::IsInvalidArgument(reducer->Expect(c.info, 2).status()));
  c = MakeContribution(options_, Version{5}, {SessionId{1}, 2}, 2, values);
  ASSERT_TRUE(reducer->Expect(c.info, 2).ok());
  c.payloads[0].resize(1000);
  c.headers[0].bytes = 1000;
  EXPECT_TRUE(absl::IsInvalidArgument(
      reducer->AddChunk(c.info.id.contribution, c.headers[0], AsBytes(c.payloads[0])).status()));
  c = MakeContribution(options_, Version{5}, {SessionId{1}, 3}, 2, values);
  EXPECT_TRUE(Deliver(*reducer, c)->held.has_value());
}

TEST_F(ReducerRefusalTest, CodecsAndLayoutsThatDoNotFit) {
  auto refused = [&](auto change) {
    Reducer::Options options = options_;
    change(options);
    return absl::IsInvalidArgument(Reducer::Open(options).status());
  };
  EXPECT_TRUE(refused([](auto& o) { o.codec_up = CodecSpec(CodecId::kBitBudget, 0); }));
  EXPECT_TRUE(refused([](auto& o) { o.codec_down = CodecSpec(CodecId::kInt8, 2000); }));
  EXPECT_TRUE(refused([](auto& o) { o.layout = {{0, 149}}; }));
  EXPECT_TRUE(refused([](auto& o) { o.layout = {{0, 151}}; }));
  EXPECT_FALSE(refused([](auto& o) { o.layout = {{0, 150}}; }));
}

}  // namespace
}  // namespace longhaul
