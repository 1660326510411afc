// Scenarios of both cores together. Test names are sentences.
#include "tests/core_world.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace longhaul {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Not;

void ExpectExactlyOnce(const CoreWorld& world) {
  for (const auto& [position, times] : world.committed)
    ASSERT_EQ(times, 1) << "position " << position;
  EXPECT_EQ(world.state().ledger.totals().committed, world.committed.size());
  EXPECT_EQ(world.state().ledger.totals().Sum(), world.state().ledger.total());
}

TEST(Cores, TwoWorkersFinishARun) {
  CoreWorld world(SmallConfig());
  world.AddWorker(1);
  world.AddWorker(2);
  world.RunUntil(3);
  world.Tick(Seconds(1));
  world.Tick(Seconds(1));
  EXPECT_EQ(world.state().phase, Phase::kFinished);
  EXPECT_TRUE(world.exit_of(0).has_value() && world.exit_of(0)->success);
  EXPECT_EQ(world.committed.size(), 3u * 2 * 4);
  EXPECT_EQ(world.worker(0).hash_mismatches(), 0u);
  ExpectExactlyOnce(world);
}

TEST(Cores, NoRoundOpensBeforeEnoughWorkersAreReady) {
  CoreWorld world(SmallConfig());
  world.AddWorker(1);
  world.RunUntil(1, 20);
  EXPECT_EQ(world.state().phase, Phase::kWaiting);
  EXPECT_EQ(world.state().version.value, 0u);
}

TEST(Cores, ARestartOfTheCoordinatorAfterEveryRecordChangesNothing) {
  // Quorum = all, so that the include lists are the same however often it restarts.
  RunConfig config = SmallConfig();
  config.round.quorum = 1.0;
  CoreWorld plain(config);
  plain.AddWorker(1);
  plain.AddWorker(2);
  plain.RunUntil(3);

  CoreWorld restarted(config);
  restarted.AddWorker(1);
  restarted.AddWorker(2);
  size_t seen = 0;
  for (int i = 0; i < 300 && restarted.state().version.value < 3; ++i) {
    if (restarted.journal().size() != seen) restarted.RestartCoordinator();
    seen = restarted.journal().size();
    restarted.Tick(Milliseconds(300));
  }
  EXPECT_EQ(restarted.state().version.value, 3u);
  EXPECT_EQ(restarted.state().state_hash, plain.state().state_hash);
  EXPECT_EQ(restarted.committed, plain.committed);
  ExpectExactlyOnce(restarted);
}

TEST(Cores, AKilledWorkersDataReturnsAndItsRejoiningProcessGoesOn) {
  RunConfig config = SmallConfig();
  config.run.rounds = 8;
  CoreWorld world(config);
  for (uint8_t k = 1; k <= 4; ++k) world.AddWorker(k);
  world.RunUntil(2);
  world.KillWorker(2);
  EXPECT_EQ(world.state().ledger.LeasesOf(world.worker(2).session()).size(), 0u);
  world.RunUntil(5);
  const int again = world.AddWorker(3);
  world.RunUntil(8);
  EXPECT_EQ(world.state().version.value, 8u);
  ASSERT_TRUE(world.worker(again).state().has_value());
  EXPECT_GT(world.worker(again).state()->version.value, 5u);
  ExpectExactlyOnce(world);
}

TEST(Cores, ASecondProcessWithTheSameKeySupersedesTheFirst) {
  CoreWorld world(SmallConfig());
  const int first = world.AddWorker(1);
  world.AddWorker(2);
  world.RunUntil(1);
  world.AddWorker(1);
  world.RunUntil(3);
  ASSERT_TRUE(world.exit_of(first).has_value());
  EXPECT_EQ(world.exit_of(first)->refusal, RefusalCode::kSuperseded);
  EXPECT_EQ(world.state().version.value, 3u);
  ExpectExactlyOnce(world);
}

TEST(Cores, ASlowWorkerIsNotWaitedForBeyondTheGraceAndItsWorkGoesInLater) {
  RunConfig config = SmallConfig();
  config.run.rounds = 8;
  CoreWorld world(config);
  for (uint8_t k = 1; k <= 4; ++k) world.AddWorker(k);
  bool slow = true;
  world.may_step = [&](int i) { return i != 3 || !slow; };
  world.RunUntil(2);
  EXPECT_EQ(world.state().version.value, 2u);
  slow = false;
  world.RunUntil(6);
  EXPECT_EQ(world.state().version.value, 6u);
  EXPECT_GT(world.state().workers.at(world.state().sessions.at(SessionId{4}).key).included.sequence,
            0u);
  ExpectExactlyOnce(world);
}

