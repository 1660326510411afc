// Sites of several ranks, each a thread here, over real sockets.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <thread>

#include "common/rng.h"
#include "common/status_macros.h"
#include "worker/site/loopback_group.h"
#include "worker/site/site_link.h"
#include "worker/site/site_trainer.h"

namespace longhaul {
namespace {

using ::testing::HasSubstr;

constexpr size_t kParameters = 1000;
constexpr size_t kBucket = 300;
constexpr float kRate = 0.1f;
constexpr uint64_t kPoison = 1'000'000;  // a position whose loss is no number
const std::string kKey(kSiteKeyBytes, 'k');

float Target(uint64_t position, size_t i) {
  return static_cast<float>(Draw(1, {position, i}) >> 40) * 0x1p-24f;
}

// Each position pulls θ towards a point: loss = mean over positions of Σ (θ − target)².
class QuadraticTrainer final : public GradientTrainer {
 public:
  uint64_t parameters() const override { return theta_.size(); }
  void SetParameters(uint64_t offset, std::span<const float> values) override {
    std::copy(values.begin(), values.end(), theta_.begin() + static_cast<ptrdiff_t>(offset));
  }
  void GetParameters(uint64_t offset, std::span<float> out) const override {
    std::copy_n(theta_.begin() + static_cast<ptrdiff_t>(offset), out.size(), out.begin());
  }
  void ResetInnerState() override { rate_ = kRate; }
  // Its length is what counts.
  absl::Status LoadInnerState(std::string_view bytes) override {
    rate_ = kRate / static_cast<float>(1 + bytes.size() % 10);
    return absl::OkStatus();
  }
  absl::StatusOr<StepOutput> Evaluate(std::span<const float>, std::span<const uint16_t>) override {
    return StepOutput();
  }
  absl::StatusOr<std::vector<uint16_t>> Sample(std::span<const float>, std::span<const uint16_t>,
                                               uint32_t, uint64_t) override {
    return std::vector<uint16_t>();
  }
  absl::StatusOr<StepOutput> Step(const StepInput& input) override {
    const double loss = Gradient(input, Targets(input));
    if (std::isfinite(loss)) RETURN_IF_ERROR(Update(input.step));
    return StepOutput{loss, Targets(input)};
  }
  uint64_t Targets(const StepInput& input) const override { return input.positions.size(); }
  absl::StatusOr<double> Backward(const StepInput& input, uint64_t all_targets,
                                  DeviceGroup& sums) override {
    const double loss = Gradient(input, all_targets);
    for (size_t at = 0; at < kParameters; at += kBucket) {
      if (at > 0 && input.step == 1 && in_second_step) in_second_step();
      sums.StartSum(std::span(gradient_).subspan(at, std::min(kBucket, kParameters - at)));
    }
    return loss;
  }
  absl::Status Update(uint64_t) override {
    for (float g : gradient_) {
      if (!std::isfinite(g)) return absl::OkStatus();
    }
    for (size_t i = 0; i < kParameters; ++i) theta_[i] -= rate_ * gradient_[i];
    return absl::OkStatus();
  }

  std::function<void()> in_second_step;  // between its first bucket and the others

 private:
  double Gradient(const StepInput& input, uint64_t all) {
    std::fill(gradient_.begin(), gradient_.end(), 0.0f);
    double loss = 0;
    for (uint64_t position : input.positions) {
      for (size_t i = 0; i < kParameters; ++i) {
        float d = theta_[i] - Target(position, i);
        if (position == kPoison) d = std::numeric_limits<float>::quiet_NaN();
        loss += double{d} * d / static_cast<double>(all);
        gradient_[i] += 2 * d / static_cast<float>(all);
      }
    }
    return loss;
  }

