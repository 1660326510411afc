#include "coordinator/journal.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "common/fault_storage.h"

namespace longhaul {
namespace {

const JournalOptions kOptions{.folder = "j", .snapshot_folder = "s"};

using Payloads = std::vector<std::string>;

class JournalTest : public testing::Test {
 protected:
  // Two synced batches: {a, bb}, {ccc}. On an empty disk.
  void WriteThree() {
    disk_.Load({});
    auto opened = Journal::Open(disk_, kOptions).value();
    ASSERT_TRUE(opened.journal->Append("a").ok());
    ASSERT_TRUE(opened.journal->Append("bb").ok());
    ASSERT_TRUE(opened.journal->Sync().ok());
    ASSERT_TRUE(opened.journal->Append("ccc").ok());
    ASSERT_TRUE(opened.journal->Sync().ok());
  }
  std::string& Bytes() { return *disk_.Bytes("j/000001.log"); }

  FaultStorage disk_;
};

TEST_F(JournalTest, WhatWasAppendedIsReadBackOverSeveralStarts) {
  WriteThree();
  {
    auto again = Journal::Open(disk_, kOptions).value();
    EXPECT_EQ(again.payloads, (Payloads{"a", "bb", "ccc"}));
    ASSERT_TRUE(again.journal->Append("d").ok());
    ASSERT_TRUE(again.journal->Sync().ok());
  }
  EXPECT_EQ(Journal::Open(disk_, kOptions).value().payloads, (Payloads{"a", "bb", "ccc", "d"}));
}

TEST_F(JournalTest, ReadFindsWhatOpenFindsAndWritesNothing) {
  WriteThree();
  Bytes() += "torn";
  const std::string before = Bytes();
  const auto read = Journal::Read(disk_, kOptions).value();
  EXPECT_EQ(read.payloads, (Payloads{"a", "bb", "ccc"}));
  EXPECT_EQ(read.cut_bytes, 4u);
  EXPECT_EQ(read.journal, nullptr);
  EXPECT_EQ(Bytes(), before);
}

TEST_F(JournalTest, ItWorksOnFiles) {
  const std::string root = testing::TempDir() + "/longhaul_journal_" + std::to_string(::getpid());
  {
    const std::unique_ptr<Storage> files = OpenFileStorage(root).value();
    auto opened = Journal::Open(*files).value();
    ASSERT_TRUE(opened.journal->Append("a").ok());
    ASSERT_TRUE(opened.journal->Sync().ok());
    ASSERT_TRUE(opened.journal->StoreSnapshot("A").ok());
    ASSERT_TRUE(opened.journal->Append("b").ok());
    ASSERT_TRUE(opened.journal->Sync().ok());
    opened = Journal::Open(*files).value();
    EXPECT_EQ(opened.snapshot, "A");
    EXPECT_EQ(opened.payloads, (Payloads{"b"}));
  }
  std::filesystem::remove_all(root);
}

TEST_F(JournalTest, ATornTailIsCutAtEveryLength) {
  WriteThree();
  const size_t whole = Bytes().size();
  for (size_t size = 0; size < whole; ++size) {
    WriteThree();
    Bytes().resize(size);
    auto opened = Journal::Open(disk_, kOptions);
    ASSERT_TRUE(opened.ok()) << size << opened.status();
    EXPECT_LE(opened->payloads.size(), 2u);
    // What remains can be continued.
    ASSERT_TRUE(opened->journal->Append("x").ok());
    ASSERT_TRUE(opened->journal->Sync().ok());
    const size_t kept = opened->payloads.size();
    EXPECT_EQ(Journal::Open(disk_, kOptions).value().payloads.size(), kept + 1);
  }
}

TEST_F(JournalTest, EveryBitFlipIsDetectedAndOneInADurableRecordIsRefused) {
  WriteThree();
  const size_t bits = 8 * Bytes().size();
  const size_t last = Bytes().find("ccc") - 64;  // start of the last record
  for (size_t bit = 0; bit < bits; ++bit) {
    WriteThree();
    Bytes()[bit / 8] = static_cast<char>(Bytes()[bit / 8] ^ (1 << (bit % 8)));
    auto opened = Journal::Open(disk_, kOptions);
    if (bit / 8 < last) {
      EXPECT_EQ(opened.status().code(), absl::StatusCode::kDataLoss) << bit;
    } else {
      // Nothing after it proves that it was durable: a cut tail, never a wrong record.
      ASSERT_TRUE(opened.ok());
      EXPECT_EQ(opened->payloads, (Payloads{"a", "bb"}));
    }
  }
}

TEST_F(JournalTest, WhatAnEarlierStartReadIsProvenByTheMark) {
  WriteThree();
  { auto second = Journal::Open(disk_, kOptions).value(); }
  const FaultStorage::Image whole = disk_.Contents();
  Bytes().back() ^= 1;
  EXPECT_EQ(Journal::Open(disk_, kOptions).status().code(), absl::StatusCode::kDataLoss);
  disk_.Load(whole);
  Bytes().resize(Bytes().find("ccc") - 64);  // the last record, as if it had never been
  EXPECT_EQ(Journal::Open(disk_, kOptions).status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(JournalTest, ManyStartsLeaveOneSegment) {
  WriteThree();
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(Journal::Open(disk_, kOptions).ok());
  EXPECT_EQ(disk_.List("j"), (std::vector<std::string>{"000001.log", "mark"}));
}

TEST_F(JournalTest, ASnapshotReplacesWhatCameBeforeAndTheJournalStaysSmall) {
  const JournalOptions small{
      .folder = "j", .snapshot_folder = "s", .segment_bytes = 1000, .snapshot_bytes = 5000};
  auto opened = Journal::Open(disk_, small).value();
  EXPECT_TRUE(opened.empty());
  EXPECT_TRUE(absl::IsFailedPrecondition(opened.journal->StoreSnapshot("nothing")));
  int snapshots = 0;
  for (int i = 1; i <= 1000; ++i) {
    ASSERT_TRUE(opened.journal->Append(std::to_string(i) + std::string(40, '.')).ok());
    EXPECT_TRUE(absl::IsFailedPrecondition(opened.journal->StoreSnapshot("not synced")));
    ASSERT_TRUE(opened.journal->Sync().ok());
    if (!opened.journal->snapshot_due()) continue;
    ASSERT_TRUE(opened.journal->StoreSnapshot("state " + std::to_string(i)).ok());
    ++snapshots;
    ASSERT_LE(disk_.List("j").size(), 13u);
    ASSERT_LE(disk_.List("s").size(), 2u);
  }
  EXPECT_GT(snapshots, 15);
  opened = Journal::Open(disk_, small).value();
  ASSERT_TRUE(opened.snapshot.has_value());
  ASSERT_TRUE(opened.snapshot->starts_with("state "));
  const int at = std::stoi(opened.snapshot->substr(6));
  EXPECT_EQ(opened.payloads.size(), 1000u - static_cast<size_t>(at));
  EXPECT_EQ(opened.journal->last_sequence(), 1000u);
  EXPECT_FALSE(opened.empty());
}

TEST_F(JournalTest, ARecordThatIsTooLongIsRefused) {
  auto opened = Journal::Open(disk_, kOptions).value();
  EXPECT_TRUE(
      absl::IsInvalidArgument(opened.journal->Append(std::string(kMaxRecordBytes + 1, 'x'))));
  ASSERT_TRUE(opened.journal->Append(std::string(kMaxRecordBytes, 'x')).ok());
  ASSERT_TRUE(opened.journal->Append("").ok());
  ASSERT_TRUE(opened.journal->Sync().ok());
  EXPECT_EQ(Journal::Open(disk_, kOptions)->payloads.size(), 2u);
}

}  // namespace
}  // namespace longhaul
