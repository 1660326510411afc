// The plug-in itself, on any machine: it loads, and without a GPU every call says so.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "compression/codec.h"
#include "worker/site/plugin.h"

namespace longhaul {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr size_t kError = 512;

class CudaPluginTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto loaded = LoadCudaPlugin(CUDA_PLUGIN);
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    plugin_ = *loaded;
  }
  LonghaulFragmentOptions Options() const {
    LonghaulFragmentOptions options{};
    options.codec = static_cast<uint32_t>(CodecId::kInt4);
    options.chunk_elements = 65536;
    options.elements = 1000;
    options.residual_decay = -1;
    return options;
  }
  int Make(const LonghaulFragmentOptions& options) {
    LonghaulFragment* fragment = nullptr;
    const int result = plugin_->fragment_make(&options, &fragment, error_, kError);
    if (fragment != nullptr) plugin_->fragment_free(fragment);
    return result;
  }

  const LonghaulCudaPlugin* plugin_ = nullptr;
  char error_[kError] = "";
};

TEST_F(CudaPluginTest, SaysWhatItIs) {
  char text[256] = "";
  ASSERT_EQ(plugin_->describe(text, sizeof text, error_, kError), LONGHAUL_CUDA_OK) << error_;
  EXPECT_THAT(text, AllOf(HasSubstr("CUDA 13."), HasSubstr("NCCL 2."), HasSubstr(" GPU")));
}

TEST_F(CudaPluginTest, RefusesWhatThereIsNoKernelFor) {
  LonghaulFragmentOptions options = Options();
  options.codec = static_cast<uint32_t>(CodecId::kTopK);
  EXPECT_EQ(Make(options), LONGHAUL_CUDA_BAD_INPUT);
  options = Options();
  options.chunk_elements = 65;
  EXPECT_EQ(Make(options), LONGHAUL_CUDA_BAD_INPUT);
  options = Options();
  options.elements = 0;
  EXPECT_EQ(Make(options), LONGHAUL_CUDA_BAD_INPUT);
  const LonghaulTensor gap = {10, 990, 0, 0};
  options = Options();
  options.tensors = &gap;
  options.tensor_count = 1;
  EXPECT_EQ(Make(options), LONGHAUL_CUDA_BAD_INPUT);
}

TEST_F(CudaPluginTest, WithoutADriverEveryCallSaysSo) {
  if (std::filesystem::exists("/proc/driver/nvidia/version")) GTEST_SKIP() << "there is a driver";
  uint64_t free_bytes = 0, total_bytes = 0;
  EXPECT_EQ(plugin_->device_memory(0, &free_bytes, &total_bytes, error_, kError),
            LONGHAUL_CUDA_DEVICE);
  EXPECT_THAT(error_, HasSubstr("no NVIDIA driver, or one older than 580"));
  EXPECT_EQ(Make(Options()), LONGHAUL_CUDA_DEVICE);
  EXPECT_THAT(error_, HasSubstr("no NVIDIA driver, or one older than 580"));
  void* memory = nullptr;
  EXPECT_EQ(plugin_->memory_make(0, 1, 100, &memory, error_, kError), LONGHAUL_CUDA_DEVICE);
  const uint8_t id[LONGHAUL_GROUP_ID_BYTES] = {};
  LonghaulGroup* group = nullptr;
  EXPECT_NE(plugin_->group_make(id, 0, 1, 0, 1000, &group, error_, kError), LONGHAUL_CUDA_OK);
  EXPECT_EQ(group, nullptr);
}

}  // namespace
}  // namespace longhaul
