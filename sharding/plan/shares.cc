#include "sharding/plan/shares.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "common/check.h"

namespace longhaul {
namespace {

constexpr int kMaxRootSteps = 200;
constexpr double kWhole = 1 - 1e-12;  // a sum of shares, but for rounding
constexpr double kClose = 1e-13;      // relative width of a bracket that is a root

// A load of fixed + slope x share that `rate` carries per second.
struct Way {
  double fixed = 0;
  double slope = 0;
  double rate = 0;
};

struct Ways {
  Way up;
  Way down;
  double most = 1;
};

struct Interval {
  double least = 0;
  double most = 1;
};

// A sum over peers at some T, and how fast it grows there.
struct Slope {
  double value = 0;
  double growth = 0;
};

std::vector<Ways> WaysOf(const std::vector<SharePeer>& peers, const SharePayload& payload) {
  double contributors = 0, receivers = 0;
  for (const SharePeer& p : peers) {
    contributors += p.contributes;
    receivers += p.receives;
  }
  std::vector<Ways> out;
  out.reserve(peers.size());
  for (const SharePeer& p : peers) {
    LONGHAUL_CHECK(p.up_bytes_per_s > 0 && p.down_bytes_per_s > 0, "a link has no rate");
    const double own_up = p.contributes ? payload.up_bytes : 0;
    const double own_down = p.receives ? payload.down_bytes : 0;
    const double sends = (receivers - p.receives) * payload.down_bytes;
    const double gets = (contributors - p.contributes) * payload.up_bytes;
    out.push_back({{own_up, sends - own_up, p.up_bytes_per_s},
                   {own_down, gets - own_down, p.down_bytes_per_s},
                   std::clamp(p.most_share, 0.0, 1.0)});
  }
  return out;
}

// The least T at which the peer's interval is not empty: the lowest point of the larger of two
// lines, at one end or where they cross.
double FloorOf(const Ways& w) {
  const auto seconds = [&](double share) {
    return std::max((w.up.fixed + w.up.slope * share) / w.up.rate,
                    (w.down.fixed + w.down.slope * share) / w.down.rate);
  };
  const double crossing = (w.down.fixed / w.down.rate - w.up.fixed / w.up.rate) /
                          (w.up.slope / w.up.rate - w.down.slope / w.down.rate);
  const double floor = std::min(seconds(0), seconds(w.most));
  return crossing > 0 && crossing < w.most ? std::min(floor, seconds(crossing)) : floor;
}

// Upper end of the interval at T, given that it is not empty.
Slope MostAt(const Ways& w, double seconds) {
  Slope end{w.most, 0};
  for (const Way& way : {w.up, w.down}) {
    if (way.slope <= 0) continue;
    const double share = (seconds * way.rate - way.fixed) / way.slope;
    if (share < end.value) end = {share, way.rate / way.slope};
  }
  return end.value > 0 ? end : Slope{0, 0};
}

// Lower end.
Slope LeastAt(const Ways& w, double seconds) {
  Slope end{0, 0};
  for (const Way& way : {w.up, w.down}) {
    if (way.slope >= 0) continue;
    const double share = (seconds * way.rate - way.fixed) / way.slope;
    if (share > end.value) end = {share, way.rate / way.slope};
  }
  return end.value < w.most ? end : Slope{w.most, 0};
}

template <Slope (*End)(const Ways&, double)>
Slope SumAt(const std::vector<Ways>& ways, double seconds) {
  Slope sum;
  for (const Ways& w : ways) {
    const Slope end = End(w, seconds);
    sum.value += end.value;
    sum.growth += end.growth;
  }
  return sum;
}

// The least T >= floor at which good(T) holds, for a piecewise linear sum that crosses 1 once:
// Newton's steps land exactly once they are on the right piece; bisection keeps them honest.
template <class Sum, class Good>
double Root(Sum sum, Good good, double floor) {
  if (good(sum(floor).value)) return floor;
  double low = floor, high = std::max(2 * floor, 1e-12);
  while (!good(sum(high).value)) {
    low = high;
    high *= 2;
  }
  double at = high;
  for (int i = 0; i < kMaxRootSteps && high - low > kClose * high; ++i) {
    const Slope s = sum(at);
    (good(s.value) ? high : low) = at;
    if (at == high && std::abs(1 - s.value) <= 1 - kWhole) break;
    const double newton = at + (1 - s.value) / s.growth;
    const bool inside = std::isfinite(newton) && newton > low && newton < high;
    // Every third step halves the bracket, so that no shape of the sum can stall the search.
    at = inside && i % 3 != 2 ? newton : low + (high - low) / 2;
  }
  return high;
}

// Somewhere in every interval, the same part of the way.
std::vector<double> SharesAt(const std::vector<Ways>& ways, double seconds) {
  std::vector<double> least, most;
  for (const Ways& w : ways) {
    least.push_back(LeastAt(w, seconds).value);
    most.push_back(std::max(least.back(), MostAt(w, seconds).value));
  }
  const double low = std::accumulate(least.begin(), least.end(), 0.0);
  const double high = std::accumulate(most.begin(), most.end(), 0.0);
  const double part = high > low ? std::clamp((1 - low) / (high - low), 0.0, 1.0) : 0;
  std::vector<double> shares;
  for (size_t i = 0; i < ways.size(); ++i) shares.push_back(least[i] + part * (most[i] - least[i]));
  return shares;
}

}  // namespace

SharePlan PlanShares(const std::vector<SharePeer>& peers, const SharePayload& payload) {
  LONGHAUL_CHECK(payload.up_bytes > 0 && payload.down_bytes > 0, "nothing to reduce");
  const std::vector<Ways> ways = WaysOf(peers, payload);
  double floor = 0, all = 0;
  for (const Ways& w : ways) {
    floor = std::max(floor, FloorOf(w));
    all += w.most;
  }
  SharePlan plan;
  plan.possible = all >= kWhole;
  if (!plan.possible) return plan;
  const auto most = [&](double t) { return SumAt<MostAt>(ways, t); };
  const auto least = [&](double t) { return SumAt<LeastAt>(ways, t); };
  plan.seconds = Root(
      most, [](double sum) { return sum >= kWhole; }, floor);
  plan.seconds = Root(
      least, [](double sum) { return sum <= 2 - kWhole; }, plan.seconds);
  plan.shares = SharesAt(ways, plan.seconds);
  return plan;
}

double SharesSeconds(const std::vector<SharePeer>& peers, const SharePayload& payload,
                     const std::vector<double>& shares) {
  LONGHAUL_CHECK(shares.size() == peers.size(), "a share per peer");
  const std::vector<Ways> ways = WaysOf(peers, payload);
  double seconds = 0;
  for (size_t i = 0; i < ways.size(); ++i) {
    for (const Way& way : {ways[i].up, ways[i].down}) {
      seconds = std::max(seconds, (way.fixed + way.slope * shares[i]) / way.rate);
    }
  }
  return seconds;
}

std::vector<uint32_t> ChunksOfShares(const std::vector<double>& shares, uint32_t chunks) {
  std::vector<uint32_t> out;
  std::vector<std::pair<double, size_t>> rests;  // negated, so that equal ones stay in order
  uint64_t given = 0;
  for (size_t i = 0; i < shares.size(); ++i) {
    const double exact = std::clamp(shares[i], 0.0, 1.0) * chunks;
    out.push_back(static_cast<uint32_t>(exact));
    given += out.back();
    if (shares[i] > 0) rests.push_back({out.back() - exact, i});
  }
  std::sort(rests.begin(), rests.end());
  for (size_t i = 0; given < chunks && !rests.empty(); i = (i + 1) % rests.size(), ++given) {
    ++out[rests[i].second];
  }
  return out;
}

}  // namespace longhaul
