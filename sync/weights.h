// Integer weights of contributions. Pure integer arithmetic.
//
// WeightScale is fixed when a round opens, from what all members are planned to do; ScaledWeight
// turns the raw weight (tokens, say) of one contribution into the integer that the sum uses.
#pragma once

#include <cstdint>
#include <span>

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

// What a contribution counts before scaling. `tokens` and `steps` are those under it.
enum class WeightRule {
  kEqual,           // 1
  kTokens,          // tokens (federated averaging, McMahan et al. 2017)
  kTokens2PerStep,  // tokens^2 / steps: more data and larger batches (Decoupled DiLoCo, 2026)
};
// At least 1, at most kMaxRawWeight (2^44), where it is cut: so that kMaxContributionsPerSum of
// them stay below WeightScale's limit. `steps` is positive.
inline constexpr uint64_t kMaxRawWeight = uint64_t{1} << 44;
uint64_t RawWeight(WeightRule rule, uint64_t tokens, uint64_t steps);

// Deltas per step: each contribution's delta is divided by its own steps, and the weighted mean
// multiplied by the mean number of steps. A worker that makes twice the steps then counts twice (by
// its tokens), not four times (its delta is longer, too). In integers: weigh by
// RawWeightPerStep, and divide the sum not by the sum of the weights but by
//   round(sum_i w_i steps_i * n / sum_i steps_i),
// which gives back mean_steps * v when every worker moved by v per step. The weights are scaled,
// n = their number, steps positive and their sum below 2^43.
uint64_t RawWeightPerStep(WeightRule rule, uint64_t tokens, uint64_t steps);
uint64_t PerStepDivisor(std::span<const uint32_t> weights, std::span<const uint64_t> steps);

}  // namespace longhaul
