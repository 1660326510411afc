#include "worker/train/device.h"

#include <gtest/gtest.h>

#include <filesystem>

namespace longhaul {
namespace {

TEST(Device, NamesThatCannotFail) {
  EXPECT_EQ(ResolveDevice("cpu")->name, "cpu");
  EXPECT_EQ(ResolveDevice("tpu").status().code(), absl::StatusCode::kInvalidArgument);
}

// With or without a GPU: "auto" always works, and says why when a driver is there but no GPU can be
// used; "cuda" agrees.
TEST(Device, AutoExplainsWhatCudaRefuses) {
  const auto automatic = ResolveDevice("auto");
  ASSERT_TRUE(automatic.ok()) << automatic.status();
  const auto cuda = ResolveDevice("cuda");
  if (cuda.ok()) {
    EXPECT_EQ(automatic->name, "cuda");
    return;
  }
  EXPECT_EQ(cuda.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(automatic->name, "cpu");
  const bool driver = std::filesystem::exists("/proc/driver/nvidia/version");
  EXPECT_EQ(automatic->description.find("no GPU") != std::string::npos, driver)
      << automatic->description;
}

TEST(Device, TooLittleMemoryIsRefusedWithBothNumbers) {
  EXPECT_TRUE(JudgeDeviceMemory(24'000'000'000, 20'000'000'000).ok());
  const absl::Status refused = JudgeDeviceMemory(8'000'000'000, 20'000'000'000);
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_NE(refused.message().find("about 20.0 GB of GPU memory, and 7.6 GB"),
            absl::string_view::npos);
}

}  // namespace
}  // namespace longhaul
