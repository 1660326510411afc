#include "wan/sim/disk.h"

#include <gtest/gtest.h>

namespace longhaul::sim {
namespace {

class DiskTest : public testing::Test {
 protected:
  Faults faults_{1, ~uint64_t{0}};  // none are drawn; what a loss of power leaves is
  SimulatedDisk disk_{faults_};

  std::unique_ptr<AppendFile> Open(const std::string& path) {
    auto file = disk_.OpenAppend(path, /*truncate=*/true);
    EXPECT_TRUE(file.ok());
    return std::move(*file);
  }
  std::string Content(const std::string& path) {
    auto bytes = ReadWhole(disk_, path, 1000);
    return bytes.ok() ? *bytes : "(absent)";
  }
};

TEST_F(DiskTest, WhatWasSyncedSurvivesALossOfPower) {
  for (int i = 0; i < 50; ++i) {
    auto file = Open("a");
    ASSERT_TRUE(file->Append(AsBytes("kept")).ok());
    ASSERT_TRUE(file->Sync().ok());
    ASSERT_TRUE(disk_.SyncFolder("").ok());
    ASSERT_TRUE(file->Append(AsBytes("torn")).ok());
    disk_.Start(/*power_lost=*/true);
    EXPECT_EQ(Content("a").substr(0, 4), "kept");
  }
}

TEST_F(DiskTest, ANameThatWasNotSyncedMayBeLost) {
  int lost = 0;
  for (int i = 0; i < 50; ++i) {
    const std::string name = std::to_string(i);
    auto file = Open(name);
    ASSERT_TRUE(file->Sync().ok());
    disk_.Start(/*power_lost=*/true);
    lost += disk_.Exists(name) ? 0 : 1;
  }
  EXPECT_GT(lost, 5);
  EXPECT_LT(lost, 45);
}

TEST_F(DiskTest, ARenamedFolderKeepsWhatItHolds) {
  ASSERT_TRUE(disk_.MakeFolder("p/new").ok());
  ASSERT_TRUE(disk_.SyncFolder("").ok());
  auto file = Open("p/new/x");
  ASSERT_TRUE(file->Append(AsBytes("1")).ok());
  ASSERT_TRUE(file->Sync().ok());
  ASSERT_TRUE(disk_.SyncFolder("p/new").ok());
  ASSERT_TRUE(disk_.Rename("p/new", "p/final").ok());
  ASSERT_TRUE(disk_.SyncFolder("p").ok());
  disk_.Start(/*power_lost=*/true);
  EXPECT_EQ(Content("p/final/x"), "1");
  EXPECT_EQ(disk_.List("p"), std::vector<std::string>{"final"});
}

TEST_F(DiskTest, HandlesOfAnEarlierLifeFail) {
  auto file = Open("a");
  disk_.Stop();
  EXPECT_FALSE(file->Append(AsBytes("x")).ok());
  disk_.Start(/*power_lost=*/false);
  EXPECT_FALSE(file->Append(AsBytes("x")).ok());
}

}  // namespace
}  // namespace longhaul::sim
