// Power lost at any moment: recovery leads to the same bytes.
#include <gtest/gtest.h>

#include <algorithm>

#include "common/fault_storage.h"
#include "reducer/reducer.h"
#include "reducer/test_rig.h"

namespace longhaul {
namespace {

constexpr uint64_t kElements = 150;
constexpr uint64_t kRounds = 3;

// Plays the coordinator: it remembers what has been committed, and after a restart it brings the
// reducer back to where it was and goes on.
class Script {
 public:
  Script() {
    options_ = {&disk_, "f", FragmentId{0}, kElements, CodecId::kInt8, CodecId::kInt4, 0.9f, 64};
    Rng rng(5);
    start_ = RandomFloats(rng, kElements, 1.0);
    for (uint64_t round = 1; round <= kRounds; ++round) {
      for (uint64_t worker = 1; worker <= 3; ++worker) {
        contributions_.push_back(MakeContribution(
            options_, Version{round - 1}, {SessionId{worker}, round},
            static_cast<uint32_t>(10 * worker + round), RandomFloats(rng, kElements, 0.5)));
      }
    }
  }

  // Until the end, or until the power is lost.
  absl::Status Run() {
    const std::vector<float> zero(kElements, 0.0f);
    auto opened = Reducer::Open(options_);
    if (!opened.ok()) return opened.status();
    reducer_ = std::move(*opened);
    absl::Status status = reducer_->Load(kGeneration, Version{0}, start_, zero, {});
    if (!status.ok()) return status;
    const auto recovered = reducer_->Recover(commits_);
    if (!recovered.ok()) return recovered.status();
    EXPECT_FALSE(recovered->residual_reset);
    while (status.ok() && reducer_->version().value < kRounds) status = Round();
    return status;
  }

  FaultStorage& disk() { return disk_; }
  const Reducer& reducer() const { return *reducer_; }
  const std::vector<CommitView>& commits() const { return commits_; }
  // Held before the power went: it must still be held afterwards, without being sent again.
  bool WasHeld(const ContributionId& id) const {
    return std::find(held_.begin(), held_.end(), id) != held_.end();
  }

 private:
  absl::Status Round() {
    const uint64_t round = reducer_->version().value + 1;
    Reducer::CloseOrder order{RoundId{round}, 1, Version{round}, {}, 0, 0.7f, 0.6f};
    for (const Contribution& c : contributions_) {
      if (c.info.id.version.value + 1 != round) continue;
      const ContributionId id = c.info.id.contribution;
      const auto again = reducer_->Expect(c.info, c.weight);
      if (!again.ok()) return again.status();
      EXPECT_TRUE(again->held.has_value() || !WasHeld(id));
      const auto progress = Deliver(*reducer_, c);
      if (!progress.ok()) return progress.status();
      EXPECT_TRUE(progress->held.has_value());
      held_.push_back(id);
      order.include.push_back({id, c.weight});
      order.divisor += c.weight;
    }
    order.include.pop_back();  // the third is left out
    const auto prepared = reducer_->Close(order);
    if (!prepared.ok()) return prepared.status();
    commits_.push_back(CommitOf(order, *prepared));
    return reducer_->Install(order.round, order.attempt);
  }

  FaultStorage disk_;
  Reducer::Options options_;
  std::vector<float> start_;
  std::vector<Contribution> contributions_;
  std::vector<ContributionId> held_;
  std::vector<CommitView> commits_;
  std::unique_ptr<Reducer> reducer_;
};

TEST(ReducerCrashTest, SameBytesWhereverThePowerIsLost) {
  Script calm;
  ASSERT_TRUE(calm.Run().ok());
  const uint64_t changes = calm.disk().changes();
  ASSERT_GT(changes, 60u);
  for (uint64_t at = 1; at <= changes; ++at) {
    Script script;
    script.disk().PowerOffAfter(at);
    ASSERT_FALSE(script.Run().ok()) << at;
    script.disk().Restart(at);
    // A second loss during recovery, every third time.
    if (at % 3 == 0) {
      script.disk().PowerOffAfter(1 + at % 7);
      script.Run().IgnoreError();  // it may have been nearly done
      script.disk().Restart(at + 1);
    }
    const absl::Status status = script.Run();
    ASSERT_TRUE(status.ok()) << status << " after power was lost at change " << at;
    ASSERT_EQ(script.commits(), calm.commits()) << at;
    ASSERT_TRUE(std::ranges::equal(script.reducer().parameters(), calm.reducer().parameters()));
    ASSERT_TRUE(std::ranges::equal(script.reducer().momentum(), calm.reducer().momentum()));
    ASSERT_TRUE(std::ranges::equal(script.reducer().residual(), calm.reducer().residual()));
  }
}

class ReducerLogTest : public testing::Test {
 protected:
  ReducerLogTest() {
    Rng rng(8);
    contribution_ =
        MakeContribution(options_, Version{0}, {SessionId{1}, 1}, 2, RandomFloats(rng, 250, 1.0));
    reducer_ = Fresh(kGeneration);
    held_ = *Deliver(*reducer_, contribution_);
    log_ = *disk_.Bytes(kLog);
  }
  std::unique_ptr<Reducer> Fresh(Generation generation) {
    auto reducer = std::move(*Reducer::Open(options_));
    const std::vector<float> zero(250, 0.0f);
    EXPECT_TRUE(reducer->Load(generation, Version{0}, zero, zero, {}).ok());
    return reducer;
  }
  // How many chunks a log with these bytes is worth after a restart; then it is completed.
  uint32_t Restarted(const std::string& bytes) {
    reducer_ = Fresh(kGeneration);
    *disk_.Bytes(kLog) = bytes;
    const uint32_t have = reducer_->Expect(contribution_.info, 2)->have;
    EXPECT_EQ(*Deliver(*reducer_, contribution_), held_);
    EXPECT_EQ(*disk_.Bytes(kLog), log_);
    EXPECT_EQ(disk_.List("f/contributions").size(), 1u);
    return have;
  }

