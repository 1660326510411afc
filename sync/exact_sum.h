// Weighted sums that do not depend on order, threads or arrival, and from which a contribution can
// be taken back exactly.
//
// A value is rounded once, to a fixed grid of 2^-40, as an integer; everything after that is
// integer arithmetic modulo 2^64. Passing sums may wrap: the sum is right whenever the weights in
// it add up to less than kWeightLimit.
//
// Pure functions. Every |value| must be below kSumLimit (decoders guarantee it); a larger one or a
// NaN is a broken invariant and aborts. Spans of one call have the same size.
#pragma once

#include <bit>
#include <cstdint>
#include <span>

namespace longhaul {

inline constexpr int kGridBits = 40;
inline constexpr float kSumLimit = 8.0f;
inline constexpr uint64_t kWeightLimit = uint64_t{1} << 20;

using SquaredSum = unsigned __int128;  // of grid values: in units of 2^-80

// Nearest multiple of 2^-40, ties to even, in units of 2^-40. |value| < kSumLimit.
inline int64_t ToGrid(float value) {
  // Scaling is exact; adding 1.5 * 2^52 rounds a double below 2^51 to an integer that stands in its
  // lowest bits.
  constexpr double kRounder = 0x1.8p52;
  const double scaled = static_cast<double>(value) * 0x1p40;
  return std::bit_cast<int64_t>(scaled + kRounder) - std::bit_cast<int64_t>(kRounder);
}

// sum += weight * grid(values), modulo 2^64; and its inverse.
void AddWeighted(std::span<const float> values, uint32_t weight, std::span<uint64_t> sum);
void SubtractWeighted(std::span<const float> values, uint32_t weight, std::span<uint64_t> sum);

// out = float32(double(int64(sum)) / (divisor * 2^40)), each step rounded to nearest even.
// 0 < divisor < 2^52.
void MeanFromSum(std::span<const uint64_t> sum, uint64_t divisor, std::span<float> out);

// Sum of the squares of the grid values; exact for up to 2^42 values.
SquaredSum SquaredNorm(std::span<const float> values);

}  // namespace longhaul
