// Tables of the entropy coder (compression/rans.h) and its innermost step, shared with kernels
// (compression/cuda).
//
// Pure; any thread.
#pragma once

#include <array>
#include <cstdint>

#include "compression/host_device.h"
#include "compression/integer_log.h"
#include "compression/quantiser.h"

namespace longhaul {

inline constexpr int kProbabilityBits = 12;
inline constexpr uint32_t kProbabilityTotal = 1u << kProbabilityBits;
inline constexpr size_t kWideLanes = 32;
inline constexpr size_t kNarrowLanes = 4;
LONGHAUL_SHARED constexpr size_t LanesFor(size_t symbols) {
  return symbols >= 16384 ? kWideLanes : kNarrowLanes;
}

// Frequencies add up to kProbabilityTotal; `start` is the sum of those before.
struct FrequencyTable {
  std::array<uint16_t, kSymbols> frequency{};
  std::array<uint16_t, kSymbols> start{};
};

// A token's share of the symbols as one byte: 0 for none, otherwise 1/16 of a power of two. Both
// signs of a token have the same frequency.
using TokenWeights = std::array<uint8_t, kTokens>;
inline constexpr uint8_t kMostWeight = 192;  // twelve octaves
LONGHAUL_SHARED inline TokenWeights WeightsOf(const std::array<uint32_t, kSymbols>& counts) {
  std::array<uint64_t, kTokens> per_sign{};
  per_sign[0] = 2 * uint64_t{counts[0]};
  for (uint32_t s = 1; s < kSymbols; ++s) per_sign[TokenOfSymbol(s)] += counts[s];
  uint64_t most = 0;
  for (uint64_t n : per_sign) most = Most(most, n);
  TokenWeights weights{};
  for (size_t t = 0; t < kTokens; ++t) {
    if (per_sign[t] == 0) continue;
    const uint64_t below = (16 * (Log2(most) - Log2(per_sign[t])) + kOneBit / 2) >> kLogFraction;
    weights[t] = static_cast<uint8_t>(kMostWeight - Least<uint64_t>(below, kMostWeight - 1u));
  }
  return weights;
}

namespace rans {

// 2^(i / 16) · 2^12.
inline constexpr std::array<uint32_t, 16> kSixteenths = {
    4096, 4277, 4467, 4664, 4871, 5087, 5312, 5547, 5793, 6049, 6317, 6597, 6889, 7194, 7512, 7845};
#ifdef __CUDACC__
static __device__ const std::array<uint32_t, 16> kDeviceSixteenths = kSixteenths;
#endif
LONGHAUL_SHARED inline uint64_t MassOf(uint8_t weight) {
  if (weight == 0) return 0;
  const uint32_t w = weight - 1u;
#ifdef __CUDA_ARCH__
  return uint64_t{kDeviceSixteenths[w & 15]} << (w >> 4);
#else
  return uint64_t{kSixteenths[w & 15]} << (w >> 4);
#endif
}

}  // namespace rans

// Weights are at most kMostWeight and not all 0.
LONGHAUL_SHARED inline FrequencyTable TableOf(const TokenWeights& weights) {
  uint64_t total = 0;
  for (uint32_t s = 0; s < kSymbols; ++s) total += rans::MassOf(weights[TokenOfSymbol(s)]);
  FrequencyTable table;
  int64_t rest = kProbabilityTotal;
  for (uint32_t s = 0; s < kSymbols; ++s) {
    const uint64_t mass = rans::MassOf(weights[TokenOfSymbol(s)]);
    if (mass == 0) continue;
    const uint64_t f = (mass * kProbabilityTotal + total / 2) / total;
    table.frequency[s] = static_cast<uint16_t>(Most<uint64_t>(1, f));
    rest -= table.frequency[s];
  }
  // What rounding left over goes to, or comes from, the largest.
  for (; rest != 0; rest += rest < 0 ? 1 : -1) {
    uint32_t largest = 0;
    for (uint32_t s = 1; s < kSymbols; ++s) {
      if (table.frequency[s] > table.frequency[largest]) largest = s;
    }
    table.frequency[largest] =
        static_cast<uint16_t>(table.frequency[largest] + (rest < 0 ? -1 : 1));
  }
  uint16_t start = 0;
  for (uint32_t s = 0; s < kSymbols; ++s) {
    table.start[s] = start;
    start = static_cast<uint16_t>(start + table.frequency[s]);
  }
  return table;
}

namespace rans {

inline constexpr uint32_t kLowest = 1u << 15;  // state

// How to push a symbol without a division: x / frequency = (x · reciprocal) >> 32 >> shift.
struct EncoderTable {
  alignas(64) std::array<uint32_t, 256> reciprocal;
  // bias (13 bits), shift (4), complement = total - frequency (13), from the lowest bit on.
  alignas(64) std::array<uint32_t, 256> packed;
};
inline constexpr int kShiftAt = 13, kComplementAt = 17;

LONGHAUL_SHARED inline EncoderTable MakeEncoderTable(const FrequencyTable& table) {
  EncoderTable out{};
  for (size_t s = 0; s < kSymbols; ++s) {
    const uint32_t f = table.frequency[s];
    if (f == 0) continue;
    uint32_t bias = table.start[s], shift = 0;
    if (f == 1) {
      // x / 1 comes out as x - 1; the bias makes up for it.
      out.reciprocal[s] = UINT32_MAX;
      bias += kProbabilityTotal - 1;
    } else {
      shift = static_cast<uint32_t>(BitWidth(f - 1)) - 1;
      out.reciprocal[s] = static_cast<uint32_t>(((uint64_t{1} << (shift + 32)) + f - 1) / f);
    }
    out.packed[s] = bias | shift << kShiftAt | (kProbabilityTotal - f) << kComplementAt;
  }
  return out;
}

// Whether a word must leave the state before the symbol can be pushed.
LONGHAUL_SHARED inline bool LeavesWord(uint32_t state, uint32_t packed) {
  return state >= (kProbabilityTotal - (packed >> kComplementAt)) << 19;
}
// The state after pushing the symbol that has this entry of the table.
LONGHAUL_SHARED inline uint32_t Pushed(uint32_t state, uint32_t packed, uint32_t reciprocal) {
  const uint32_t shift = (packed >> kShiftAt) & 15;
  const auto quotient = static_cast<uint32_t>((uint64_t{state} * reciprocal) >> 32) >> shift;
  return state + (packed & ((1u << kShiftAt) - 1)) + quotient * (packed >> kComplementAt);
}

}  // namespace rans
}  // namespace longhaul
