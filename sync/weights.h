// Integer weights of contributions. Pure integer arithmetic.
//
// WeightScale is fixed when a round opens, from what all members are planned to do; ScaledWeight
// turns the raw weight (tokens, say) of one contribution into the integer that the sum uses.
#pragma once

#include <cstdint>

namespace longhaul {

struct WeightRatio {
  uint64_t numerator = 1;
  uint64_t denominator = 1;
  auto operator<=>(const WeightRatio&) const = default;
};

// A scale under which contributions with raw weights of at most (1 + carry) * planned_total
// together sum to less than kWeightLimit = 2^20, as long as there are at most
// kMaxContributionsPerSum of them: one half of the range is for the scaled weights, the other for
// those raised to 1. Never enlarges a weight. (1 + carry) * planned_total must be below 2^63.
inline constexpr uint64_t kMaxContributionsPerSum = (uint64_t{1} << 19) - 1;
WeightRatio WeightScale(uint64_t planned_total, uint32_t carry);

// max(1, floor(raw * scale)), cut at kWeightLimit - 1.
uint32_t ScaledWeight(uint64_t raw, WeightRatio scale);

}  // namespace longhaul
