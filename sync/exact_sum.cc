#include "sync/exact_sum.h"

#include <algorithm>

#include "common/check.h"

namespace longhaul {
namespace {

void CheckBelowLimit(std::span<const float> values) {
  uint32_t most = 0;
  for (float v : values) most = std::max(most, std::bit_cast<uint32_t>(v) & 0x7fffffffu);
  LONGHAUL_CHECK(most < std::bit_cast<uint32_t>(kSumLimit), "value outside the exact sum's range");
}

}  // namespace

void AddWeighted(std::span<const float> values, uint32_t weight, std::span<uint64_t> sum) {
  LONGHAUL_CHECK(values.size() == sum.size(), "sizes differ");
  CheckBelowLimit(values);
  for (size_t i = 0; i < values.size(); ++i) {
    sum[i] += static_cast<uint64_t>(ToGrid(values[i])) * weight;
  }
}

void SubtractWeighted(std::span<const float> values, uint32_t weight, std::span<uint64_t> sum) {
  LONGHAUL_CHECK(values.size() == sum.size(), "sizes differ");
  CheckBelowLimit(values);
  for (size_t i = 0; i < values.size(); ++i) {
    sum[i] -= static_cast<uint64_t>(ToGrid(values[i])) * weight;
  }
}

void MeanFromSum(std::span<const uint64_t> sum, uint64_t divisor, std::span<float> out) {
  LONGHAUL_CHECK(sum.size() == out.size(), "sizes differ");
  LONGHAUL_CHECK(divisor > 0 && divisor < uint64_t{1} << 52, "divisor out of range");
  const double scale = static_cast<double>(divisor) * 0x1p40;
  for (size_t i = 0; i < sum.size(); ++i) {
    out[i] = static_cast<float>(static_cast<double>(static_cast<int64_t>(sum[i])) / scale);
  }
}

SquaredSum SquaredNorm(std::span<const float> values) {
  CheckBelowLimit(values);
  SquaredSum total = 0;
  for (float v : values) {
    const int64_t grid = ToGrid(v);
    const auto magnitude = static_cast<uint64_t>(grid < 0 ? -grid : grid);
    total += static_cast<SquaredSum>(magnitude) * magnitude;
  }
  return total;
}

}  // namespace longhaul