  float rate_ = kRate;
  std::vector<float> theta_ = std::vector<float>(kParameters);
  std::vector<float> gradient_ = std::vector<float>(kParameters);
};

using Links = std::vector<std::unique_ptr<SiteLink>>;

SitePlace Place(uint32_t rank, uint32_t size) {
  return {.rank = rank, .size = size, .key = kKey, .join_timeout = Seconds(60)};
}

// What a rank does instead of its work.
enum class Rank { kGood, kDiesInSecondStep, kStuckInSecondStep };

// Starts the other ranks as threads and is rank 0.
class Site {
 public:
  explicit Site(std::vector<Rank> others, Duration deadline = Seconds(60)) {
    auto listener = *SiteListener::Listen("127.0.0.1", 0);
    const auto size = static_cast<uint32_t>(others.size() + 1);
    for (uint32_t rank = 1; rank < size; ++rank) {
      threads_.emplace_back([=, this, kind = others[rank - 1], port = listener->port()] {
        RunRank(rank, size, port, kind, deadline);
      });
    }
    Links links = *listener->Accept(Place(0, size), 2);
    trainer_ = MakeSiteTrainer(
        std::make_unique<QuadraticTrainer>(), MakeLoopbackGroup(std::move(links[1]), deadline),
        std::move(links[0]),
        {.deadline = deadline, .say = [this](const std::string& text) { said_ += text + "\n"; }});
  }
  ~Site() {
    trainer_.reset();
    for (std::thread& thread : threads_) thread.join();
  }
  Trainer& trainer() { return *trainer_; }
  const std::string& said() const { return said_; }

 private:
  static void RunRank(uint32_t rank, uint32_t size, uint16_t port, Rank kind, Duration deadline) {
    Links links = *JoinSite(Place(rank, size), "127.0.0.1", port, 2);
    QuadraticTrainer own;
    auto group = MakeLoopbackGroup(std::move(links[1]), deadline);
    if (kind == Rank::kDiesInSecondStep) {
      own.in_second_step = [&] {
        links[0]->Drop(0);
        group->Abort();
      };
    }
    if (kind == Rank::kStuckInSecondStep) {  // until rank 0 gives it up
      own.in_second_step = [&] { links[0]->Receive(0, Seconds(60)).status().IgnoreError(); };
    }
    RunSiteRank(own, *group, *links[0]).IgnoreError();
  }

