#include "sharding/plan/robust.h"

#include <algorithm>
#include <cmath>

#include "common/check.h"

namespace longhaul {
namespace {

double Median(std::vector<double> v) {
  const auto middle = v.begin() + static_cast<int64_t>(v.size() / 2);
  std::nth_element(v.begin(), middle, v.end());
  if (v.size() % 2 == 1) return *middle;
  return (*middle + *std::max_element(v.begin(), middle)) / 2;
}

double Spread(const std::vector<double>& v, double median) {
  std::vector<double> off;
  for (const double x : v) off.push_back(std::abs(x - median));
  return 1.4826 * Median(std::move(off));
}

}  // namespace

RobustEstimate EstimateRobustly(const std::vector<double>& measurements) {
  LONGHAUL_CHECK(!measurements.empty(), "nothing was measured");
  RobustEstimate estimate;
  const double median = Median(measurements), spread = Spread(measurements, median);
  std::vector<double> kept;
  for (size_t i = 0; i < measurements.size(); ++i) {
    const double x = measurements[i], off = std::abs(x - median);
    const bool factor = x > median * kOutlierFactor || x * kOutlierFactor < median;
    if (factor || (off > kOutlierSpreads * spread && off > median / 10)) {
      estimate.outliers.push_back(i);
    } else {
      kept.push_back(x);
    }
  }
  // The median is one of them or lies between two, so never all are off.
  estimate.value = kept.empty() ? median : Median(kept);
  estimate.spread = kept.empty() ? spread : Spread(kept, estimate.value);
  return estimate;
}

}  // namespace longhaul
