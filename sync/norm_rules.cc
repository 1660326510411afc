#include "sync/norm_rules.h"

#include <algorithm>

#include "common/check.h"

namespace longhaul {
namespace {

using Wide = unsigned __int128;

// min(1, median / norm) in Q32.
uint64_t CapShare(uint64_t median, uint64_t norm) {
  constexpr uint64_t kOne = uint64_t{1} << 32;
  if (norm <= median) return kOne;
  return static_cast<uint64_t>((Wide{median} << 32) / norm);
}

uint64_t SumOf(std::span<const uint32_t> weights) {
  uint64_t sum = 0;
  for (uint32_t w : weights) sum += w;
  LONGHAUL_CHECK(sum > 0 && sum < kWeightLimit, "weights out of range");
  return sum;
}

std::vector<uint64_t> Roots(std::span<const SquaredSum> squares) {
  std::vector<uint64_t> roots;
  for (SquaredSum s : squares) roots.push_back(IntegerRoot(s));
  return roots;
}

}  // namespace

// Bit by bit from the highest.
uint64_t IntegerRoot(SquaredSum square) {
  uint64_t root = 0;
  for (int bit = 63; bit >= 0; --bit) {
    const uint64_t larger = root | (uint64_t{1} << bit);
    if (Wide{larger} * larger <= square) root = larger;
  }
  return root;
}

TensorWeights NormCap(std::span<const SquaredSum> squared_norms,
                      std::span<const uint32_t> weights) {
  LONGHAUL_CHECK(squared_norms.size() == weights.size(), "sizes differ");
  const uint64_t sum = SumOf(weights);
  const std::vector<uint64_t> norms = Roots(squared_norms);
  std::vector<uint64_t> sorted = norms;
  std::sort(sorted.begin(), sorted.end());
  const uint64_t median = sorted[(sorted.size() - 1) / 2];
  const uint64_t up = (kWeightLimit - 1) / sum;
  TensorWeights out;
  out.divisor = sum * up;
  for (size_t i = 0; i < weights.size(); ++i) {
    const Wide scaled = Wide{weights[i] * up} * CapShare(median, norms[i]);
    out.weights.push_back(static_cast<uint32_t>((scaled + (Wide{1} << 31)) >> 32));
  }
  return out;
}

uint32_t RestoringGain(std::span<const SquaredSum> squared_norms, std::span<const uint32_t> weights,
                       SquaredSum squared_norm_of_mean) {
  LONGHAUL_CHECK(squared_norms.size() == weights.size(), "sizes differ");
  const uint64_t sum = SumOf(weights);
  const std::vector<uint64_t> norms = Roots(squared_norms);
  const uint64_t of_mean = IntegerRoot(squared_norm_of_mean);
  if (of_mean == 0) return kGainOne;
  Wide total = 0;
  for (size_t i = 0; i < norms.size(); ++i) {
    LONGHAUL_CHECK(norms[i] < uint64_t{1} << 63, "norm out of range");
    total += Wide{norms[i]} * weights[i];
  }
  const Wide gain = (total << 16) / (Wide{of_mean} * sum);
  return static_cast<uint32_t>(std::clamp<Wide>(gain, kGainOne, kLargestGain));
}

void ApplyGain(uint32_t gain_q16, std::span<float> values) {
  const float gain = static_cast<float>(gain_q16) * 0x1p-16f;  // exact: at most 19 bits
  for (float& v : values) v *= gain;
}

}  // namespace longhaul
