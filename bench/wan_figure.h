// Rates over round trip and loss, as an SVG file that any browser shows. Pure.
#pragma once

#include <string>
#include <vector>

namespace longhaul {

struct RatePoint {
  std::string who;    // a line of its own in each panel
  std::string panel;  // "0.1 % loss, CUBIC"
  double round_trip_ms = 0;
  double mbit = 0;  // positive: the axis is logarithmic
};

// A panel per name, in the order of their first points, four beside each other; round trips are
// categories, in order of size. No points: an empty plot.
std::string RateFigure(const std::string& title, const std::vector<RatePoint>& points);

}  // namespace longhaul
