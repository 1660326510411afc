#include "coordinator/snapshots.h"

#include <gtest/gtest.h>

#include "common/fault_storage.h"

namespace longhaul {
namespace {

const JournalPlace kPlace = JournalPlace{.sequence = 41}.After("x");

TEST(SnapshotsTest, WhatWasWrittenIsRead) {
  FaultStorage disk;
  ASSERT_TRUE(WriteSnapshot(disk, "s", kPlace, "the state").ok());
  ASSERT_TRUE(WriteSnapshot(disk, "s", {.sequence = 7}, "").ok());
  EXPECT_EQ(ListSnapshots(disk, "s"), (std::vector<uint64_t>{42, 7}));
  const Snapshot read = ReadSnapshot(disk, "s", 42).value();
  EXPECT_EQ(read.place, kPlace);
  EXPECT_EQ(read.state, "the state");
  EXPECT_EQ(ReadSnapshot(disk, "s", 7)->state, "");
  EXPECT_TRUE(absl::IsNotFound(ReadSnapshot(disk, "s", 8).status()));
}

TEST(SnapshotsTest, EveryOtherFileIsRefused) {
  FaultStorage disk;
  ASSERT_TRUE(WriteSnapshot(disk, "s", kPlace, "the state").ok());
  std::string& bytes = *disk.Bytes("s/" + SnapshotName(42));
  const std::string whole = bytes;
  for (size_t size = 0; size < whole.size(); ++size) {
    bytes.resize(size);
    EXPECT_TRUE(absl::IsDataLoss(ReadSnapshot(disk, "s", 42).status())) << size;
    bytes = whole;
  }
  for (size_t bit = 0; bit < 8 * whole.size(); ++bit) {
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_TRUE(absl::IsDataLoss(ReadSnapshot(disk, "s", 42).status())) << bit;
    bytes = whole;
  }
  bytes += 'x';
  EXPECT_TRUE(absl::IsDataLoss(ReadSnapshot(disk, "s", 42).status()));
  bytes = whole;
  ASSERT_TRUE(disk.Rename("s/" + SnapshotName(42), "s/" + SnapshotName(43)).ok());
  EXPECT_TRUE(absl::IsDataLoss(ReadSnapshot(disk, "s", 43).status()));
}

TEST(SnapshotsTest, OtherNamesAreNotSnapshots) {
  FaultStorage disk;
  for (const char* name :
       {"s/42.snapshot", "s/00000000000000000042.snapshot.tmp", "s/0000000000000000004x.snapshot",
        "s/00000000000000000042.snapshot.damaged", "s/99999999999999999999.snapshot"}) {
    ASSERT_TRUE(WriteAtomically(disk, name, {}).ok());
  }
  EXPECT_TRUE(ListSnapshots(disk, "s").empty());
}

}  // namespace
}  // namespace longhaul
