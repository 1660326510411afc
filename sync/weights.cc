#include "sync/weights.h"

#include <algorithm>

#include "common/check.h"
#include "sync/exact_sum.h"

namespace longhaul {
namespace {
using Wide = unsigned __int128;

uint64_t Cut(Wide raw) { return static_cast<uint64_t>(std::clamp<Wide>(raw, 1, kMaxRawWeight)); }

Wide Numerator(WeightRule rule, uint64_t tokens, uint64_t steps) {
  LONGHAUL_CHECK(steps > 0, "a contribution without steps");
  switch (rule) {
    case WeightRule::kEqual:
      return 1;
    case WeightRule::kTokens:
      return tokens;
    case WeightRule::kTokens2PerStep:
      break;
  }
  return Wide{tokens} * tokens;
}

Wide Denominator(WeightRule rule, uint64_t steps) {
  return rule == WeightRule::kTokens2PerStep ? steps : 1;
}
}  // namespace

WeightRatio WeightScale(uint64_t planned_total, uint32_t carry) {
  constexpr uint64_t kHalf = kWeightLimit / 2;
  const Wide most = static_cast<Wide>(planned_total) * (uint64_t{1} + carry);
  LONGHAUL_CHECK(most < Wide{1} << 63, "planned weights are too large");
  if (most <= kHalf) return {};
  return {kHalf, static_cast<uint64_t>(most)};
}

uint32_t ScaledWeight(uint64_t raw, WeightRatio scale) {
  LONGHAUL_CHECK(scale.denominator != 0, "scale without denominator");
  const Wide scaled = static_cast<Wide>(raw) * scale.numerator / scale.denominator;
  return static_cast<uint32_t>(std::clamp<Wide>(scaled, 1, kWeightLimit - 1));
}

uint64_t RawWeight(WeightRule rule, uint64_t tokens, uint64_t steps) {
  return Cut(Numerator(rule, tokens, steps) / Denominator(rule, steps));
}

// One step more or less must change the weight: small ones get a fraction of 16 bits.
uint64_t RawWeightPerStep(WeightRule rule, uint64_t tokens, uint64_t steps) {
  const int fraction_bits = rule == WeightRule::kTokens2PerStep ? 0 : 16;
  const Wide scaled = std::min(Numerator(rule, tokens, steps), Wide{1} << 100) << fraction_bits;
  return Cut(scaled / Denominator(rule, steps) / steps);
}

uint64_t PerStepDivisor(std::span<const uint32_t> weights, std::span<const uint64_t> steps) {
  LONGHAUL_CHECK(weights.size() == steps.size() && !weights.empty(), "sizes differ");
  Wide weighted = 0, total = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    LONGHAUL_CHECK(weights[i] > 0 && steps[i] > 0, "a contribution without weight or steps");
    weighted += Wide{weights[i]} * steps[i];
    total += steps[i];
  }
  LONGHAUL_CHECK(total < Wide{1} << 43, "too many steps");
  return static_cast<uint64_t>((weighted * weights.size() + total / 2) / total);
}

}  // namespace longhaul
