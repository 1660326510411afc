// The mean over the contributors of each element: a contribution that decodes to 0 there does not
// count (the scatter-mean of the published SparseLoCo code, Sarfi et al. 2025; its paper divides by
// all workers). With sparse codes the step is up to as many times larger as there are workers.
//
// Exact and independent of order like exact_sum.h, whose `sum` it shares, because the weight of
// every element is added up as well: a contribution may be added on arrival and taken back. Weights
// of one list sum to less than kWeightLimit. Pure functions; spans of one call have the same size.
#pragma once

#include <cstdint>
#include <span>

namespace longhaul {

// counts[i] += weight, or -= weight, where values[i] is not 0.
void CountContributors(std::span<const float> values, uint32_t weight, std::span<uint32_t> counts);
void UncountContributors(std::span<const float> values, uint32_t weight,
                         std::span<uint32_t> counts);

// out[i] = float32(double(int64(sum[i])) / (counts[i] * 2^40)), or 0 where nobody contributed.
void ContributorMean(std::span<const uint64_t> sum, std::span<const uint32_t> counts,
                     std::span<float> out);

}  // namespace longhaul
