#include "bench/learning_plot.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace longhaul {
namespace {

constexpr double kWidth = 900, kHeight = 560, kLeft = 70, kRight = 170, kTop = 50, kBottom = 60;

std::string Escaped(const std::string& text) {
  return absl::StrReplaceAll(text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}});
}

std::string Text(double x, double y, const std::string& anchor, const std::string& text) {
  return absl::StrFormat("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n", x, y,
                         anchor.c_str(), Escaped(text).c_str());
}

std::string Line(double x1, double y1, double x2, double y2, const std::string& style) {
  return absl::StrFormat("<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" %s/>\n", x1, y1, x2,
                         y2, style.c_str());
}

class Axes {
 public:
  Axes(const std::vector<PlotPoint>& points, const std::vector<PlotLine>& lines) {
    std::vector<double> exponents, losses;
    for (const PlotPoint& p : points) {
      exponents.push_back(std::log10(p.bits));
      losses.push_back(p.loss);
    }
    for (const PlotLine& l : lines) losses.push_back(l.loss);
    if (!exponents.empty()) {
      first_ = std::floor(*std::min_element(exponents.begin(), exponents.end()));
      last_ =
          std::max(first_ + 1, std::ceil(*std::max_element(exponents.begin(), exponents.end())));
    }
    if (!losses.empty()) {
      low_ = std::floor(*std::min_element(losses.begin(), losses.end()) * 10) / 10;
      high_ = std::max(low_ + 0.1,
                       std::ceil(*std::max_element(losses.begin(), losses.end()) * 10) / 10);
    }
  }

  double X(double bits) const {
    const double share = (std::log10(bits) - first_) / (last_ - first_);
    return kLeft + share * (kWidth - kLeft - kRight);
  }
  double Y(double loss) const {
    return kTop + (high_ - loss) / (high_ - low_) * (kHeight - kTop - kBottom);
  }

  std::string Grid() const {
    std::string svg;
    for (double e = first_; e <= last_ + 0.5; ++e) {
      const double bits = std::pow(10, e), x = X(bits);
      svg += Line(x, kTop, x, kHeight - kBottom, "stroke=\"#ddd\"");
      svg += Text(x, kHeight - kBottom + 18, "middle", absl::StrCat(bits));
    }
    const double step = high_ - low_ > 1.05 ? 0.2 : high_ - low_ > 0.35 ? 0.1 : 0.05;
    for (double y = low_; y <= high_ + step / 2; y += step) {
      svg += Line(kLeft, Y(y), kWidth - kRight, Y(y), "stroke=\"#ddd\"");
      svg += Text(kLeft - 8, Y(y) + 4, "end", absl::StrFormat("%.2f", y));
    }
    return svg;
  }

 private:
  double first_ = 0, last_ = 1;  // powers of ten
  double low_ = 0, high_ = 1;
};

}  // namespace

std::string LossPlot(const std::string& title, const std::vector<PlotPoint>& points,
                     const std::vector<PlotLine>& lines) {
  const Axes axes(points, lines);
  std::string svg = absl::StrFormat(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" "
      "font-family=\"sans-serif\" font-size=\"12\">\n"
      "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
      kWidth, kHeight);
  svg += Text(kWidth / 2, 24, "middle", title);
  svg += axes.Grid();
  svg += Text(kWidth / 2, kHeight - 14, "middle",
              "bits per parameter and inner step, up, headers included");
  svg += Text(kLeft, kTop - 10, "middle", "nats per byte");
  for (const PlotLine& l : lines) {
    const double y = axes.Y(l.loss);
    svg += Line(kLeft, y, kWidth - kRight, y, "stroke=\"#888\" stroke-dasharray=\"6 4\"");
    svg += Text(kWidth - kRight + 4, y + 4, "start", l.name);
  }
  for (const PlotPoint& p : points) {
    svg += absl::StrFormat("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"#2266aa\"/>\n",
                           axes.X(p.bits), axes.Y(p.loss));
    svg += Text(axes.X(p.bits) + 7, axes.Y(p.loss) - 5, "start", p.name);
  }
  return svg + "</svg>\n";
}

}  // namespace longhaul
