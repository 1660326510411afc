#include "sharding/plan/fragments.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "common/check.h"

namespace longhaul {
namespace {

constexpr double kSlack = 1e-9;
constexpr int kBisections = 60;
// Assignment is greedy, so coverage may fall short at the smallest deadline of the average.
constexpr double kStretch = 1.002;
constexpr int kMaxStretches = 4000;  // by a factor of 3,000: then everything, or not at all

double WholeSeconds(const FragmentWorker& w, double payload_bytes) {
  return w.delay_s + payload_bytes / w.bytes_per_s;
}

double ShareUntil(const FragmentWorker& w, double payload_bytes, double t) {
  return std::clamp((t - w.delay_s) * w.bytes_per_s / payload_bytes, 0.0, 1.0);
}

uint32_t CountUntil(const FragmentWorker& w, const FragmentLimits& l, double t) {
  const double share = ShareUntil(w, l.payload_bytes, t);
  const auto count = static_cast<uint32_t>(std::floor(share * l.fragments * (1 + kSlack) + kSlack));
  const uint32_t least = (l.fragments + l.max_wait_rounds - 1) / l.max_wait_rounds;
  return count < least ? 0 : std::min(count, l.fragments);
}

double WholeWeight(const std::vector<FragmentWorker>& workers) {
  return std::accumulate(workers.begin(), workers.end(), 0.0,
                         [](double sum, const FragmentWorker& w) { return sum + w.weight; });
}

// The smallest t with enough(t), which is monotone, between low and high.
template <class Enough>
double Bisect(double low, double high, Enough enough) {
  for (int i = 0; i < kBisections; ++i) {
    const double middle = (low + high) / 2;
    (enough(middle) ? high : low) = middle;
  }
  return high;
}

// The `count` least covered ones, unless one of them would wait too long.
FragmentShare LeastCovered(uint32_t count, uint32_t max_wait_rounds,
                           const std::vector<double>& covered) {
  const auto fragments = static_cast<uint32_t>(covered.size());
  std::vector<uint32_t> order(fragments);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](uint32_t a, uint32_t b) { return covered[a] < covered[b]; });
  const uint32_t least = order[0];
  order.resize(count);
  std::sort(order.begin(), order.end());
  if (LongestWait(order, fragments) <= max_wait_rounds) return order;
  return SpreadEvenly(count, least, fragments);
}

// Fills the shares; returns the weight that covers the least covered fragment.
double Assign(const std::vector<FragmentWorker>& workers, const FragmentLimits& l, double t,
              std::vector<FragmentShare>& shares) {
  std::vector<double> covered(l.fragments);
  std::vector<std::pair<size_t, uint32_t>> partial;  // worker, count
  for (size_t i = 0; i < workers.size(); ++i) {
    const uint32_t count = CountUntil(workers[i], l, t);
    if (count == l.fragments) {
      shares[i] = SpreadEvenly(count, 0, l.fragments);
      for (double& c : covered) c += workers[i].weight;
    } else {
      shares[i].clear();
      if (count > 0) partial.emplace_back(i, count);
    }
  }
  std::stable_sort(partial.begin(), partial.end(), [&](const auto& a, const auto& b) {
    return workers[a.first].weight > workers[b.first].weight;
  });
  for (const auto& [i, count] : partial) {
    shares[i] = LeastCovered(count, l.max_wait_rounds, covered);
    for (const uint32_t f : shares[i]) covered[f] += workers[i].weight;
  }
  return *std::min_element(covered.begin(), covered.end());
}

}  // namespace

std::vector<uint32_t> FragmentsOf(const FragmentShare& share, uint32_t fragments, uint64_t round) {
  std::vector<uint32_t> list;
  for (const uint32_t f : share) {
    list.push_back(static_cast<uint32_t>((f + round % fragments) % fragments));
  }
  return list;
}

FragmentShare SpreadEvenly(uint32_t count, uint32_t offset, uint32_t fragments) {
  FragmentShare share;
  for (uint64_t j = 0; j < count; ++j) {
    share.push_back(static_cast<uint32_t>((offset + j * fragments / count) % fragments));
  }
  std::sort(share.begin(), share.end());
  return share;
}

uint32_t LongestWait(const FragmentShare& share, uint32_t fragments) {
  if (share.empty()) return 0;
  uint32_t longest = share.front() + fragments - share.back();
  for (size_t i = 1; i < share.size(); ++i) longest = std::max(longest, share[i] - share[i - 1]);
  return longest;
}

double WholePayloadSeconds(const std::vector<FragmentWorker>& workers, double payload_bytes) {
  double last = 0;
  for (const FragmentWorker& w : workers) last = std::max(last, WholeSeconds(w, payload_bytes));
  return last;
}

FragmentPlan PlanFragments(const std::vector<FragmentWorker>& workers,
                           const FragmentLimits& limits) {
  LONGHAUL_CHECK(limits.fragments > 0 && limits.max_wait_rounds > 0, "no fragments or rounds");
  FragmentPlan plan;
  plan.shares.resize(workers.size());
  const double all = WholeWeight(workers);
  const double wanted = limits.coverage * all * (1 - kSlack);
  const double last = WholePayloadSeconds(workers, limits.payload_bytes);
  if (workers.empty()) return plan;
  plan.bound_s = Bisect(0, last, [&](double t) {
    double sum = 0;
    for (const auto& w : workers) sum += w.weight * ShareUntil(w, limits.payload_bytes, t);
    return sum >= wanted;
  });
  plan.deadline_s = Bisect(plan.bound_s * (1 - kSlack), last, [&](double t) {
    double sum = 0;
    for (const auto& w : workers) sum += w.weight * CountUntil(w, limits, t) / limits.fragments;
    return sum >= wanted;
  });
  double least = Assign(workers, limits, plan.deadline_s, plan.shares);
  for (int i = 0; least < wanted && plan.deadline_s < last && i < kMaxStretches; ++i) {
    plan.deadline_s = std::min(last, plan.deadline_s * kStretch);
    least = Assign(workers, limits, plan.deadline_s, plan.shares);
  }
  if (least < wanted) {
    plan.deadline_s = last;
    least = Assign(workers, limits, last, plan.shares);
  }
  plan.coverage = all > 0 ? least / all : 0;
  plan.possible = least >= wanted;
  return plan;
}

}  // namespace longhaul
