// A plot of loss against bits, as an SVG file that any browser shows. Pure.
#pragma once

#include <string>
#include <vector>

namespace longhaul {

struct PlotPoint {
  std::string name;
  double bits = 0;  // x, logarithmic; positive
  double loss = 0;  // y
};
struct PlotLine {
  std::string name;
  double loss = 0;
};

// Points with their names, and horizontal dashed lines; the axes follow from both. No points: an
// empty plot.
std::string LossPlot(const std::string& title, const std::vector<PlotPoint>& points,
                     const std::vector<PlotLine>& lines);

}  // namespace longhaul
