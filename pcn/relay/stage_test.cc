#include "pcn/relay/stage.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <vector>

#include "pcn/relay/lossy_link.h"

namespace longhaul::pcn {
namespace {

Payload Text(const std::string& text) {
  return std::make_shared<const Bytes>(text.begin(), text.end());
}

StageOptions Middle() { return {.stage = 1, .stages = 3, .max_in_flight = 2, .hop_ticks = 10}; }

Message From(uint32_t stage, MessageKind kind, uint64_t micro_batch, uint64_t sequence,
             uint64_t epoch = 1) {
  Message m{.kind = kind, .from = stage, .to = 1, .micro_batch = micro_batch, .epoch = epoch};
  m.sequence = sequence;
  if (kind == MessageKind::kStateUp || kind == MessageKind::kCreditDown) m.payload = Text("p");
  return m;
}
Message StateUp(uint64_t m, uint64_t sequence = 1, uint64_t epoch = 1) {
  return From(0, MessageKind::kStateUp, m, sequence, epoch);
}
Message Credit(uint64_t m, uint64_t sequence = 1, uint64_t epoch = 1) {
  return From(2, MessageKind::kCreditDown, m, sequence, epoch);
}

// Predicts micro-batch m, which must be what comes next.
void Predict(Stage& stage, uint64_t m, uint64_t now = 0) {
  const auto work = stage.NextWork(now);
  ASSERT_TRUE(work);
  ASSERT_EQ(work->kind, WorkKind::kPredict);
  ASSERT_EQ(work->micro_batch, m);
  stage.OnPredicted(m, Text("up"), now);
}
std::vector<MessageKind> Kinds(Stage& stage) {
  std::vector<MessageKind> kinds;
  for (const Message& m : stage.TakeOutgoing()) kinds.push_back(m.kind);
  return kinds;
}
using Said = std::vector<MessageKind>;

TEST(Stage, CreditGoesFirstAndInFlightIsBounded) {
  Stage stage(Middle());
  for (uint64_t m : {0, 1, 2, 3}) stage.OnMessage(StateUp(m), 0);
  Predict(stage, 0);
  Predict(stage, 1);
  EXPECT_FALSE(stage.NextWork(0));  // two wait for credit: backpressure
  EXPECT_EQ(Kinds(stage), (Said{MessageKind::kStateUp, MessageKind::kStateUp}));
  stage.OnMessage(Credit(1), 1);
  const auto work = stage.NextWork(1);
  ASSERT_TRUE(work);
  EXPECT_EQ(work->kind, WorkKind::kCredit);
  EXPECT_EQ(work->micro_batch, 1u);
  EXPECT_EQ(work->rate, 1);
  stage.OnTrained(1, Text("down"));
  EXPECT_EQ(Kinds(stage), Said{MessageKind::kCreditDown});
  EXPECT_EQ(stage.version(), 1u);
  Predict(stage, 2);
  EXPECT_TRUE(stage.ledger().Balances());
  EXPECT_EQ(stage.ledger().trained(), 1u);
  EXPECT_EQ(stage.ledger().open(), 3u);
}

TEST(Stage, AStateHasItsTurnAfterEachCredit) {
  StageOptions options = Middle();
  options.max_in_flight = 3;
  Stage stage(options);
  for (uint64_t m : {0, 1, 2, 3, 4}) stage.OnMessage(StateUp(m), 0);
  for (uint64_t m : {0, 1, 2}) Predict(stage, m);
  for (uint64_t m : {0, 1, 2}) stage.OnMessage(Credit(m), 1);
  std::vector<WorkKind> done;
  while (const auto work = stage.NextWork(1)) {
    done.push_back(work->kind);
    if (work->kind == WorkKind::kPredict) {
      stage.OnPredicted(work->micro_batch, Text("up"), 1);
    } else {
      stage.OnTrained(work->micro_batch, Text("down"));
    }
  }
  using enum WorkKind;
  EXPECT_EQ(done, (std::vector{kCredit, kPredict, kCredit, kPredict, kCredit}));
}

// Replicas of the block are averaged: there is an update only when the run has a step for it.
TEST(Stage, CreditsWaitUntilTrainingIsAllowed) {
  Stage stage(Middle());
  stage.OnMessage(StateUp(0), 0);
  stage.OnMessage(StateUp(1), 0);
  Predict(stage, 0);
  stage.OnMessage(Credit(0), 1);
  const auto state = stage.NextWork(1, /*may_train=*/false);
  ASSERT_TRUE(state);
  EXPECT_EQ(state->kind, WorkKind::kPredict);
  stage.OnPredicted(1, Text("up"), 1);
  EXPECT_FALSE(stage.NextWork(1, /*may_train=*/false));
  EXPECT_EQ(stage.NextWork(1, /*may_train=*/true)->kind, WorkKind::kCredit);
  stage.OnTrained(0, Text("down"));
  Stage top({.stage = 1, .stages = 2});
  top.OnMessage(StateUp(0), 0);
  top.OfferLabel(0, Text("label"));
  EXPECT_FALSE(top.NextWork(0, /*may_train=*/false));
  EXPECT_TRUE(top.NextWork(0, /*may_train=*/true));
}

TEST(Stage, ServedCreditIsPassedDownAndBookedAsNotTrained) {
  Stage stage(Middle());
  stage.OnMessage(StateUp(0), 0);
  Predict(stage, 0);
  stage.OnMessage(Credit(0), 1);
  ASSERT_TRUE(stage.NextWork(1));
  stage.TakeOutgoing();
  stage.OnServed(0, Text("down"));
  EXPECT_EQ(Kinds(stage), Said{MessageKind::kCreditDown});
  EXPECT_EQ(stage.version(), 0u);
  EXPECT_EQ(stage.ledger().discarded(Discard::kServed), 1u);
  EXPECT_TRUE(stage.ledger().Balances());
}

// One credit that does not come holds the stage back before the ones above are forgotten.
TEST(Stage, StaysNearTheOldestThatWaits) {
  Stage stage(Middle());
  uint64_t m = 0;
  stage.OnMessage(StateUp(m), 0);
  Predict(stage, 0);
  while (true) {
    stage.OnMessage(StateUp(++m), 0);
    const auto work = stage.NextWork(0);
    if (!work) break;
    stage.OnPredicted(m, Text("up"), 0);
    stage.OnMessage(Credit(m), 0);
    ASSERT_TRUE(stage.NextWork(0));
    stage.OnTrained(m, Text("down"));
  }
  EXPECT_EQ(m, 8u);  // four times what may be in flight
}

TEST(Stage, InputIsRefusedWhenThereIsNoRoom) {
  Stage stage({.stage = 0, .stages = 2, .max_in_flight = 2});
  EXPECT_TRUE(stage.OfferInput(0, Text("x")));
  EXPECT_TRUE(stage.OfferInput(1, Text("x")));
  EXPECT_FALSE(stage.OfferInput(2, Text("x")));
  Predict(stage, 0);
  EXPECT_TRUE(stage.OfferInput(2, Text("x")));
}

TEST(Stage, TheTopNeedsStateAndLabel) {
  Stage stage({.stage = 1, .stages = 2});
  stage.OnMessage(StateUp(0), 0);
  stage.OnMessage(StateUp(1), 0);
  EXPECT_FALSE(stage.NextWork(0));
  EXPECT_TRUE(stage.OfferLabel(1, Text("label")));
  const auto work = stage.NextWork(0);
  ASSERT_TRUE(work);
  EXPECT_EQ(work->kind, WorkKind::kTop);
  EXPECT_EQ(work->micro_batch, 1u);
  stage.OnTrained(1, Text("down"));
  EXPECT_FALSE(stage.OfferLabel(1, Text("label")));  // decided
  EXPECT_EQ(Kinds(stage), Said{MessageKind::kCreditDown});
}

TEST(Stage, ALabelThatDoesNotComeIsGivenUp) {
  Stage stage({.stage = 1, .stages = 2, .hop_ticks = 10});
  stage.OnMessage(StateUp(0), 0);
  for (uint64_t now = 1; now <= 60; ++now) stage.OnTick(now);
  EXPECT_EQ(stage.ledger().open(), 1u);
  stage.OnTick(61);
  EXPECT_EQ(stage.ledger().discarded(Discard::kExpired), 1u);
  EXPECT_EQ(Kinds(stage), Said{MessageKind::kGone});
}

TEST(Stage, RateFallsWithTheGapAndEndsAtTheLimit) {
  StageOptions options = Middle();
  options.max_in_flight = 8;
  options.full_rate_gap = 2;
  options.gap_limit = 4;
  Stage stage(options);
  for (uint64_t m = 0; m < 7; ++m) stage.OnMessage(StateUp(m), 0);
  for (uint64_t m = 0; m < 7; ++m) Predict(stage, m);
  const double rates[] = {1, 1, 1, 2.0 / 3, 0.5};
  for (uint64_t m = 0; m < 7; ++m) {
    stage.OnMessage(Credit(m), 1);
    const auto work = stage.NextWork(1);
    EXPECT_EQ(work.has_value(), m < 5) << m;
    if (!work) continue;
    EXPECT_EQ(work->rate, rates[m]);
    stage.OnTrained(m, Text("down"));
  }
  EXPECT_EQ(stage.ledger().discarded(Discard::kStale), 2u);
  EXPECT_EQ(stage.gaps().Percentile(1), 5u);
  EXPECT_TRUE(stage.ledger().Balances());
}

TEST(Stage, RepeatsChangeNothing) {
  Stage stage(Middle());
  stage.OnMessage(StateUp(0, 1), 0);
  stage.OnMessage(StateUp(0, 1), 0);
  Predict(stage, 0);
  stage.OnMessage(StateUp(0, 2), 0);  // again, while it waits
  stage.OnMessage(Credit(0, 1), 0);
  stage.OnMessage(Credit(0, 1), 0);
  ASSERT_TRUE(stage.NextWork(0));
  stage.OnTrained(0, Text("down"));
  stage.OnMessage(Credit(0, 2), 0);
  EXPECT_FALSE(stage.NextWork(0));
  EXPECT_EQ(stage.version(), 1u);
  EXPECT_EQ(stage.counters().late, 1u);
  stage.TakeOutgoing();
  stage.OnMessage(StateUp(0, 3), 0);  // below did not get the credit: here it is again
  EXPECT_EQ(Kinds(stage), Said{MessageKind::kCreditDown});
  EXPECT_EQ(stage.ledger().accepted(), 1u);
}

TEST(Stage, AsksAFewTimesThenGivesUp) {
  Stage stage(Middle());
  stage.OnMessage(StateUp(0), 0);
  Predict(stage, 0);
  stage.TakeOutgoing();
  uint64_t now = 0;
  int queries = 0;
  while (stage.in_flight() > 0 && now < 1000) {
    stage.OnTick(++now);
    for (MessageKind kind : Kinds(stage)) {
      if (kind == MessageKind::kHaveQuery) ++queries;
      EXPECT_EQ(kind == MessageKind::kGone, stage.in_flight() == 0);
    }
  }
  EXPECT_EQ(queries, 3);
  EXPECT_EQ(stage.ledger().discarded(Discard::kExpired), 1u);
  stage.OnMessage(Credit(0), now);  // too late
  EXPECT_FALSE(stage.NextWork(now));
  stage.OnMessage(From(0, MessageKind::kHaveQuery, 0, 9), now);
  EXPECT_EQ(Kinds(stage), Said{MessageKind::kGone});
}

TEST(Stage, AnswersRepairWhatWasLost) {
  Stage stage(Middle());
  stage.OnMessage(StateUp(0), 0);
  Predict(stage, 0);
  stage.TakeOutgoing();
  Message answer = From(2, MessageKind::kHaveAnswer, 0, 1);
  answer.have = HaveState::kMissing;
  stage.OnMessage(answer, 5);
  EXPECT_EQ(Kinds(stage), Said{MessageKind::kStateUp});
  stage.OnMessage(From(0, MessageKind::kHaveQuery, 0, 2), 5);  // we still wait
  stage.OnMessage(From(0, MessageKind::kHaveQuery, 7, 3), 5);  // never seen
  const std::vector<Message> said = stage.TakeOutgoing();
  ASSERT_EQ(said.size(), 2u);
  EXPECT_EQ(said[0].have, HaveState::kWaiting);
  EXPECT_EQ(said[1].have, HaveState::kMissing);
}

TEST(Stage, GoneTravelsDown) {
  Stage stage(Middle());
  stage.OnMessage(StateUp(0), 0);
  Predict(stage, 0);
  stage.TakeOutgoing();
  stage.OnMessage(From(2, MessageKind::kGone, 0, 1), 1);
  EXPECT_EQ(Kinds(stage), Said{MessageKind::kGone});
  EXPECT_EQ(stage.ledger().discarded(Discard::kGone), 1u);
  stage.OnMessage(From(2, MessageKind::kGone, 0, 2), 1);
  EXPECT_TRUE(Kinds(stage).empty());
}

TEST(Stage, FencesAReplacedNeighbour) {
  Stage stage(Middle());
  for (uint64_t m : {0, 1}) stage.OnMessage(StateUp(m), 0);
  Predict(stage, 0);
  Predict(stage, 1);
  stage.OnMessage(Credit(0, 50), 0);
  ASSERT_TRUE(stage.NextWork(0));
  stage.OnTrained(0, Text("down"));
  stage.TakeOutgoing();
  stage.OnFence(2, 2, 3);  // what still waits goes to the new holder
  EXPECT_EQ(Kinds(stage), Said{MessageKind::kStateUp});
  stage.OnMessage(Credit(1, 99, 1), 4);  // the old holder lives on: unheard
  EXPECT_FALSE(stage.NextWork(4));
  EXPECT_EQ(stage.counters().fenced, 1u);
  stage.OnMessage(Credit(1, 1, 2), 5);
  EXPECT_TRUE(stage.NextWork(5));
}

TEST(Stage, FallsSilentWhenReplaced) {
  Stage stage(Middle());
  stage.OnMessage(StateUp(0), 0);
  Predict(stage, 0);
  stage.OnFence(1, 2, 1);
  EXPECT_TRUE(stage.superseded());
  stage.OnMessage(Credit(0), 2);
  stage.OnTick(10000);
  EXPECT_FALSE(stage.NextWork(2));
  EXPECT_TRUE(stage.TakeOutgoing().empty());
}

TEST(Stage, ANewHolderOnlyPredictsAtFirst) {
  StageOptions options = Middle();
  options.warm_up = 1;
  options.epoch = 2;
  options.version = 40;
  Stage stage(options);
  for (uint64_t m : {0, 1}) stage.OnMessage(StateUp(m), 0);
  Predict(stage, 0);
  Predict(stage, 1);
  stage.TakeOutgoing();
  for (uint64_t m : {0, 1}) stage.OnMessage(Credit(m), 1);
  const auto work = stage.NextWork(1);
  ASSERT_TRUE(work);
  EXPECT_EQ(work->micro_batch, 1u);
  EXPECT_EQ(Kinds(stage), Said{MessageKind::kGone});
  stage.OnTrained(1, Text("down"));
  EXPECT_EQ(stage.version(), 41u);
  EXPECT_EQ(stage.ledger().discarded(Discard::kWarmUp), 1u);
}

TEST(Stage, SnapshotsGoToTheBuddy) {
  StageOptions options = Middle();
  options.snapshot_every = 1;
  Stage stage(options);
  EXPECT_FALSE(stage.SnapshotDue());
  stage.OnMessage(StateUp(0), 0);
  Predict(stage, 0);
  stage.OnMessage(Credit(0), 1);
  ASSERT_TRUE(stage.NextWork(1));
  stage.OnTrained(0, Text("down"));
  ASSERT_TRUE(stage.SnapshotDue());
  stage.TakeOutgoing();
  stage.SendSnapshot(Text("weights"));
  EXPECT_FALSE(stage.SnapshotDue());
  const std::vector<Message> said = stage.TakeOutgoing();
  ASSERT_EQ(said.size(), 1u);
  EXPECT_EQ(said[0].to, 2u);
  Stage buddy({.stage = 2, .stages = 3});
  EXPECT_EQ(buddy.HeldSnapshot(1), nullptr);
  buddy.OnMessage(said[0], 2);
  ASSERT_NE(buddy.HeldSnapshot(1), nullptr);
  EXPECT_EQ(buddy.HeldSnapshot(1)->version, 1u);
  Message old = said[0];
  old.epoch = 0;
  old.version = 99;
  buddy.OnMessage(old, 3);
  EXPECT_EQ(buddy.HeldSnapshot(1)->version, 1u);
}

TEST(Stage, StrangersAreIgnored) {
  Stage stage(Middle());
  Message upside_down = StateUp(0);
  upside_down.from = 2;
  stage.OnMessage(upside_down, 0);
  Message far_away = StateUp(0);
  far_away.from = UINT32_MAX;
  stage.OnMessage(far_away, 0);
  Message empty = StateUp(0);
  empty.payload = nullptr;
  stage.OnMessage(empty, 0);
  Message myself = StateUp(0);
  myself.from = 1;
  stage.OnMessage(myself, 0);
  EXPECT_EQ(stage.counters().misrouted, 4u);
  EXPECT_FALSE(stage.NextWork(0));
  EXPECT_EQ(stage.ledger().accepted(), 0u);
}

TEST(Stage, FailedWorkIsBookedAndToldBelow) {
  Stage stage(Middle());
  stage.OnMessage(StateUp(0), 0);
  ASSERT_TRUE(stage.NextWork(0));
  stage.OnFailed(0, Discard::kNotFinite);
  EXPECT_EQ(Kinds(stage), Said{MessageKind::kGone});
  EXPECT_EQ(stage.ledger().discarded(Discard::kNotFinite), 1u);
  stage.OnMessage(StateUp(1), 0);
  Predict(stage, 1);  // the stage goes on
}

// ---- three stages over links that lose, repeat and reorder ----

struct Chain {
  explicit Chain(LossyLink::Options link) {
    for (uint32_t k = 0; k < 3; ++k) {
      stages.emplace_back(StageOptions{
          .stage = k, .stages = 3, .max_in_flight = 6, .hop_ticks = 12, .max_queries = 20});
      link.seed = k;
      links.emplace_back(link);
    }
  }
  void Tick(uint64_t now) {
    for (uint32_t k = 0; k < 3; ++k) {
      for (const Message& m : links[k].Receive(now)) stages[k].OnMessage(m, now);
      stages[k].OnTick(now);
      if (const auto work = stages[k].NextWork(now)) {
        if (work->kind == WorkKind::kPredict) {
          stages[k].OnPredicted(work->micro_batch, Text("s"), now);
        } else {
          ++trained[k][work->micro_batch];
          stages[k].OnTrained(work->micro_batch, Text("c"));
        }
      }
      for (const Message& m : stages[k].TakeOutgoing()) links[m.to].Send(m, now);
    }
  }
  std::vector<Stage> stages;
  std::vector<LossyLink> links;  // into each stage
  std::map<uint64_t, int> trained[3];
};

// With questions enough, every micro-batch trains every block, once.
TEST(Chain, ResendBringsEveryCreditHome) {
  for (uint32_t loss : {0u, 100u, 300u}) {
    Chain chain({.delay = 2, .jitter = 3, .loss_permille = loss, .duplicate_permille = 100});
    constexpr uint64_t kBatches = 200;
    uint64_t next = 0, now = 0;
    while (chain.trained[0].size() < kBatches && now < 200000) {
      if (next < kBatches && chain.stages[0].OfferInput(next, Text("x"))) ++next;
      for (uint64_t m = next - std::min<uint64_t>(next, 30); m < next; ++m)
        chain.stages[2].OfferLabel(m, Text("y"));
      chain.Tick(++now);
    }
    for (int k : {0, 1, 2}) {
      EXPECT_EQ(chain.trained[k].size(), kBatches) << loss << " " << k;
      for (const auto& [m, times] : chain.trained[k]) EXPECT_EQ(times, 1) << m;
      EXPECT_TRUE(chain.stages[k].ledger().Balances());
      EXPECT_EQ(chain.stages[k].ledger().discarded(), 0u);
    }
    EXPECT_EQ(chain.stages[0].counters().resends + chain.stages[1].counters().resends > 0,
              loss > 0);
  }
}

// Long links: a message takes five ticks, a forward pass one, a credit three. The share of time
// that the first of four stages works.
double FirstStageAtWork(uint32_t in_flight) {
  constexpr uint32_t kStages = 4;
  constexpr uint64_t kFrom = 500, kTo = 2500;
  std::vector<Stage> stages;
  std::vector<LossyLink> links;
  for (uint32_t k = 0; k < kStages; ++k) {
    stages.emplace_back(
        StageOptions{.stage = k, .stages = kStages, .max_in_flight = in_flight, .hop_ticks = 100});
    links.emplace_back(LossyLink::Options{.delay = 4});
  }
  std::vector<uint64_t> until(kStages);
  uint64_t next = 0, busy = 0;
  for (uint64_t now = 1; now < kTo; ++now) {
    if (stages[0].OfferInput(next, Text("x"))) ++next;
    for (uint32_t k = 0; k < kStages; ++k) {
      for (const Message& m : links[k].Receive(now)) {
        stages[k].OnMessage(m, now);
        if (k + 1 == kStages) stages[k].OfferLabel(m.micro_batch, Text("y"));
      }
      if (until[k] == now) {  // what was begun is done
        const auto work = stages[k].NextWork(now);
        work->kind == WorkKind::kPredict ? stages[k].OnPredicted(work->micro_batch, Text("s"), now)
                                         : stages[k].OnTrained(work->micro_batch, Text("c"));
      }
      if (until[k] <= now) {
        if (const auto work = stages[k].NextWork(now)) {
          until[k] = now + (work->kind == WorkKind::kPredict ? 1 : 3);
        }
      }
      if (k == 0 && until[0] > now && now >= kFrom) ++busy;
      for (const Message& m : stages[k].TakeOutgoing()) links[m.to].Send(m, now);
    }
  }
  return static_cast<double>(busy) / (kTo - kFrom);
}

// What is in flight, over the way there and back: three hops of 2 * 5 + 4 ticks and 3 at the top.
TEST(Chain, LongLinksAreKeptBusy) {
  for (uint32_t in_flight : {4u, 8u, 12u, 16u}) {
    const double model = std::min(1.0, in_flight * 4 / 45.0);
    EXPECT_GT(FirstStageAtWork(in_flight), 0.9 * model) << in_flight;
  }
}

// A stage that never answers slows nobody for ever: what it holds up expires.
TEST(Chain, ASilentStageIsSurvived) {
  Chain chain({});
  uint64_t next = 0;
  for (uint64_t now = 1; now < 3000; ++now) {
    if (chain.stages[0].OfferInput(next, Text("x"))) ++next;
    for (uint32_t k : {0u, 1u}) {
      for (const Message& m : chain.links[k].Receive(now)) chain.stages[k].OnMessage(m, now);
      chain.stages[k].OnTick(now);
      if (const auto work = chain.stages[k].NextWork(now)) {
        chain.stages[k].OnPredicted(work->micro_batch, Text("s"), now);
      }
      for (const Message& m : chain.stages[k].TakeOutgoing()) {
        if (m.to < 2) chain.links[m.to].Send(m, now);
      }
    }
  }
  EXPECT_GT(next, 12u);
  for (uint32_t k : {0u, 1u}) {
    EXPECT_LE(chain.stages[k].in_flight(), 6u);
    EXPECT_GT(chain.stages[k].ledger().discarded(), 0u);
    EXPECT_TRUE(chain.stages[k].ledger().Balances());
  }
}

}  // namespace
}  // namespace longhaul::pcn
