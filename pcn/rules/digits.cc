#include "pcn/rules/digits.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "common/rng.h"

namespace longhaul::pcn {
namespace {

struct Point {
  double x, y;
};
using Stroke = std::vector<Point>;

// Polylines in the unit square, y down.
const std::array<std::vector<Stroke>, 10>& Shapes() {
  static const std::array<std::vector<Stroke>, 10> kShapes = {{
      {{{.5, .1}, {.25, .3}, {.25, .7}, {.5, .9}, {.75, .7}, {.75, .3}, {.5, .1}}},
      {{{.35, .25}, {.55, .1}, {.55, .9}}},
      {{{.25, .3}, {.45, .1}, {.7, .2}, {.7, .4}, {.25, .9}, {.75, .9}}},
      {{{.25, .15}, {.6, .1}, {.72, .28}, {.48, .47}, {.74, .68}, {.6, .9}, {.25, .85}}},
      {{{.6, .9}, {.6, .1}, {.22, .62}, {.8, .62}}},
      {{{.72, .1}, {.3, .1}, {.28, .45}, {.6, .42}, {.74, .65}, {.58, .9}, {.25, .85}}},
      {{{.66, .1}, {.35, .4}, {.27, .7}, {.5, .9}, {.72, .7}, {.5, .5}, {.3, .65}}},
      {{{.22, .12}, {.76, .12}, {.42, .9}}},
      {{{.5, .48},
        {.28, .3},
        {.5, .1},
        {.72, .3},
        {.5, .48},
        {.26, .7},
        {.5, .9},
        {.74, .7},
        {.5, .48}}},
      {{{.7, .35}, {.48, .5}, {.28, .32}, {.5, .1}, {.7, .3}, {.66, .6}, {.45, .9}}},
  }};
  return kShapes;
}

// Uniform in [low, high).
double Between(Rng& rng, double low, double high) {
  return low + (high - low) * static_cast<double>(rng.Next() >> 11) * 0x1p-53;
}

double DistanceToSegment(Point p, Point a, Point b) {
  const double dx = b.x - a.x, dy = b.y - a.y;
  const double along = ((p.x - a.x) * dx + (p.y - a.y) * dy) / std::max(1e-12, dx * dx + dy * dy);
  const double t = std::clamp(along, 0.0, 1.0);
  return std::hypot(p.x - a.x - t * dx, p.y - a.y - t * dy);
}

double DistanceToDigit(Point p, const std::vector<Stroke>& strokes) {
  double nearest = 1e9;
  for (const Stroke& stroke : strokes) {
    for (size_t i = 0; i + 1 < stroke.size(); ++i) {
      nearest = std::min(nearest, DistanceToSegment(p, stroke[i], stroke[i + 1]));
    }
  }
  return nearest;
}

// The corners moved a little, then turned, slanted, scaled and shifted as a whole.
std::vector<Stroke> Handwritten(const std::vector<Stroke>& strokes, Rng& rng) {
  const double angle = Between(rng, -0.3, 0.3), slant = Between(rng, -0.3, 0.3);
  const double width = Between(rng, 0.65, 1.05), height = Between(rng, 0.7, 1.0);
  const double right = Between(rng, -0.1, 0.1), down = Between(rng, -0.1, 0.1);
  std::vector<Stroke> moved = strokes;
  for (Stroke& stroke : moved) {
    for (Point& p : stroke) {
      const double x = (p.x - 0.5 + Between(rng, -0.05, 0.05)) * width - slant * (p.y - 0.5);
      const double y = (p.y - 0.5 + Between(rng, -0.05, 0.05)) * height;
      p = {0.5 + right + std::cos(angle) * x - std::sin(angle) * y,
           0.5 + down + std::sin(angle) * x + std::cos(angle) * y};
    }
  }
  return moved;
}

}  // namespace

ImageSet GeneratedDigits(int64_t count, uint64_t seed) {
  ImageSet set{.pixels = kDigitSide * kDigitSide, .classes = 10};
  set.values.reserve(static_cast<size_t>(count * set.pixels));
  for (int64_t i = 0; i < count; ++i) {
    Rng rng(Draw(seed, {static_cast<uint64_t>(i)}));
    const auto label = static_cast<int64_t>(rng.Below(10));
    const std::vector<Stroke> digit = Handwritten(Shapes()[label], rng);
    const double thickness = Between(rng, 0.03, 0.07);
    for (int64_t pixel = 0; pixel < set.pixels; ++pixel) {
      const Point p = {(static_cast<double>(pixel % kDigitSide) + 0.5) / kDigitSide,
                       (static_cast<double>(pixel / kDigitSide) + 0.5) / kDigitSide};
      const double ink = 1.5 - DistanceToDigit(p, digit) / thickness;
      const double value = std::clamp(ink, 0.0, 1.0) + Between(rng, -0.15, 0.15);
      set.values.push_back(static_cast<float>(2 * std::clamp(value, 0.0, 1.0) - 1));
    }
    set.labels.push_back(label);
  }
  return set;
}

}  // namespace longhaul::pcn