TEST(Cores, ALossThatIsNotFiniteIsRefusedAndTheRunGoesOn) {
  RunConfig config = SmallConfig();
  config.run.rounds = 4;
  CoreWorld world(config);
  for (uint8_t k = 1; k <= 4; ++k) world.AddWorker(k);
  bool broken = true;
  world.loss = [&](int i) {
    return i == 1 && broken ? std::numeric_limits<double>::quiet_NaN() : 1.0;
  };
  world.RunUntil(1);
  broken = false;
  world.RunUntil(4);
  EXPECT_EQ(world.state().version.value, 4u);
  EXPECT_THAT(world.JournalText(), Contains(HasSubstr("refused: its loss is not finite")));
  EXPECT_FALSE(world.exit_of(1).has_value() && !world.exit_of(1)->success);
  ExpectExactlyOnce(world);
}

TEST(Cores, ARoundWithoutQuorumIsAbortedAndItsDataTrainsInALaterOne) {
  RunConfig config = SmallConfig();
  config.round.quorum = 1.0;
  CoreWorld world(config);
  for (uint8_t k = 1; k <= 3; ++k) world.AddWorker(k);
  world.may_step = [](int i) { return i != 2; };
  world.RunUntil(1, 5);
  ASSERT_TRUE(world.state().round.has_value());
  ASSERT_EQ(world.state().round->members.size(), 3u);
  world.KillWorker(2);
  world.may_step = [](int) { return true; };
  world.RunUntil(3);
  EXPECT_THAT(world.JournalText(), Contains(HasSubstr("aborted: too few members")));
  EXPECT_EQ(world.state().version.value, 3u);
  ExpectExactlyOnce(world);
}

TEST(Cores, ProgressThatALastRoundsAbortLeftOverGoesOutInTheNext) {
  RunConfig config = SmallConfig();
  config.round.quorum = 1.0;
  CoreWorld world(config);
  world.AddWorker(1);
  world.AddWorker(2);
  world.RunUntil(2);
  bool broken = true;
  world.loss = [&](int i) {
    return i == 0 && broken ? std::numeric_limits<double>::quiet_NaN() : 1.0;
  };
  world.RunUntil(3, 2);
  EXPECT_THAT(world.JournalText(), Contains(HasSubstr("aborted")));
  broken = false;
  world.RunUntil(3, 20);
  EXPECT_EQ(world.state().version.value, 3u);
  ExpectExactlyOnce(world);
}

TEST(Cores, AWorkerThatFellBehindTheKeptCommitsLoadsTheSnapshotAndGoesOn) {
  RunConfig config = SmallConfig();
  config.run.rounds = 9;
  config.round.quorum = 0.6;
  CoreWorld world(config);
  for (uint8_t k = 1; k <= 3; ++k) world.AddWorker(k);
  world.RunUntil(1);
  bool frozen = true;
  world.may_answer = [&](int i) { return i != 2 || !frozen; };
  world.RunUntil(6);
  ASSERT_EQ(world.state().version.value, 6u);
  ASSERT_LT(world.worker(2).state()->version, world.state().oldest_snapshot);
  frozen = false;
  world.RunUntil(8);
  ASSERT_TRUE(world.worker(2).state().has_value());
  EXPECT_GT(world.worker(2).state()->version.value, 6u);
  const auto& session = world.state().sessions.at(world.worker(2).session());
  EXPECT_GT(world.state().workers.at(session.key).included.sequence, 1u);
  ExpectExactlyOnce(world);
}

TEST(Cores, APlannedLeaveReturnsTheLeasesAtOnce) {
  RunConfig config = SmallConfig();
  config.run.rounds = 5;
  CoreWorld world(config);
  for (uint8_t k = 1; k <= 3; ++k) world.AddWorker(k);
  world.RunUntil(1);
  world.LeaveWorker(2);
  world.RunUntil(5);
  EXPECT_EQ(world.state().version.value, 5u);
  ASSERT_TRUE(world.exit_of(2).has_value());
  EXPECT_TRUE(world.exit_of(2)->success);
  ExpectExactlyOnce(world);
}

TEST(Cores, WithoutARestartTheJournalFoldsToTheSameState) {
  CoreWorld world(SmallConfig());
  world.AddWorker(1);
  world.AddWorker(2);
  world.RunUntil(3);
  State folded;
  for (const std::string& bytes : world.journal()) {
    auto record = DecodeRecord(AsBytes(bytes));
    ASSERT_TRUE(record.ok());
    EXPECT_EQ(EncodeRecord(*record), bytes);
    Coordinator::Apply(folded, *record);
  }
  EXPECT_EQ(folded.version, world.state().version);
  EXPECT_EQ(folded.state_hash, world.state().state_hash);
  EXPECT_TRUE(folded.ledger == world.state().ledger);
  EXPECT_EQ(folded.sessions.size(), world.state().sessions.size());
  EXPECT_THAT(world.JournalText(), Not(Contains(HasSubstr("refused"))));
}

}  // namespace
}  // namespace longhaul
