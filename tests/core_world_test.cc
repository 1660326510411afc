// Scenarios of both cores together. Test names are sentences.
#include "tests/core_world.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <limits>

#include "compression/codec.h"
#include "proto/run_config.h"

namespace longhaul {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Not;

void ExpectExactlyOnce(const CoreWorld& world) {
  const LeaseBook& leases = world.state().leases;
  for (const auto& [fragment, committed] : world.committed) {
    for (const auto& [position, times] : committed)
      ASSERT_EQ(times, 1) << "fragment " << fragment.value << " position " << position;
    EXPECT_EQ(leases.totals(fragment).committed, committed.size());
    EXPECT_EQ(leases.totals(fragment).Sum(), leases.total());
  }
}

const EnrolledWorker& WorkerNamed(const CoreWorld& world, const std::string& name) {
  for (const auto& [key, worker] : world.state().workers) {
    if (worker.name == name) return worker;
  }
  ADD_FAILURE() << "no worker " << name;
  return world.state().workers.begin()->second;
}

TEST(CodedSize, IsTheSumOverTheChunks) {
  for (const char* name : {"float32", "bf16", "int8", "int4", "int2", "bit-budget"}) {
    const SyncSection sync{.codec = name};
    const auto codec = MakeCodec(*CodecSpecByName(sync.codec, sync.bits));
    for (uint64_t elements : {1ul, 100ul, 65'535ul, 65'536ul, 65'537ul, 1'000'003ul}) {
      ObjectSize sum;
      for (uint64_t done = 0; done < elements; done += 65'536, ++sum.chunks)
        sum.bytes += codec->EncodedBytes(std::min<uint64_t>(65'536, elements - done));
      const ObjectSize size = CodedSize(sync, elements);
      EXPECT_EQ(size.chunks, sum.chunks) << name << " " << elements;
      EXPECT_EQ(size.bytes, sum.bytes) << name << " " << elements;
    }
  }
}

// Every scenario holds for one fragment and for several in flight.
struct Shape {
  uint32_t fragments = 1;
  const char* placement = "star";
};

class Cores : public testing::TestWithParam<Shape> {
 protected:
  RunConfig Config() const {
    RunConfig config = SmallConfig(fragments());
    config.reduce.placement = GetParam().placement;
    config.reduce.trusted = "*";
    return config;
  }
  static uint32_t fragments() { return GetParam().fragments; }
};
INSTANTIATE_TEST_SUITE_P(Shapes, Cores,
                         testing::Values(Shape{1, "star"}, Shape{3, "star"}, Shape{1, "workers"},
                                         Shape{3, "workers"}),
                         [](const auto& shape) {
                           return std::string(shape.param.placement) +
                                  std::to_string(shape.param.fragments);
                         });

TEST_P(Cores, TwoWorkersFinishARun) {
  CoreWorld world(Config());
  world.AddWorker(1);
  world.AddWorker(2);
  world.RunUntil(3);
  world.Tick(Seconds(1));
  world.Tick(Seconds(1));
  EXPECT_EQ(world.state().phase, Phase::kFinished) << world.WaitingFor();
  EXPECT_TRUE(world.exit_of(0).has_value() && world.exit_of(0)->success);
  if (fragments() == 1) {
    EXPECT_EQ(world.committed.at(FragmentId{0}).size(), 3u * 2 * 4);
  }
  EXPECT_EQ(world.worker(0).hash_mismatches(), 0u);
  ExpectExactlyOnce(world);
}

// Deltas per step: with weights of tokens a worker that makes twice the steps counts twice, and the
// divisor gives back the mean number of steps.
TEST_P(Cores, WorkersOfUnequalStepsAreWeighedByWhatTheyMovePerStep) {
  RunConfig config = Config();
  config.sync.steps_per_worker = "w1=8, nobody=3";
  config.sync.delta_per_step = true;
  CoreWorld world(config);
  world.AddWorker(1);
  world.AddWorker(2);
  world.RunUntil(2);
  EXPECT_THAT(world.included_steps, Contains(8));
  EXPECT_THAT(world.included_steps, Contains(4));
  ExpectExactlyOnce(world);
  uint64_t closed = 0;
  for (const Record& record : world.Records()) {
    if (const auto* r = std::get_if<RoundClosed>(&record.body)) {
      // Tokens over steps are equal: n equal weights, whose sum is also the divisor.
      EXPECT_EQ(r->closing.divisor % r->closing.included.size(), 0u);
      ++closed;
    }
  }
  EXPECT_GT(closed, 0u);
}

TEST_P(Cores, TheOuterLearningRateWarmsUpAndDrops) {
  RunConfig config = Config();
  config.run.rounds = 5;
  config.sync.outer_lr = 0.8;
  config.sync.outer_warmup_rounds = 1;
  config.sync.outer_drop_round = 3;
  config.sync.outer_drop = 0.5;
  CoreWorld world(config);
  world.AddWorker(1);
  world.AddWorker(2);
  world.RunUntil(5);
  const float expected[] = {0.4f, 0.8f, 0.8f, 0.4f, 0.4f};
  uint64_t commits = 0;
  for (const Record& record : world.Records()) {
    const auto* r = std::get_if<RoundCommitted>(&record.body);
    if (r == nullptr) continue;
    EXPECT_EQ(std::bit_cast<float>(r->commit.outer_lr_bits), expected[r->commit.version.value - 1]);
    ++commits;
  }
  EXPECT_EQ(commits, 5u * fragments());
}

TEST_P(Cores, NoRoundOpensBeforeEnoughWorkersAreReady) {
  CoreWorld world(Config());
  world.AddWorker(1);
  world.RunUntil(1, 20);
  EXPECT_EQ(world.state().phase, Phase::kWaiting);
  EXPECT_EQ(world.version(), 0u);
}

TEST_P(Cores, ARestartOfTheCoordinatorAfterEveryRecordChangesNothing) {
  // Quorum = all, so that the include lists are the same however often it restarts.
  RunConfig config = Config();
  config.round.quorum = 1.0;
  CoreWorld plain(config);
  plain.AddWorker(1);
  plain.AddWorker(2);
  plain.RunUntil(3);

  CoreWorld restarted(config);
  restarted.AddWorker(1);
  restarted.AddWorker(2);
  size_t seen = 0;
  for (int i = 0; i < 300 && restarted.version() < 3; ++i) {
    if (restarted.journal().size() != seen) restarted.RestartCoordinator();
    seen = restarted.journal().size();
    restarted.Tick(Milliseconds(300));
  }
  EXPECT_EQ(restarted.version(), 3u);
  EXPECT_EQ(restarted.state().fragments[0].state_hash, plain.state().fragments[0].state_hash);
  EXPECT_EQ(restarted.committed, plain.committed);
  ExpectExactlyOnce(restarted);
}

TEST_P(Cores, AKilledWorkersDataReturnsAndItsRejoiningProcessGoesOn) {
  RunConfig config = Config();
  config.run.rounds = 8;
  CoreWorld world(config);
  for (uint8_t k = 1; k <= 4; ++k) world.AddWorker(k);
  world.RunUntil(2);
  world.KillWorker(2);
  EXPECT_EQ(world.state().leases.LeasesOf(world.worker(2).session()).size(), 0u);
  world.RunUntil(5);
  const int again = world.AddWorker(3);
  world.RunUntil(8);
  EXPECT_EQ(world.version(), 8u);
  ASSERT_EQ(world.worker(again).states().size(), fragments());
  EXPECT_GT(world.worker(again).states()[0].version.value, 5u);
  ExpectExactlyOnce(world);
}

TEST_P(Cores, ASecondProcessWithTheSameKeySupersedesTheFirst) {
  CoreWorld world(Config());
  const int first = world.AddWorker(1);
  world.AddWorker(2);
  world.RunUntil(1);
  world.AddWorker(1);
  world.RunUntil(3);
  ASSERT_TRUE(world.exit_of(first).has_value());
  EXPECT_EQ(world.exit_of(first)->refusal, RefusalCode::kSuperseded);
  EXPECT_EQ(world.version(), 3u);
  ExpectExactlyOnce(world);
}

// Its Hello may have been on its way, or said twice.
TEST_P(Cores, ASupersededProcessCannotSupersedeTheNewOne) {
  CoreWorld world(Config());
  const int first = world.AddWorker(1);
  world.AddWorker(2);
  world.RunUntil(1);
  const SessionId before = world.worker(first).session();
  const WorkerKey key = world.state().sessions.at(before).key;
  const ProcessId old_process = world.state().sessions.at(before).process;
  const int second = world.AddWorker(1);
  world.RunUntil(2);
  const Effects effects =
      world.Feed(HelloEvent{ReplyTo{static_cast<uint64_t>(first)}, key, {.process = old_process}});
  ASSERT_EQ(effects.replies.size(), 1u);
  ASSERT_TRUE(std::holds_alternative<Refused>(effects.replies[0].message));
  EXPECT_EQ(std::get<Refused>(effects.replies[0].message).code, RefusalCode::kSuperseded);
  EXPECT_EQ(world.state().workers.at(key).session, world.worker(second).session());
  world.RunUntil(3);
  EXPECT_EQ(world.version(), 3u);
}

TEST_P(Cores, ASlowWorkerIsNotWaitedForBeyondTheGraceAndItsWorkGoesInLater) {
  RunConfig config = Config();
  config.run.rounds = 8;
  CoreWorld world(config);
  for (uint8_t k = 1; k <= 4; ++k) world.AddWorker(k);
  bool slow = true;
  world.may_step = [&](int i) { return i != 3 || !slow; };
  world.RunUntil(2);
  EXPECT_EQ(world.version(), 2u);
  slow = false;
  world.RunUntil(6);
  EXPECT_EQ(world.version(), 6u);
  EXPECT_GT(WorkerNamed(world, "w4").included[0].sequence, 0u);
  ExpectExactlyOnce(world);
}

TEST_P(Cores, ALossThatIsNotFiniteIsRefusedAndTheRunGoesOn) {
  RunConfig config = Config();
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
  EXPECT_EQ(world.version(), 4u);
  EXPECT_THAT(world.JournalText(), Contains(HasSubstr("refused: its loss is not finite")));
  EXPECT_FALSE(world.exit_of(1).has_value() && !world.exit_of(1)->success);
  ExpectExactlyOnce(world);
}

TEST_P(Cores, ARoundWithoutQuorumIsAbortedAndItsDataTrainsInALaterOne) {
  RunConfig config = Config();
  config.round.quorum = 1.0;
  CoreWorld world(config);
  for (uint8_t k = 1; k <= 3; ++k) world.AddWorker(k);
  world.may_step = [](int i) { return i != 2; };
  world.RunUntil(1, 5);
  ASSERT_TRUE(world.state().fragments[0].round.has_value());
  ASSERT_EQ(world.state().fragments[0].round->members.size(), 3u);
  world.KillWorker(2);
  world.may_step = [](int) { return true; };
  world.RunUntil(3);
  EXPECT_THAT(world.JournalText(), Contains(HasSubstr("aborted: too few members")));
  EXPECT_EQ(world.version(), 3u);
  ExpectExactlyOnce(world);
}

TEST_P(Cores, ProgressThatALastRoundsAbortLeftOverGoesOutInTheNext) {
  RunConfig config = Config();
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
  EXPECT_EQ(world.version(), 3u);
  ExpectExactlyOnce(world);
}

// Two of three make the quorum, but the round's time is over before the grace for the third.
TEST_P(Cores, AQuorumThatIsHeldWhenTheTimeIsOverCommits) {
  RunConfig config = Config();
  config.round.quorum = 0.6;
  config.round.grace = 1000.0;
  CoreWorld world(config);
  for (uint8_t k = 1; k <= 3; ++k) world.AddWorker(k);
  world.RunUntil(1);
  world.Tick(Seconds(5));
  world.may_step = [](int i) { return i != 2; };
  world.RunUntil(2, 4000);
  EXPECT_EQ(world.version(), 2u) << world.WaitingFor();
  EXPECT_THAT(world.JournalText(), Not(Contains(HasSubstr("aborted"))));
  ExpectExactlyOnce(world);
}

// The time for a round follows from what the last one took: one that was given up took longer.
TEST_P(Cores, AfterARoundWasGivenUpTheNextOneHasMoreTime) {
  RunConfig config = Config();
  config.round.quorum = 1.0;
  CoreWorld world(config);
  world.AddWorker(1);
  world.AddWorker(2);
  world.may_step = [](int) { return false; };
  for (int i = 0; i < 5; ++i) world.Tick(Seconds(1));
  world.may_step = [](int) { return true; };
  world.RunUntil(1);
  world.may_step = [](int) { return false; };
  std::vector<Duration> limits;
  for (int i = 0; i < 2000 && limits.size() < 3; ++i) {
    const std::optional<Round>& round = world.state().fragments[0].round;
    if (round && (limits.empty() || limits.back() != round->time_limit))
      limits.push_back(round->time_limit);
    world.Tick(Seconds(10));
  }
  ASSERT_EQ(limits.size(), 3u);
  EXPECT_GT(limits[1], limits[0]);
  EXPECT_GT(limits[2], limits[1]);
}

TEST_P(Cores, AWorkerThatFellBehindTheKeptCommitsLoadsTheSnapshotAndGoesOn) {
  RunConfig config = Config();
  config.run.rounds = 16;
  // Whom a commit waits for may lose step here, so that the rest must not wait for it.
  const bool star = config.reduce.placement == "star";
  config.round.quorum = star ? 0.6 : 0.3;
  CoreWorld world(config);
  for (uint8_t k = 1; k <= 3; ++k) world.AddWorker(k);
  world.RunUntil(1);
  bool frozen = true;
  world.may_answer = [&](int i) { return i != 2 || !frozen; };
  world.RunUntil(6);
  ASSERT_EQ(world.version(), 6u) << world.WaitingFor();
  ASSERT_LT(world.worker(2).states()[0].version, world.state().fragments[0].oldest_snapshot);
  frozen = false;
  world.may_step = [](int i) { return i == 2; };  // time for it to come back
  for (int i = 0; i < 6; ++i) world.Tick(Milliseconds(500));
  world.may_step = [](int) { return true; };
  world.RunUntil(14);
  ASSERT_EQ(world.worker(2).states().size(), fragments());
  EXPECT_GT(world.worker(2).states()[0].version.value, 6u);
  const auto& session = world.state().sessions.at(world.worker(2).session());
  EXPECT_GT(world.state().workers.at(session.key).included[0].sequence, star ? 1u : 0u);
  ExpectExactlyOnce(world);
}

TEST_P(Cores, APlannedLeaveReturnsTheLeasesAtOnce) {
  RunConfig config = Config();
  config.run.rounds = 5;
  CoreWorld world(config);
  for (uint8_t k = 1; k <= 3; ++k) world.AddWorker(k);
  world.RunUntil(1);
  world.LeaveWorker(2);
  world.RunUntil(5);
  EXPECT_EQ(world.version(), 5u);
  ASSERT_TRUE(world.exit_of(2).has_value());
  EXPECT_TRUE(world.exit_of(2)->success);
  ExpectExactlyOnce(world);
}

TEST_P(Cores, APlannedLeaveHandsInWhatIsTrained) {
  RunConfig config = Config();
  config.run.rounds = 6;
  config.sync.inner_steps = 12;
  CoreWorld world(config);
  for (uint8_t k = 1; k <= 3; ++k) world.AddWorker(k);
  world.RunUntil(1);
  int steps = 0;
  world.may_step = [&](int i) { return i != 2 || ++steps <= 3; };  // stops in mid-round
  world.RunUntil(2, 3);
  const Session before = world.state().sessions.at(world.worker(2).session());
  world.may_step = [](int) { return true; };
  world.LeaveWorker(2, /*hand_in=*/true);
  world.RunUntil(6, 40);
  EXPECT_EQ(world.version(), 6u);
  ASSERT_TRUE(world.exit_of(2).has_value());
  EXPECT_TRUE(world.exit_of(2)->success);
  const std::vector<ContributionId>& included = WorkerNamed(world, "w3").included;
  for (size_t f = 0; f < included.size(); ++f) {
    EXPECT_EQ(included[f].session, world.worker(2).session());
    // Reduced by workers, it may have sent all it had on the last fragment already.
    const uint64_t sent = before.fragments[f].last_sequence;
    EXPECT_GE(included[f].sequence, f == 2 ? sent : sent + 1) << "fragment " << f;
  }
  ExpectExactlyOnce(world);
}

TEST_P(Cores, WhenMostFallSilentAtOnceNobodyExpiresForAWhile) {
  RunConfig config = Config();
  config.run.rounds = 6;
  CoreWorld world(config);
  for (uint8_t k = 1; k <= 6; ++k) world.AddWorker(k);
  world.RunUntil(1);
  world.Silence({0, 1, 2});
  EXPECT_EQ(world.state().sessions.size(), 6u);
  EXPECT_THAT(world.WaitingFor(), HasSubstr("many workers fell silent"));
  world.Silence({});  // they are heard again
  EXPECT_FALSE(world.state().frozen_until.has_value());
  world.RunUntil(3);
  EXPECT_EQ(world.version(), 3u);
  world.Silence({0, 1, 2});
  world.Tick(Seconds(300));  // the freeze is bounded
  world.Silence({0, 1, 2});
  EXPECT_EQ(world.state().sessions.size(), 3u);
  ExpectExactlyOnce(world);
}

TEST_P(Cores, TwoOfSixThatFallSilentExpireAtOnce) {
  CoreWorld world(Config());
  for (uint8_t k = 1; k <= 6; ++k) world.AddWorker(k);
  world.RunUntil(1);
  world.Silence({4, 5});
  EXPECT_EQ(world.state().sessions.size(), 4u);
}

TEST_P(Cores, ARunStopsWhenARequiredWorkerStaysAway) {
  RunConfig config = Config();
  config.round.required_workers = "w2, w3";
  config.round.quorum = 0.5;
  CoreWorld world(config);
  for (uint8_t k = 1; k <= 3; ++k) world.AddWorker(k);
  world.RunUntil(1);
  EXPECT_EQ(world.version(), 1u);
  world.KillWorker(2);
  world.RunUntil(2, 20);
  EXPECT_EQ(world.version(), 1u);
  EXPECT_THAT(world.WaitingFor(), HasSubstr("required worker w3"));
  world.Tick(Seconds(10'000));
  EXPECT_EQ(world.state().phase, Phase::kStopped);
  EXPECT_THAT(world.state().reason, HasSubstr("required worker w3"));
}

TEST_P(Cores, ADegradedRunGoesOnAndEndsWithoutSuccess) {
  RunConfig config = Config();
  config.round.min_tokens = 100'000'000;
  config.round.broken_contract = "degrade";
  CoreWorld world(config);
  for (uint8_t k = 1; k <= 3; ++k) world.AddWorker(k);
  world.RunUntil(1, 3);
  EXPECT_EQ(world.version(), 0u);
  world.Tick(Seconds(10'000));
  world.RunUntil(3);
  EXPECT_EQ(world.version(), 3u);
  EXPECT_THAT(world.state().degraded, HasSubstr("round.min_tokens"));
  ExpectExactlyOnce(world);
}

TEST_P(Cores, ARoundThatIsNeverAddedUpIsTriedAgainAndThenAborted) {
  RunConfig config = Config();
  CoreWorld world(config);
  for (uint8_t k = 1; k <= 3; ++k) world.AddWorker(k);
  world.reducer_closes = false;
  world.RunUntil(1, 3);
  for (uint32_t i = 0; i <= kMaxAttempts; ++i) world.Tick(Seconds(2'000));
  EXPECT_THAT(world.JournalText(), Contains(HasSubstr("closed, attempt 2")));
  EXPECT_THAT(world.JournalText(), Contains(HasSubstr("could not be added up in time")));
  world.reducer_closes = true;
  world.Tick(Seconds(2'000));
  world.RunUntil(3);
  EXPECT_EQ(world.version(), 3u);
  ExpectExactlyOnce(world);
}

TEST_P(Cores, WhatTheReducerLostGoesOutWithTheNextContribution) {
  RunConfig config = Config();
  config.run.rounds = 5;
  config.run.min_workers = 3;
  config.round.quorum = 0.5;
  CoreWorld world(config);
  for (uint8_t k = 1; k <= 3; ++k) world.AddWorker(k);
  world.reducer_closes = false;
  world.RunUntil(1, 3);
  const Round round = *world.state().fragments[0].round;
  ASSERT_TRUE(round.closing.has_value());
  ASSERT_EQ(round.closing->included.size(), 3u);
  world.reducer_closes = true;
  world.Feed(LostEvent{FragmentId{0}, round.id, 1, {round.closing->included[1]}});
  world.Deliver();
  world.Tick(Seconds(2'000));  // what the other fragments asked for was lost
  world.RunUntil(5);
  EXPECT_THAT(world.JournalText(), Contains(HasSubstr("closed, attempt 2")));
  EXPECT_EQ(world.version(), 5u);
  ExpectExactlyOnce(world);
}

TEST_P(Cores, ARollBackGoesBackToTheCheckpointAndTrainsTheDataAgain) {
  RunConfig config = Config();
  config.run.rounds = 8;
  CoreWorld world(config);
  for (uint8_t k = 1; k <= 3; ++k) world.AddWorker(k);
  world.RunUntil(2);
  RollBackEvent back{.generation = {2, 77}};
  for (uint64_t f = 0; f < world.state().fragments.size(); ++f)
    back.snapshots.push_back(world.state().fragments[f].snapshot);
  for (ObjectInfo& snapshot : back.snapshots) snapshot.id.generation = back.generation;
  ByteWriter ledger;
  world.state().leases.Encode(ledger);
  back.leases = ledger.str();
  const RoundId last = world.state().last_round;
  world.RunUntil(4);
  world.Feed(back);
  EXPECT_LT(world.version(), 4u);
  world.committed.clear();
  world.RunUntil(8);
  EXPECT_EQ(world.version(), 8u);
  EXPECT_GT(world.state().last_round, last);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(world.worker(i).generation(), back.generation);
}

TEST_P(Cores, ARunEndsWhenItsDataIsUsedUp) {
  RunConfig config = Config();
  config.run.rounds = 1000;
  CoreWorld world(config, /*positions=*/61);
  for (uint8_t k = 1; k <= 3; ++k) world.AddWorker(k);
  world.RunUntil(1000, 400);
  EXPECT_EQ(world.state().phase, Phase::kFinished) << world.WaitingFor();
  EXPECT_THAT(world.state().reason, HasSubstr("data is used up"));
  ExpectExactlyOnce(world);
  EXPECT_GE(world.committed.at(FragmentId{0}).size(), 50u);
}

TEST_P(Cores, MessagesThatDoNotFitAreIgnoredWithAReasonAndChangeNothing) {
  RunConfig config = Config();
  CoreWorld world(config);
  for (uint8_t k = 1; k <= 3; ++k) world.AddWorker(k);
  world.RunUntil(1);
  const SessionId session = world.worker(0).session();
  world.may_step = [](int) { return false; };
  const Fragment& f = world.state().fragments[0];
  for (int i = 0; i < 20 && (i == 0 || !f.round || f.round->closing); ++i) world.Tick(Seconds(1));
  ASSERT_TRUE(f.round.has_value());
  const Ledger::Range lease = world.state().leases.ledger(FragmentId{0}).LeasesOf(session).at(0);
  ContributionReady good;
  const ObjectSize size = CodedSize(config.sync, f.elements);
  good.object = {{ObjectKind::kContribution,
                  world.state().generation,
                  FragmentId{0},
                  f.version,
                  {session, 99}},
                 size.chunks,
                 size.bytes,
                 Digest{}};
  good.round = f.round->id;
  good.base_hash = f.state_hash;
  good.leases = {{lease.fence, lease.from, lease.from + 1}};
  good.steps = 1;
  good.loss = 1;
  if (!f.round->slices.empty()) good.slices = {{size.chunks, size.bytes, {}}};
  auto expect_ignored = [&](const char* what, auto change) {
    ContributionEvent event{session, good};
    change(event);
    const std::string before = EncodeState(world.state());
    const Effects effects = world.Feed(event);
    EXPECT_EQ(effects.ignored.size(), 1u) << what;
    EXPECT_TRUE(effects.records.empty()) << what;
    EXPECT_EQ(EncodeState(world.state()), before) << what;
  };
  expect_ignored("fragment", [](auto& e) { e.ready.object.id.fragment = {77}; });
  expect_ignored("session", [](auto& e) { e.session = {1234}; });
  expect_ignored("old round", [](auto& e) { e.ready.round = {1}; });
  expect_ignored("future round", [](auto& e) { e.ready.round = {999}; });
  expect_ignored("kind", [](auto& e) { e.ready.object.id.kind = ObjectKind::kState; });
  expect_ignored("generation", [](auto& e) { e.ready.object.id.generation.random ^= 1; });
  expect_ignored("owner", [](auto& e) { e.ready.object.id.contribution.session = {1000}; });
  expect_ignored("base", [](auto& e) { e.ready.object.id.version = {0}; });
  expect_ignored("used number", [](auto& e) { e.ready.object.id.contribution.sequence = 1; });
  expect_ignored("base hash", [](auto& e) { e.ready.base_hash[0] ^= 1; });
  expect_ignored("fence", [](auto& e) { e.ready.leases[0].fence = {12345}; });
  expect_ignored("another's data", [](auto& e) { e.ready.leases[0].from += 1000; });
  expect_ignored("empty range", [](auto& e) { e.ready.leases[0].to = e.ready.leases[0].from; });
  expect_ignored("the same data twice", [](auto& e) {
    e.ready.leases.push_back(e.ready.leases[0]);
    e.ready.steps = 2;
  });
  expect_ignored("steps", [](auto& e) { e.ready.steps = 2; });
  expect_ignored("no steps", [](auto& e) { e.ready.steps = 0, e.ready.leases.clear(); });
  expect_ignored("chunks", [](auto& e) { e.ready.object.chunks += 1; });
  expect_ignored("bytes", [](auto& e) { e.ready.object.bytes += 1; });
  expect_ignored("slices", [](auto& e) { e.ready.slices.emplace_back(); });
  EXPECT_TRUE(world.Feed(ContributionEvent{session, good}).ignored.empty());
}

TEST_P(Cores, WithoutARestartTheJournalFoldsToTheSameState) {
  CoreWorld world(Config());
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
  EXPECT_TRUE(folded == world.state());
  const std::string bytes = EncodeState(folded);
  const std::optional<State> decoded = DecodeState(AsBytes(bytes));
  ASSERT_TRUE(decoded.has_value());
  EXPECT_TRUE(*decoded == folded);
  EXPECT_EQ(EncodeState(*decoded), bytes);
  EXPECT_THAT(world.JournalText(), Not(Contains(HasSubstr("refused"))));
}

}  // namespace
}  // namespace longhaul
