// Late credit: how much to believe it.
//
// A stage's gap is the number of updates its block made between the forward pass of a micro-batch
// and the arrival of its credit.
//
// Thread rule: one thread per object; the functions are pure.
#pragma once

#include <cstdint>
#include <vector>

namespace longhaul::pcn {

// min(1, full_rate_gap / gap): the factor of that stage's learning rate.
double StalenessFactor(uint64_t gap, uint64_t full_rate_gap);

// theta <- theta - a theta(t - delay) is stable iff 0 < a < 2 sin(pi / (4 delay + 2)): why a
// learning rate must fall with the gap.
double DelayedDescentLimit(uint32_t delay);

// Gaps seen, up to a largest one.
class GapHistogram {
 public:
  explicit GapHistogram(uint64_t largest) : counts_(largest + 1) {}
  void Add(uint64_t gap);  // one above the largest counts as the largest
  uint64_t count() const { return count_; }
  // The smallest gap that at least `share` of those seen do not exceed; 0 when none was seen.
  uint64_t Percentile(double share) const;

 private:
  std::vector<uint64_t> counts_;
  uint64_t count_ = 0;
};

}  // namespace longhaul::pcn
