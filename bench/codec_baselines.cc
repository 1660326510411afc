#include "bench/codec_baselines.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>

#include "compression/bf16.h"

namespace longhaul {
namespace {

// 0, or 1 + the exponent above the smallest magnitude, 2^-6 times the scale.
uint8_t E3m0Code(float value, float per_scale) {
  const float x = std::fabs(value) * per_scale;
  // Half way between neighbours: 3/4 of the larger one, and half the smallest.
  if (x < 0x1p-7f) return 0;
  const auto exponent = static_cast<int>(std::bit_cast<uint32_t>(x * (4.0f / 3)) >> 23) - 127;
  const int code = std::clamp(exponent + 7, 1, 7);
  return static_cast<uint8_t>(code | (std::signbit(value) ? 8 : 0));
}

}  // namespace

void EncodeE3m0(std::span<const float> values, std::vector<uint8_t>& codes,
                std::vector<uint16_t>& scales) {
  codes.assign((values.size() + 1) / 2, 0);
  scales.clear();
  for (size_t at = 0; at < values.size(); at += kE3m0Block) {
    const auto block = values.subspan(at, std::min(kE3m0Block, values.size() - at));
    float most = 0;
    for (float v : block) most = std::max(most, std::fabs(v));
    scales.push_back(ToBf16(most));
    const float per_scale = most > 0 ? 1.0f / FromBf16(scales.back()) : 0.0f;
    for (size_t i = 0; i < block.size(); ++i) {
      const unsigned code = E3m0Code(block[i], per_scale);
      codes[(at + i) / 2] |= static_cast<uint8_t>(code << ((at + i) % 2 * 4));
    }
  }
}

void DecodeE3m0(std::span<const uint8_t> codes, std::span<const uint16_t> scales,
                std::span<float> values) {
  constexpr float kMagnitudes[8] = {0, 0x1p-6f, 0x1p-5f, 0x1p-4f, 0x1p-3f, 0x1p-2f, 0x1p-1f, 1};
  for (size_t i = 0; i < values.size(); ++i) {
    const unsigned code = (codes[i / 2] >> (i % 2 * 4)) & 15u;
    const float magnitude = kMagnitudes[code & 7] * FromBf16(scales[i / kE3m0Block]);
    values[i] = (code & 8) != 0 ? -magnitude : magnitude;
  }
}

float EncodeSigns(std::span<const float> values, std::vector<uint8_t>& signs) {
  signs.assign(values.size() / 8, 0);
  double sum = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    sum += std::fabs(values[i]);
    signs[i / 8] |= static_cast<uint8_t>((std::signbit(values[i]) ? 1u : 0u) << (i % 8));
  }
  return static_cast<float>(sum / static_cast<double>(values.size()));
}

void DecodeSigns(std::span<const uint8_t> signs, float magnitude, std::span<float> values) {
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = ((signs[i / 8] >> (i % 8)) & 1) != 0 ? -magnitude : magnitude;
  }
}

float NthMagnitude(std::span<const float> values, size_t k, std::vector<float>& scratch) {
  scratch.resize(values.size());
  std::transform(values.begin(), values.end(), scratch.begin(),
                 [](float v) { return std::fabs(v); });
  const auto nth = scratch.begin() + static_cast<ptrdiff_t>(k);
  std::nth_element(scratch.begin(), nth, scratch.end(), std::greater<float>());
  return *nth;
}

}  // namespace longhaul
