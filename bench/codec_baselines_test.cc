#include "bench/codec_baselines.h"

#include <gtest/gtest.h>

#include <cmath>

namespace longhaul {
namespace {

TEST(CodecBaselines, E3m0TakesTheNearestMagnitude) {
  std::vector<float> values, decoded;
  for (int i = -4000; i <= 4000; ++i) values.push_back(static_cast<float>(i) / 4000);
  // Every block has its largest magnitude at 1.
  for (size_t i = 0; i < values.size(); i += kE3m0Block) values[i] = 1.0f;
  std::vector<uint8_t> codes;
  std::vector<uint16_t> scales;
  EncodeE3m0(values, codes, scales);
  decoded.resize(values.size());
  DecodeE3m0(codes, scales, decoded);
  for (size_t i = 0; i < values.size(); ++i) {
    float best = 0;
    for (float m = 0x1p-6f; m <= 1; m *= 2) {
      for (float candidate : {m, -m}) {
        if (std::fabs(values[i] - candidate) < std::fabs(values[i] - best)) best = candidate;
      }
    }
    ASSERT_NEAR(std::fabs(values[i] - decoded[i]), std::fabs(values[i] - best), 1e-6) << values[i];
  }
  EncodeE3m0(std::vector<float>(3, 0.0f), codes, scales);
  DecodeE3m0(codes, scales, std::span(decoded).first(3));
  EXPECT_EQ(decoded[2], 0.0f);
}

TEST(CodecBaselines, SignsAndTheirMean) {
  const std::vector<float> values = {1, -2, 3, -4, 0.5f, -0.5f, 4, 1};
  std::vector<uint8_t> signs;
  const float mean = EncodeSigns(values, signs);
  EXPECT_EQ(mean, 2.0f);
  std::vector<float> decoded(8);
  DecodeSigns(signs, mean, decoded);
  for (size_t i = 0; i < 8; ++i) EXPECT_EQ(decoded[i], std::copysign(2.0f, values[i]));
}

TEST(CodecBaselines, NthMagnitude) {
  std::vector<float> scratch;
  EXPECT_EQ(NthMagnitude(std::vector<float>{1, -5, 2, -3}, 1, scratch), 3.0f);
}

}  // namespace
}  // namespace longhaul