  static constexpr char kLog[] = "f/contributions/1-1.log";
  FaultStorage disk_;
  Reducer::Options options_{&disk_, "f", FragmentId{0}, 250, CodecId::kInt8, CodecId::kInt4,
                            0.9f,   64};
  Contribution contribution_;
  std::unique_ptr<Reducer> reducer_;
  Reducer::Progress held_;
  std::string log_;
};

TEST_F(ReducerLogTest, TornAtAnyByte) {
  constexpr size_t kFrame = 48 + 66, kLast = 48 + 60;
  const size_t head = log_.size() - 3 * kFrame - kLast;
  for (size_t n = 0; n < log_.size(); ++n) {
    ASSERT_EQ(Restarted(log_.substr(0, n)), n < head ? 0 : (n - head) / kFrame) << n;
  }
  EXPECT_EQ(Restarted(log_), 4u);
  EXPECT_EQ(Restarted(log_ + "more"), 4u);
}

TEST_F(ReducerLogTest, DamagedAtAnyByte) {
  for (size_t n = 0; n < log_.size(); ++n) {
    std::string damaged = log_;
    damaged[n] ^= 16;
    ASSERT_LT(Restarted(damaged), 4u) << n;
  }
}

TEST_F(ReducerLogTest, AnotherLifeOfTheRunStartsAnew) {
  const Generation other{4, 1};
  reducer_ = Fresh(other);
  contribution_.info.id.generation = other;
  EXPECT_EQ(reducer_->Expect(contribution_.info, 2)->have, 0u);
  EXPECT_TRUE(Deliver(*reducer_, contribution_)->held.has_value());
}

class ReducerRecoveryTest : public testing::Test {
 protected:
  // After a whole run: the same folder opened anew, with the state at the start.
  void SetUp() override {
    ASSERT_TRUE(script_.Run().ok());
    reducer_ = std::move(*Reducer::Open({&script_.disk(), "f", FragmentId{0}, kElements,
                                         CodecId::kInt8, CodecId::kInt4, 0.9f, 64}));
    Rng rng(5);
    const std::vector<float> start = RandomFloats(rng, kElements, 1.0), zero(kElements, 0.0f);
    ASSERT_TRUE(reducer_->Load(kGeneration, Version{0}, start, zero, {}).ok());
  }

  Script script_;
  std::unique_ptr<Reducer> reducer_;
};

TEST_F(ReducerRecoveryTest, LostResidualIsReported) {
  ASSERT_TRUE(script_.disk().Remove("f/residuals/3").ok());
  const auto recovered = reducer_->Recover(script_.commits());
  ASSERT_TRUE(recovered.ok());
  EXPECT_TRUE(recovered->residual_reset);
  EXPECT_TRUE(std::ranges::equal(reducer_->parameters(), script_.reducer().parameters()));
  for (float v : reducer_->residual()) EXPECT_EQ(v, 0.0f);
}

TEST_F(ReducerRecoveryTest, DamagedResidualIsReported) {
  (*script_.disk().Bytes("f/residuals/3"))[5] ^= 1;
  const auto recovered = reducer_->Recover(script_.commits());
  ASSERT_TRUE(recovered.ok());
  EXPECT_TRUE(recovered->residual_reset);
  for (float v : reducer_->residual()) EXPECT_EQ(v, 0.0f);
}

TEST_F(ReducerRecoveryTest, ResidualOfAnotherAggregateIsNotTaken) {
  std::string* bytes = script_.disk().Bytes("f/residuals/3");
  bytes->back() ^= 1;  // inside the root of the aggregate that it names
  EXPECT_TRUE(reducer_->Recover(script_.commits())->residual_reset);
}

TEST_F(ReducerRecoveryTest, DamagedOrOtherAggregatesAreRefused) {
  std::vector<CommitView> commits = script_.commits();
  commits[1].state_hash[3] ^= 1;
  EXPECT_TRUE(absl::IsDataLoss(reducer_->Recover(commits).status()));
  EXPECT_EQ(reducer_->version(), Version{1});
  commits = script_.commits();
  EXPECT_TRUE(absl::IsInvalidArgument(reducer_->Recover(commits).status()));  // 1 is applied
  commits.erase(commits.begin());
  commits[0].aggregate.root[3] ^= 1;
  EXPECT_TRUE(absl::IsDataLoss(reducer_->Recover(commits).status()));
  commits[0] = script_.commits()[1];
  (*script_.disk().Bytes("f/aggregates/2"))[60] ^= 1;
  EXPECT_TRUE(absl::IsDataLoss(reducer_->Recover(commits).status()));
  ASSERT_TRUE(script_.disk().Remove("f/aggregates/2").ok());
  EXPECT_TRUE(absl::IsNotFound(reducer_->Recover(commits).status()));
  EXPECT_EQ(reducer_->version(), Version{1});
}

}  // namespace
}  // namespace longhaul
