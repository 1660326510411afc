// Rules that look at norms, tensor by tensor. Integers only: norms come as exact squared norms
// (SquaredNorm, added over slices), answers are integer weights, divisors and Q16 gains, so the
// core decides once and every replica does linear arithmetic. Pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sync/exact_sum.h"

namespace longhaul {

// floor(sqrt(square)): a norm in units of 2^-40.
uint64_t IntegerRoot(SquaredSum square);

struct TensorWeights {
  std::vector<uint32_t> weights;  // of the list's contributions, in its order; their sum stays
                                  // below kWeightLimit
  uint64_t divisor = 1;
};

// The norm cap: in this tensor no contribution counts with more than the (lower) median norm of the
// list (a cheap guard of Templar against outliers). A weight w becomes w * min(1, median / norm),
// rounded to nearest, after all have been scaled up for resolution; the divisor is the uncapped
// sum, so nobody else counts more for it. `weights` are positive and sum to less than kWeightLimit.
TensorWeights NormCap(std::span<const SquaredSum> squared_norms, std::span<const uint32_t> weights);

inline constexpr uint32_t kGainOne = 1u << 16;
inline constexpr uint32_t kLargestGain = 4 * kGainOne;

// The norm-restoring gain in Q16: weighted mean of the contributions' norms over the norm of their
// mean, between 1 and 4. Averaging shrinks what disagrees; this gives the step the length that one
// worker's had. 1 when the mean is 0. Norms must be below 2^23 (2^63 units).
uint32_t RestoringGain(std::span<const SquaredSum> squared_norms, std::span<const uint32_t> weights,
                       SquaredSum squared_norm_of_mean);

// values *= gain / 2^16, rounded once.
void ApplyGain(uint32_t gain_q16, std::span<float> values);

}  // namespace longhaul
