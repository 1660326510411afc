#include <gtest/gtest.h>

#include <filesystem>

#include "common/storage.h"

namespace longhaul {
namespace {

class FileStorageTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    root_ = testing::TempDir() + "/longhaul_" + info->name() + std::to_string(::getpid());
    storage_ = OpenFileStorage(root_).value();
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  std::string root_;
  std::unique_ptr<Storage> storage_;
};

TEST_F(FileStorageTest, AppendReadListRemove) {
  ASSERT_TRUE(storage_->MakeFolder("a/b").ok());
  {
    auto file = storage_->OpenAppend("a/b/f", true).value();
    ASSERT_TRUE(file->Append(AsBytes("hello")).ok());
    ASSERT_TRUE(file->Sync().ok());
  }
  {
    auto file = storage_->OpenAppend("a/b/f", false).value();
    ASSERT_TRUE(file->Append(AsBytes(" world")).ok());
  }
  EXPECT_EQ(storage_->Read("a/b/f", 6, 100).value(), "world");
  EXPECT_EQ(storage_->Read("a/b/f", 100, 1).value(), "");
  EXPECT_EQ(storage_->List("a/b"), std::vector<std::string>{"f"});
  EXPECT_TRUE(absl::IsNotFound(storage_->Read("a/x", 0, 1).status()));
  ASSERT_TRUE(storage_->Remove("a").ok());
  EXPECT_FALSE(storage_->Exists("a"));
}

TEST_F(FileStorageTest, WriteAtomicallyReplacesAndLeavesNoTemporaryFile) {
  ASSERT_TRUE(WriteAtomically(*storage_, "x", AsBytes("one")).ok());
  ASSERT_TRUE(WriteAtomically(*storage_, "x", AsBytes("two")).ok());
  EXPECT_EQ(ReadWhole(*storage_, "x", 10).value(), "two");
  EXPECT_EQ(storage_->List(""), std::vector<std::string>{"x"});
  EXPECT_FALSE(ReadWhole(*storage_, "x", 2).ok());
}

}  // namespace
}  // namespace longhaul
