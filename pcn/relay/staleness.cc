#include "pcn/relay/staleness.h"

#include <algorithm>
#include <cmath>

namespace longhaul::pcn {

double StalenessFactor(uint64_t gap, uint64_t full_rate_gap) {
  if (gap <= full_rate_gap) return 1;
  return static_cast<double>(full_rate_gap) / static_cast<double>(gap);
}

double DelayedDescentLimit(uint32_t delay) { return 2 * std::sin(M_PI / (4.0 * delay + 2)); }

void GapHistogram::Add(uint64_t gap) {
  ++counts_[std::min<uint64_t>(gap, counts_.size() - 1)];
  ++count_;
}

uint64_t GapHistogram::Percentile(double share) const {
  const auto wanted = static_cast<uint64_t>(std::ceil(share * static_cast<double>(count_)));
  uint64_t seen = 0;
  for (uint64_t gap = 0; gap < counts_.size(); ++gap) {
    seen += counts_[gap];
    if (seen >= wanted && seen > 0) return gap;
  }
  return 0;
}

}  // namespace longhaul::pcn
