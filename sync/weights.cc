#include "sync/weights.h"

#include <algorithm>

#include "common/check.h"
#include "sync/exact_sum.h"

namespace longhaul {
namespace {
using Wide = unsigned __int128;
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

}  // namespace longhaul
