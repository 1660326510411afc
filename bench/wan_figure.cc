#include "bench/wan_figure.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace longhaul {
namespace {

constexpr double kPanelWidth = 250, kPanelHeight = 190, kGap = 60, kTop = 80, kLeft = 60;
constexpr size_t kPerRow = 4;
constexpr const char* kColours[] = {"#2266aa", "#cc6622", "#338844", "#884488"};

std::string Text(double x, double y, const char* anchor, const std::string& text) {
  return absl::StrFormat("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n", x, y, anchor,
                         absl::StrReplaceAll(text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}}));
}

std::string Line(double x1, double y1, double x2, double y2, const std::string& colour) {
  return absl::StrFormat("<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\"/>\n",
                         x1, y1, x2, y2, colour);
}

// In order of first use.
std::vector<std::string> Names(const std::vector<RatePoint>& points, std::string RatePoint::*name) {
  std::vector<std::string> out;
  for (const RatePoint& p : points) {
    if (std::find(out.begin(), out.end(), p.*name) == out.end()) out.push_back(p.*name);
  }
  return out;
}

class Figure {
 public:
  explicit Figure(const std::vector<RatePoint>& points)
      : points_(points),
        panels_(Names(points, &RatePoint::panel)),
        who_(Names(points, &RatePoint::who)) {
    std::set<double> trips;
    for (const RatePoint& p : points) {
      trips.insert(p.round_trip_ms);
      low_ = std::min(low_, std::floor(std::log10(p.mbit)));
      high_ = std::max(high_, std::ceil(std::log10(p.mbit)));
    }
    trips_.assign(trips.begin(), trips.end());
  }

  std::string Svg(const std::string& title) const {
    const size_t rows = (panels_.size() + kPerRow - 1) / kPerRow;
    const double width = kLeft + kPerRow * (kPanelWidth + kGap);
    std::string svg = absl::StrFormat(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" "
        "font-family=\"sans-serif\" font-size=\"12\">\n"
        "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
        width, kTop + static_cast<double>(rows) * (kPanelHeight + kGap));
    svg += Text(width / 2, 24, "middle", title);
    for (size_t i = 0; i < who_.size(); ++i) {
      const double x = kLeft + 120 * static_cast<double>(i);
      svg += Line(x, 44, x + 24, 44, Colour(i)) + Text(x + 30, 48, "start", who_[i]);
    }
    for (size_t i = 0; i < panels_.size(); ++i) svg += Panel(i);
    return svg + "</svg>\n";
  }

 private:
  static std::string Colour(size_t i) { return kColours[i % std::size(kColours)]; }
  double Left(size_t panel) const {
    return kLeft + static_cast<double>(panel % kPerRow) * (kPanelWidth + kGap);
  }
  double Top(size_t panel) const {
    return kTop + static_cast<double>(panel / kPerRow) * (kPanelHeight + kGap);
  }
  double X(size_t panel, double trip) const {
    const auto at = std::find(trips_.begin(), trips_.end(), trip) - trips_.begin();
    return Left(panel) +
           kPanelWidth * (static_cast<double>(at) + 0.5) / static_cast<double>(trips_.size());
  }
  double Y(size_t panel, double mbit) const {
    return Top(panel) + kPanelHeight * (high_ - std::log10(mbit)) / (high_ - low_);
  }

  std::string Panel(size_t panel) const {
    std::string svg = Text(Left(panel), Top(panel) - 8, "start", panels_[panel]);
    for (double e = low_; e <= high_ + 0.5; ++e) {
      const double y = Y(panel, std::pow(10, e));
      svg += Line(Left(panel), y, Left(panel) + kPanelWidth, y, "#ddd");
      svg += Text(Left(panel) - 6, y + 4, "end", absl::StrFormat("%g", std::pow(10, e)));
    }
    for (const double trip : trips_) {
      svg += Text(X(panel, trip), Top(panel) + kPanelHeight + 16, "middle",
                  absl::StrFormat("%g ms", trip));
    }
    for (size_t i = 0; i < who_.size(); ++i) svg += Curve(panel, i);
    return svg;
  }

  std::string Curve(size_t panel, size_t who) const {
    std::vector<RatePoint> mine;
    for (const RatePoint& p : points_) {
      if (p.panel == panels_[panel] && p.who == who_[who]) mine.push_back(p);
    }
    std::sort(mine.begin(), mine.end(), [](const RatePoint& a, const RatePoint& b) {
      return a.round_trip_ms < b.round_trip_ms;
    });
    std::string svg;
    for (size_t i = 0; i < mine.size(); ++i) {
      const double x = X(panel, mine[i].round_trip_ms), y = Y(panel, mine[i].mbit);
      svg += absl::StrFormat("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"/>\n", x, y,
                             Colour(who));
      if (i == 0) continue;
      svg +=
          Line(X(panel, mine[i - 1].round_trip_ms), Y(panel, mine[i - 1].mbit), x, y, Colour(who));
    }
    return svg;
  }

  const std::vector<RatePoint>& points_;
  const std::vector<std::string> panels_;
  const std::vector<std::string> who_;
  std::vector<double> trips_;
  double low_ = 0, high_ = 1;  // powers of ten
};

}  // namespace

std::string RateFigure(const std::string& title, const std::vector<RatePoint>& points) {
  return Figure(points).Svg(title);
}

}  // namespace longhaul
