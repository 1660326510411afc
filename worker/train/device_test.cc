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

}  // namespace
}  // namespace longhaul
