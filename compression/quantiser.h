// The dead-zone quantiser and its symbols.
//
// A value v has the level ⌊min(|v|, 8) / step + 1/3⌋, but 0 when |v| is below a threshold (about
// 2/3 step, chosen apart so that the rate can be met exactly), and its sign. Levels up to 15 are
// tokens of their own; larger ones share a token by exponent and two bits below it, the rest
// travels as raw bits. A symbol is 2 · token, less 1 for a negative value; 0 for zero: one byte.
//
// Pure; any thread. Every CPU level gives the same bits.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "compression/codec.h"
#include "compression/cpu.h"
#include "compression/host_device.h"

namespace longhaul {

inline constexpr uint32_t kDirectLevels = 16;
inline constexpr uint32_t kMaxLevel = (1u << 20) - 1;
inline constexpr uint32_t kTokens = 80;  // 0 .. token of kMaxLevel
inline constexpr uint32_t kSymbols = 2 * kTokens - 1;
inline constexpr uint8_t kFirstLargeSymbol = 2 * kDirectLevels - 1;  // this and above: raw bits

LONGHAUL_SHARED constexpr uint32_t TokenOf(uint32_t level) {
  if (level < kDirectLevels) return level;
  const auto exponent = static_cast<uint32_t>(BitWidth(level)) - 1;
  return kDirectLevels + 4 * (exponent - 4) + ((level >> (exponent - 2)) & 3);
}
LONGHAUL_SHARED constexpr uint32_t RawBitsOf(uint32_t token) {
  return token < kDirectLevels ? 0 : 2 + (token - kDirectLevels) / 4;
}
LONGHAUL_SHARED constexpr uint32_t FirstLevelOf(uint32_t token) {
  if (token < kDirectLevels) return token;
  return (4 + (token - kDirectLevels) % 4) << RawBitsOf(token);
}
static_assert(TokenOf(kMaxLevel) == kTokens - 1 && FirstLevelOf(kTokens - 1) <= kMaxLevel);
LONGHAUL_SHARED constexpr uint32_t TokenOfSymbol(uint32_t symbol) { return (symbol + 1) / 2; }

// Where the values of a level lie on average, in units of step / 256 above level · step. Levels
// from kCentroids on share the last one.
inline constexpr uint32_t kCentroids = 4;
inline constexpr int kLeastCentroid = -86, kMostCentroid = 169;  // as a byte: less the least
// Larger magnitudes count as this one; decoded, they are cut at kMaxMagnitude.
inline constexpr float kSaturation = 8.0f;
using CentroidSums = std::array<int64_t, kCentroids>;

struct QuantiserSettings {
  uint32_t threshold_bits = 0;  // of the float32 below which |v| becomes 0; at least 1
  float step = 0;
};

// Symbols of at most 2^20 values, and the bits of the largest magnitude (the symbol of what is not
// finite is unspecified). Adds the values' distances from their levels to `sums`, in the unit of
// the centroids.
uint32_t Quantise(CpuLevel cpu, std::span<const float> values, const QuantiserSettings& settings,
                  uint8_t* symbols, CentroidSums& sums);
// The level of one value that is not zero.
uint32_t LevelOf(float value, float step);

// How often each symbol occurs.
std::array<uint32_t, kSymbols> CountSymbols(std::span<const uint8_t> symbols);

// The `count` symbols that are not zero, and where.
struct NonZero {
  std::vector<uint32_t> positions;
  std::vector<uint8_t> symbols;
};
NonZero CollectNonZero(std::span<const uint8_t> symbols, size_t count);
size_t CountNonZero(CpuLevel cpu, std::span<const uint8_t> symbols);

// The value of a level; `centroid` as above. Saturates at kMaxMagnitude.
LONGHAUL_SHARED inline float ValueOf(uint32_t level, int centroid, float step) {
  const auto units = static_cast<float>(256 * static_cast<int32_t>(level) + centroid);
  return Least(units * (step * 0x1p-8f), kMaxMagnitude);
}

// out[i] = table[symbols[i]].
void LookUp(CpuLevel cpu, std::span<const uint8_t> symbols,
            const std::array<float, kSymbols>& table, float* out);

}  // namespace longhaul
