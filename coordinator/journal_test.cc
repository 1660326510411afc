#include "coordinator/journal.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "common/rng.h"
#include "reducer/test_storage.h"

namespace longhaul {
namespace {

class JournalTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    root_ = testing::TempDir() + "/longhaul_journal_" + info->name() + std::to_string(::getpid());
    storage_ = OpenFileStorage(root_).value();
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  // Two synced batches: {a, bb}, {ccc}.
  void WriteThree() {
    auto opened = Journal::Open(*storage_, "j").value();
    ASSERT_TRUE(opened.journal->Append("a").ok());
    ASSERT_TRUE(opened.journal->Append("bb").ok());
    ASSERT_TRUE(opened.journal->Sync().ok());
    ASSERT_TRUE(opened.journal->Append("ccc").ok());
    ASSERT_TRUE(opened.journal->Sync().ok());
  }
  std::string Bytes() { return ReadWhole(*storage_, "j/000001.log", 1 << 20).value(); }
  void Put(const std::string& bytes) {
    ASSERT_TRUE(WriteAtomically(*storage_, "j/000001.log", AsBytes(bytes)).ok());
  }

  std::string root_;
  std::unique_ptr<Storage> storage_;
};

using Payloads = std::vector<std::string>;

TEST_F(JournalTest, WhatWasAppendedIsReadBackOverSeveralStarts) {
  WriteThree();
  {
    auto again = Journal::Open(*storage_, "j").value();
    EXPECT_EQ(again.payloads, (Payloads{"a", "bb", "ccc"}));
    ASSERT_TRUE(again.journal->Append("d").ok());
    ASSERT_TRUE(again.journal->Sync().ok());
  }
  EXPECT_EQ(Journal::Open(*storage_, "j").value().payloads, (Payloads{"a", "bb", "ccc", "d"}));
}

TEST_F(JournalTest, ATornTailIsCutAtEveryLength) {
  WriteThree();
  const std::string whole = Bytes();
  for (size_t size = 0; size < whole.size(); ++size) {
    std::filesystem::remove_all(root_ + "/j");
    ASSERT_TRUE(storage_->MakeFolder("j").ok());
    Put(whole.substr(0, size));
    auto opened = Journal::Open(*storage_, "j");
    ASSERT_TRUE(opened.ok()) << size << opened.status();
    EXPECT_LE(opened->payloads.size(), 2u);
    // What remains can be continued.
    ASSERT_TRUE(opened->journal->Append("x").ok());
    ASSERT_TRUE(opened->journal->Sync().ok());
    const size_t kept = opened->payloads.size();
    opened->journal.reset();
    EXPECT_EQ(Journal::Open(*storage_, "j").value().payloads.size(), kept + 1);
  }
}

TEST_F(JournalTest, EveryBitFlipIsDetectedAndOneInADurableRecordIsRefused) {
  WriteThree();
  const std::string whole = Bytes();
  const size_t last = whole.find("ccc") - 64;  // start of the last record
  for (size_t bit = 0; bit < whole.size() * 8; ++bit) {
    std::string flipped = whole;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    std::filesystem::remove_all(root_ + "/j");
    ASSERT_TRUE(storage_->MakeFolder("j").ok());
    Put(flipped);
    auto opened = Journal::Open(*storage_, "j");
    if (bit / 8 < last) {
      EXPECT_EQ(opened.status().code(), absl::StatusCode::kDataLoss) << bit;
    } else {
      // Nothing after it proves that it was durable: a cut tail, never a wrong record.
      ASSERT_TRUE(opened.ok());
      EXPECT_EQ(opened->payloads, (Payloads{"a", "bb"}));
    }
  }
}

TEST_F(JournalTest, DamageBeforeALaterSegmentIsRefused) {
  WriteThree();
  { auto second = Journal::Open(*storage_, "j").value(); }
  std::string bytes = Bytes();
  bytes.back() ^= 1;
  Put(bytes);
  EXPECT_EQ(Journal::Open(*storage_, "j").status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(JournalTest, AMissingSegmentIsRefused) {
  WriteThree();
  {
    auto second = Journal::Open(*storage_, "j").value();
    ASSERT_TRUE(second.journal->Append("d").ok());
    ASSERT_TRUE(second.journal->Sync().ok());
  }
  ASSERT_TRUE(storage_->Remove("j/000001.log").ok());
  EXPECT_EQ(Journal::Open(*storage_, "j").status().code(), absl::StatusCode::kDataLoss);
}

TEST(JournalPowerLoss, WhatAKilledProcessLeftUnsyncedIsDurableBeforeWhatFollowsIt) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    TestStorage disk;
    ASSERT_TRUE(Journal::Open(disk, "j").value().journal->Append("a").ok());
    {
      auto again = Journal::Open(disk, "j").value();  // the file is as the killed process left it
      ASSERT_EQ(again.payloads, Payloads{"a"});
      ASSERT_TRUE(again.journal->Append("b").ok());
      ASSERT_TRUE(again.journal->Sync().ok());
    }
    disk.Restart(seed);
    auto opened = Journal::Open(disk, "j");
    ASSERT_TRUE(opened.ok()) << opened.status();
    EXPECT_EQ(opened->payloads, (Payloads{"a", "b"}));
  }
}

}  // namespace
}  // namespace longhaul
