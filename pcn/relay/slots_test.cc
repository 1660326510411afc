#include "pcn/relay/slots.h"

#include <gtest/gtest.h>

namespace longhaul::pcn {
namespace {

WorkerKey Key(uint8_t n) {
  WorkerKey key;
  key.bytes.fill(n);
  return key;
}

StageBeat Beat(uint8_t n, double speed = 1) {
  StageBeat beat;
  beat.address = "host" + std::to_string(n) + ":1";
  beat.speed = speed;
  beat.memory_bytes = uint64_t{1} << 40;
  beat.data.fill(1);
  return beat;
}

RelayPlan Plan() {
  RelayPlan plan;
  plan.sizes = {100, 100, 100, 100, 100, 100};
  plan.stages = 2;
  return plan;
}

// Two stages at work, keys 1 and 2.
class RelaySlotsTest : public ::testing::Test {
 protected:
  void Start() {
    slots_.OnBeat(Key(1), Beat(1, 2), Seconds(0));
    slots_.OnBeat(Key(2), Beat(2, 1), Seconds(0));
  }
  void Say(uint8_t n, uint64_t epoch, uint32_t stage, bool finished, Duration now) {
    StageBeat beat = Beat(n);
    beat.epoch = epoch;
    beat.stage = stage;
    beat.finished = finished;
    beat.accepted = 10, beat.trained = 7, beat.open = 3;
    beat.settled_below = 7;
    slots_.OnBeat(Key(n), beat, now);
  }
  RelaySlots slots_{Plan()};
};

TEST_F(RelaySlotsTest, WaitsThenCutsBySpeedWithSlowOnesOnTop) {
  slots_.OnBeat(Key(2), Beat(2, 1), Seconds(0));
  EXPECT_EQ(slots_.table().phase, RelayPhase::kWaiting);
  StageBeat blind = Beat(3);
  blind.data = {};
  slots_.OnBeat(Key(3), blind, Seconds(0));  // has not read its images
  EXPECT_EQ(slots_.table().phase, RelayPhase::kWaiting);
  slots_.OnBeat(Key(1), Beat(1, 4), Seconds(0));
  const StageTable& table = slots_.table();
  ASSERT_EQ(table.phase, RelayPhase::kRunning);
  EXPECT_EQ(table.slots[0].holder, Key(1));
  EXPECT_EQ(table.slots[1].holder, Key(2));
  EXPECT_EQ(table.slots[1].first_layer, 4u);  // four of five layers where it is four times faster
}

TEST_F(RelaySlotsTest, ASilentHolderIsReplacedByWhoeverWaits) {
  Start();
  Say(1, 1, 0, false, Seconds(9));
  Say(2, 1, 1, false, Seconds(1));
  slots_.OnTick(Seconds(10));
  EXPECT_EQ(slots_.table().slots[1].holder, WorkerKey());
  EXPECT_EQ(slots_.table().slots[1].epoch, 1u);
  slots_.OnBeat(Key(5), Beat(5), Seconds(11));
  EXPECT_EQ(slots_.table().slots[1].holder, Key(5));
  EXPECT_EQ(slots_.table().slots[1].epoch, 2u);
  // What was open with the old holder is booked as reset; what the new one does is added.
  Say(5, 2, 1, false, Seconds(11));
  const StageBeat sum = slots_.Summary(1);
  EXPECT_EQ(sum.accepted, 20u);
  EXPECT_EQ(sum.trained, 14u);
  EXPECT_EQ(sum.discarded[static_cast<size_t>(Discard::kReset)], 3u);
  // The old one is back and waits like anybody else.
  slots_.OnBeat(Key(2), Beat(2), Seconds(11));
  EXPECT_EQ(slots_.table().slots[1].holder, Key(5));
  EXPECT_EQ(slots_.waiting(), 1u);
}

TEST_F(RelaySlotsTest, ANewFirstStageResumesWhereTheOldOneHadSettled) {
  Start();
  Say(1, 1, 0, false, Seconds(1));
  Say(2, 1, 1, false, Seconds(9));
  slots_.OnTick(Seconds(10));
  EXPECT_EQ(slots_.table().resume_at, 7u);
}

TEST_F(RelaySlotsTest, EndsWhenAllAreDone) {
  Start();
  Say(2, 1, 1, true, Seconds(1));
  EXPECT_EQ(slots_.table().phase, RelayPhase::kRunning);
  Say(1, 1, 0, true, Seconds(1));
  ASSERT_EQ(slots_.table().phase, RelayPhase::kOver);
  EXPECT_FALSE(slots_.over());
  for (uint8_t n : {1, 2}) {
    StageBeat beat = Beat(n);
    beat.leaving = true;
    slots_.OnBeat(Key(n), beat, Seconds(2));
  }
  EXPECT_TRUE(slots_.over());
}

// Blocks with replicas: nobody stops before the run of every block is over.
TEST(RelaySlots, WithBlockRunsItEndsWhenAllBlocksAreAveraged) {
  RelayPlan plan = Plan();
  plan.first_layers = {0, 3};
  plan.block_runs = {"LH1-a", "LH1-b"};
  RelaySlots slots(plan);
  const auto say = [&](uint8_t n, bool averaged, bool finished) {
    StageBeat beat = Beat(n, 3 - n);
    beat.epoch = 1;
    beat.stage = n - 1;
    beat.averaged = averaged;
    beat.finished = finished;
    slots.OnBeat(Key(n), beat, Seconds(0));
  };
  slots.OnBeat(Key(1), Beat(1, 2), Seconds(0));
  slots.OnBeat(Key(2), Beat(2, 1), Seconds(0));
  say(1, true, false);
  EXPECT_EQ(slots.table().phase, RelayPhase::kRunning);
  say(2, true, false);
  EXPECT_EQ(slots.table().phase, RelayPhase::kDraining);
  say(1, true, true);
  EXPECT_EQ(slots.table().phase, RelayPhase::kDraining);
  say(2, true, true);
  EXPECT_EQ(slots.table().phase, RelayPhase::kOver);
}

TEST_F(RelaySlotsTest, RefusesOtherImagesAndTooLittleMemory) {
  StageBeat other = Beat(2);
  other.data.fill(9);
  slots_.OnBeat(Key(1), Beat(1, 2), Seconds(0));
  slots_.OnBeat(Key(2), other, Seconds(0));
  EXPECT_NE(slots_.table().problem.find("different images"), std::string::npos);
  RelaySlots small(Plan());
  StageBeat poor = Beat(1);
  poor.memory_bytes = 1000;
  small.OnBeat(Key(1), poor, Seconds(0));
  small.OnBeat(Key(2), poor, Seconds(0));
  EXPECT_NE(small.table().problem.find("memory"), std::string::npos);
}

}  // namespace
}  // namespace longhaul::pcn
