// A crash at any moment costs nothing that was acknowledged, and is never taken for damage.
#include <gtest/gtest.h>

#include "coordinator/journal_history.h"

namespace longhaul {
namespace {

constexpr int kSteps = 60;

uint64_t ChangesOf(int steps) {
  FaultStorage disk;
  HistoryWriter writer(disk, 1);
  EXPECT_TRUE(writer.Live(steps).ok());
  return disk.changes();
}

TEST(JournalCrashTest, ALossOfPowerAtEveryCall) {
  const uint64_t changes = ChangesOf(kSteps);
  ASSERT_GT(changes, 200u);
  for (uint64_t n = 1; n <= changes; ++n) {
    for (uint64_t seed = 1; seed <= 8; ++seed) {
      FaultStorage disk;
      HistoryWriter writer(disk, 1);
      disk.PowerOffAfter(n);
      ASSERT_TRUE(absl::IsUnavailable(writer.Live(kSteps)));
      disk.Restart(seed);
      const absl::Status again = writer.Live(3);
      ASSERT_TRUE(again.ok()) << "call " << n << ", seed " << seed << ": " << again;
    }
  }
}

TEST(JournalCrashTest, OneLossOfPowerAfterTheOther) {
  Rng rng(5);
  for (int run = 0; run < 60; ++run) {
    FaultStorage disk;
    HistoryWriter writer(disk, rng.Next());
    for (int life = 0; life < 60; ++life) {
      // Often while the one before is being repaired.
      disk.PowerOffAfter(1 + rng.Below(rng.Chance(1, 2) ? 8 : 120));
      const absl::Status ended = writer.Live(100);
      ASSERT_TRUE(absl::IsUnavailable(ended)) << "run " << run << ", life " << life << ended;
      disk.Restart(rng.Next());
    }
    EXPECT_GT(writer.acknowledged(), 100u);
  }
}

// What was read after the end of a process, and not of the machine, may have been in memory only.
TEST(JournalCrashTest, WhatAnOpenedJournalShowsIsDurable) {
  const uint64_t changes = ChangesOf(kSteps);
  for (uint64_t n = 1; n <= changes; ++n) {
    FaultStorage disk;
    HistoryWriter writer(disk, 1);
    disk.FailOnce(n, absl::UnavailableError("input/output error"));
    ASSERT_TRUE(absl::IsUnavailable(writer.Live(kSteps))) << n;  // no failure is passed over
    ASSERT_TRUE(writer.Live(0).ok()) << n;
    disk.Restart(n);
    ASSERT_TRUE(writer.Live(2).ok()) << n;
  }
}

TEST(JournalCrashTest, AFailedSyncIsTheEnd) {
  FaultStorage disk;
  auto opened = Journal::Open(disk, SmallJournal()).value();
  ASSERT_TRUE(opened.journal->Append("a").ok());
  disk.FailOnce(2, absl::UnavailableError("input/output error"));  // the write, then the sync
  EXPECT_FALSE(opened.journal->Sync().ok());
  EXPECT_FALSE(opened.journal->Sync().ok());  // though the disk would say yes now
  EXPECT_FALSE(opened.journal->StoreSnapshot("a").ok());
}

TEST(JournalCrashTest, ASnapshotThatFailsLeavesTheJournalAsItWas) {
  FaultStorage disk;
  auto opened = Journal::Open(disk, SmallJournal()).value();
  const std::string a(2000, 'a');
  ASSERT_TRUE(opened.journal->Append(a).ok());
  ASSERT_TRUE(opened.journal->Sync().ok());
  EXPECT_TRUE(opened.journal->snapshot_due());
  for (uint64_t call = 1; call <= 5; ++call) {
    disk.FailOnce(call, absl::ResourceExhaustedError("no space"));
    EXPECT_TRUE(absl::IsResourceExhausted(opened.journal->StoreSnapshot(StateOf({a})))) << call;
    EXPECT_FALSE(opened.journal->snapshot_due());
  }
  ASSERT_TRUE(opened.journal->Append("b").ok());
  ASSERT_TRUE(opened.journal->Sync().ok());
  EXPECT_EQ(Rebuilt(Journal::Open(disk, SmallJournal()).value()), (Payloads{a, "b"}));
}

}  // namespace
}  // namespace longhaul
