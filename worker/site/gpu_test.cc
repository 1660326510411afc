// Label `gpu`: the plug-in on a real device against the codecs on the processor.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "common/rng.h"
#include "compression/codec.h"
#include "worker/site/plugin.h"

namespace longhaul {
namespace {

constexpr uint64_t kElements = 3'000'001;
constexpr uint32_t kChunk = 65536;
constexpr size_t kError = 512;

std::vector<float> Values(uint64_t stream, float scale) {
  std::vector<float> out(kElements);
  for (uint64_t i = 0; i < kElements; ++i) {
    float sum = 0;  // of three uniform numbers: nearly normal
    for (uint64_t k = 0; k < 3; ++k) {
      sum += static_cast<float>(Draw(stream, {i, k}) >> 40) * 0x1p-24f - 0.5f;
    }
    out[i] = scale * sum;
  }
  return out;
}

class GpuTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
      GTEST_SKIP() << "no GPU: " << cudaGetErrorString(cudaGetLastError());
    }
    auto loaded = LoadCudaPlugin(CUDA_PLUGIN);
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    plugin_ = *loaded;
  }
  LonghaulFragment* Make(CodecSpec spec) {
    LonghaulFragmentOptions options{};
    options.codec = static_cast<uint32_t>(spec.id);
    options.bits_milli = spec.bits_milli;
    options.chunk_elements = kChunk;
    options.elements = kElements;
    options.residual_decay = 0.9f;
    LonghaulFragment* fragment = nullptr;
    char error[kError] = "";
    EXPECT_EQ(plugin_->fragment_make(&options, &fragment, error, kError), 0) << error;
    return fragment;
  }
  static float* OnDevice(const std::vector<float>& values) {
    void* memory = nullptr;
    EXPECT_EQ(cudaMalloc(&memory, values.size() * sizeof(float)), cudaSuccess);
    cudaMemcpy(memory, values.data(), values.size() * sizeof(float), cudaMemcpyHostToDevice);
    return static_cast<float*>(memory);
  }

  const LonghaulCudaPlugin* plugin_ = nullptr;
};

TEST_F(GpuTest, BytesAndResidualsAreTheProcessors) {
  const std::vector<float> base = Values(1, 1), theta = Values(2, 1), owed = Values(3, 0.1f);
  float* device_theta = OnDevice(theta);
  std::vector<float> e(kElements);
  for (uint64_t i = 0; i < kElements; ++i) {
    const float delta = base[i] - theta[i], kept = 0.9f * owed[i];
    e[i] = kept + delta;
  }
  for (CodecSpec spec :
       {CodecSpec(CodecId::kInt8), CodecSpec(CodecId::kInt4), CodecSpec(CodecId::kInt2),
        CodecSpec(CodecId::kBitBudget, 150), CodecSpec(CodecId::kBitBudget, 2000),
        CodecSpec(CodecId::kBitBudget, 6000)}) {
    const auto codec = MakeCodec(spec);
    const auto plan = MakePlan(*codec, kElements, kChunk, [&](uint64_t at, std::span<float> out) {
      std::copy_n(e.begin() + static_cast<ptrdiff_t>(at), out.size(), out.begin());
    });
    LonghaulFragment* fragment = Make(spec);
    ASSERT_EQ(plugin_->fragment_write_base(fragment, 0, base.data(), kElements), 0);
    ASSERT_EQ(plugin_->fragment_write_residual(fragment, 0, owed.data(), kElements), 0);
    ASSERT_EQ(plugin_->fragment_collect(fragment, 0, device_theta, kElements), 0);
    LonghaulCode code{};
    char error[kError] = "";
    ASSERT_EQ(plugin_->fragment_encode(fragment, &code, error, kError), 0) << error;
    std::vector<float> expected(kElements);
    uint64_t at = 0;
    for (uint64_t c = 0; c < code.chunks; ++c) {
      const uint64_t first = c * kChunk, n = std::min<uint64_t>(kChunk, kElements - first);
      std::vector<std::byte> bytes(codec->EncodedBytes(n));
      const auto used = codec->EncodeChunk(*plan, first, std::span(e).subspan(first, n), bytes);
      ASSERT_EQ(*used, code.sizes[c]) << "chunk " << c;
      ASSERT_EQ(std::memcmp(bytes.data(), code.bytes + at, *used), 0) << "chunk " << c;
      ASSERT_TRUE(codec->DecodeChunk(first, std::span(bytes).first(*used),
                                     std::span(expected).subspan(first, n)));
      at += *used;
    }
    ASSERT_EQ(plugin_->fragment_included(fragment, &code, error, kError), 0) << error;
    std::vector<float> residual(kElements);
    ASSERT_EQ(plugin_->fragment_read_residual(fragment, 0, residual.data(), kElements), 0);
    for (uint64_t i = 0; i < kElements; ++i) ASSERT_EQ(residual[i], e[i] - expected[i]) << i;
    plugin_->fragment_free(fragment);
  }
  cudaFree(device_theta);
}

TEST_F(GpuTest, WhatIsNotFiniteIsRefused) {
  std::vector<float> theta(kElements, 0.5f);
  theta[kElements - 1] = std::numeric_limits<float>::quiet_NaN();
  float* device_theta = OnDevice(theta);
  for (CodecSpec spec : {CodecSpec(CodecId::kInt4), CodecSpec(CodecId::kBitBudget, 2000)}) {
    LonghaulFragment* fragment = Make(spec);
    ASSERT_EQ(plugin_->fragment_collect(fragment, 0, device_theta, kElements), 0);
    LonghaulCode code{};
    char error[kError] = "";
    EXPECT_EQ(plugin_->fragment_encode(fragment, &code, error, kError), LONGHAUL_CUDA_NOT_FINITE);
    plugin_->fragment_free(fragment);
  }
  cudaFree(device_theta);
}

TEST_F(GpuTest, AGroupOfOneSums) {
  uint8_t id[LONGHAUL_GROUP_ID_BYTES];
  char error[kError] = "";
  ASSERT_EQ(plugin_->group_id(id, error, kError), 0) << error;
  LonghaulGroup* group = nullptr;
  ASSERT_EQ(plugin_->group_make(id, 0, 1, 0, 60'000, &group, error, kError), 0) << error;
  const std::vector<float> values = Values(4, 1);
  float* device = OnDevice(values);
  plugin_->group_start_sum(group, device, kElements, nullptr);
  ASSERT_EQ(plugin_->group_wait(group, error, kError), 0) << error;
  std::vector<float> back(kElements);
  cudaMemcpy(back.data(), device, kElements * sizeof(float), cudaMemcpyDeviceToHost);
  EXPECT_EQ(back, values);
  plugin_->group_free(group);
  cudaFree(device);
}

}  // namespace
}  // namespace longhaul
