// An estimate from measurements of which some may be wrong by a lot: the median, its spread, and
// the measurements that do not belong to the others. A wrong entry in a table of links once
// differed from its neighbours by a factor of 1,024; a mean would have believed it.
//
// Pure; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace longhaul {

struct RobustEstimate {
  double value = 0;   // median
  double spread = 0;  // 1.4826 x median absolute deviation: a standard deviation of normal data
  std::vector<size_t> outliers;  // places of measurements off by more than the limits, not counted
};

// Measurements above 0, at least one. An outlier is off by a factor of more than kOutlierFactor, or
// by more than kOutlierSpreads spreads and a tenth of the median.
inline constexpr double kOutlierFactor = 20;
inline constexpr double kOutlierSpreads = 6;
RobustEstimate EstimateRobustly(const std::vector<double>& measurements);

}  // namespace longhaul