  std::string said_;
  std::vector<std::thread> threads_;
  std::unique_ptr<Trainer> trainer_;
};

std::vector<float> Theta(const Trainer& trainer) {
  std::vector<float> theta(kParameters);
  trainer.GetParameters(0, theta);
  return theta;
}

// The same steps alone and as a site, from this inner state on.
void ExpectLikeOne(Trainer& site, int steps, size_t positions_per_step,
                   const std::string& inner_state = "") {
  QuadraticTrainer one;
  if (!inner_state.empty()) {
    ASSERT_TRUE(one.LoadInnerState(inner_state).ok());
    ASSERT_TRUE(site.LoadInnerState(inner_state).ok());
  }
  std::vector<float> start(kParameters, 0.5f);
  one.SetParameters(0, start);
  site.SetParameters(0, start);
  for (int step = 0; step < steps; ++step) {
    std::vector<uint64_t> positions;
    for (size_t i = 0; i < positions_per_step; ++i) {
      positions.push_back(static_cast<uint64_t>(step) * positions_per_step + i);
    }
    const StepInput input{.step = static_cast<uint64_t>(step), .positions = positions};
    const auto expected = one.Step(input), found = site.Step(input);
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_NEAR(found->loss, expected->loss, 1e-5 * expected->loss);
    EXPECT_EQ(found->targets, expected->targets);
  }
  const std::vector<float> expected = Theta(one), found = Theta(site);
  for (size_t i = 0; i < kParameters; ++i) ASSERT_NEAR(found[i], expected[i], 1e-5) << i;
}

TEST(Site, SeveralRanksTrainAsOneWithTheWholeBatch) {
  for (size_t others : {1, 2, 3}) {
    for (size_t positions : {1, 2, 5, 8}) {
      Site site(std::vector<Rank>(others, Rank::kGood));
      ExpectLikeOne(site.trainer(), 4, positions);
      EXPECT_EQ(site.said(), "");
    }
  }
}

TEST(Site, EveryRankHasTheInnerStateHoweverLargeItIs) {
  Site site({Rank::kGood, Rank::kGood});
  for (size_t bytes : {size_t{4}, (size_t{64} << 20) + 7}) {  // one command and two
    ExpectLikeOne(site.trainer(), 3, 6, std::string(bytes, 'i'));
  }
}

TEST(Site, AKilledRankShrinksTheSiteAndNothingIsLost) {
  Site site({Rank::kGood, Rank::kDiesInSecondStep, Rank::kGood});
  ExpectLikeOne(site.trainer(), 5, 6);
  EXPECT_THAT(site.said(), HasSubstr("rank 2 is lost"));
}

TEST(Site, RankZeroGoesOnAlone) {
  Site site({Rank::kDiesInSecondStep});
  ExpectLikeOne(site.trainer(), 3, 2);
  EXPECT_THAT(site.said(), HasSubstr("rank 1 is lost"));
}

TEST(Site, AStuckRankIsFoundByItsDeadline) {
  Site site({Rank::kStuckInSecondStep}, Seconds(1));
  ExpectLikeOne(site.trainer(), 3, 4);
  EXPECT_THAT(site.said(), HasSubstr("rank 1 is lost"));
}

TEST(Site, ALossThatIsNoNumberChangesNothingAndIsNamed) {
  Site site({Rank::kGood});
  const std::vector<float> start(kParameters, 0.25f);
  site.trainer().SetParameters(0, start);
  const std::vector<uint64_t> positions = {1, 2, 3, kPoison};  // the last one is rank 1's
  const auto out = site.trainer().Step({.positions = positions});
  ASSERT_TRUE(out.ok());
  EXPECT_FALSE(std::isfinite(out->loss));
  EXPECT_EQ(Theta(site.trainer()), start);
  EXPECT_THAT(site.said(), HasSubstr("the loss of rank 1 is not finite"));
  ExpectLikeOne(site.trainer(), 2, 4);  // and it goes on
}

TEST(SiteLink, NamesTheRanksThatDidNotStart) {
  auto listener = *SiteListener::Listen("127.0.0.1", 0);
  SitePlace place = Place(0, 4);
  place.join_timeout = Milliseconds(300);
  std::thread second([port = listener->port()] {
    JoinSite(Place(2, 4), "127.0.0.1", port, 1).status().IgnoreError();
  });
  const auto links = listener->Accept(place, 1);
  second.join();
  ASSERT_EQ(links.status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(links.status().message()), HasSubstr("did not start in time: 1, "));
}

TEST(SiteLink, StrangersDoNotGetIn) {
  auto listener = *SiteListener::Listen("127.0.0.1", 0);
  SitePlace place = Place(0, 2);
  std::thread others([port = listener->port()] {
    SitePlace stranger = Place(1, 2);
    stranger.key[3] ^= 1;
    auto refused = JoinSite(stranger, "127.0.0.1", port, 1);
    EXPECT_FALSE((*refused)[0]->Receive(0, Seconds(60)).ok());
    auto good = JoinSite(Place(1, 2), "127.0.0.1", port, 1);
    EXPECT_EQ(*(*good)[0]->Receive(0, Seconds(60)), "hello");
  });
  Links links = *listener->Accept(place, 1);
  EXPECT_TRUE(links[0]->Send(1, "hello", Seconds(60)).ok());
  others.join();
}

TEST(SiteLink, AddressesAreNumeric) {
  EXPECT_EQ(SiteListener::Listen("somewhere", 0).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(LoopbackGroup, EveryRankHasTheSameBits) {
  auto listener = *SiteListener::Listen("127.0.0.1", 0);
  std::vector<std::vector<float>> values(3, std::vector<float>(5000));
  for (size_t r = 0; r < 3; ++r) {
    for (size_t i = 0; i < values[r].size(); ++i) values[r][i] = Target(r, i) - 0.5f;
  }
  std::vector<float> expected = values[0];
  for (size_t i = 0; i < expected.size(); ++i) {
    expected[i] += values[1][i];
    expected[i] += values[2][i];
  }
  auto sum = [&](std::unique_ptr<SiteLink> link) {
    const uint32_t rank = link->rank();
    auto group = MakeLoopbackGroup(std::move(link), Seconds(60));
    group->StartSum(std::span(values[rank]).first(1000));
    group->StartSum(std::span(values[rank]).subspan(1000));
    EXPECT_TRUE(group->Wait().ok());
  };
  std::vector<std::thread> others;
  for (uint32_t rank : {1, 2}) {
    others.emplace_back([&, rank, port = listener->port()] {
      sum(std::move((*JoinSite(Place(rank, 3), "127.0.0.1", port, 1))[0]));
    });
  }
  sum(std::move((*listener->Accept(Place(0, 3), 1))[0]));
  for (std::thread& thread : others) thread.join();
  for (const auto& v : values) EXPECT_EQ(v, expected);
}

}  // namespace
}  // namespace longhaul
