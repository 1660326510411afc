#include "sync/contributor_mean.h"

#include "common/check.h"

namespace longhaul {

void CountContributors(std::span<const float> values, uint32_t weight, std::span<uint32_t> counts) {
  LONGHAUL_CHECK(values.size() == counts.size(), "sizes differ");
  for (size_t i = 0; i < values.size(); ++i) counts[i] += values[i] != 0 ? weight : 0;
}

void UncountContributors(std::span<const float> values, uint32_t weight,
                         std::span<uint32_t> counts) {
  LONGHAUL_CHECK(values.size() == counts.size(), "sizes differ");
  for (size_t i = 0; i < values.size(); ++i) counts[i] -= values[i] != 0 ? weight : 0;
}

void ContributorMean(std::span<const uint64_t> sum, std::span<const uint32_t> counts,
                     std::span<float> out) {
  LONGHAUL_CHECK(sum.size() == counts.size() && sum.size() == out.size(), "sizes differ");
  for (size_t i = 0; i < sum.size(); ++i) {
    const double scale = (counts[i] == 0 ? 1.0 : static_cast<double>(counts[i])) * 0x1p40;
    out[i] = static_cast<float>(static_cast<double>(static_cast<int64_t>(sum[i])) / scale);
  }
}

}  // namespace longhaul
