#include "worker/site/plugin.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace longhaul {
namespace {

using ::testing::HasSubstr;

TEST(CudaPlugin, ItsAbsenceIsOneSentence) {
  const auto plugin = LoadCudaPlugin("/no/such/folder/liblonghaul_cuda.so");
  EXPECT_EQ(plugin.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(plugin.status().message()),
              HasSubstr("build it with cmake --preset cuda, or go on without it"));
}

TEST(CudaPlugin, AnotherLibraryIsRefused) {
  const auto plugin = LoadCudaPlugin("libm.so.6");
  EXPECT_EQ(plugin.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(plugin.status().message()), HasSubstr("is not Longhaul's CUDA plug-in"));
}

TEST(CudaPlugin, AnotherVersionIsRefused) {
  const auto plugin = LoadCudaPlugin(OLD_PLUGIN);
  EXPECT_EQ(plugin.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(plugin.status().message()), HasSubstr("of another version of Longhaul"));
}

TEST(CudaPlugin, AnNcclThatDoesNotFitIsRefused) {
  const auto plugin = LoadCudaPlugin(OTHER_NCCL_PLUGIN);
  EXPECT_EQ(plugin.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(plugin.status().message()), HasSubstr("NCCL 2.1.0 was loaded"));
}

}  // namespace
}  // namespace longhaul
