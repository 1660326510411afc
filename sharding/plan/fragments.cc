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
constexpr int kMaxStretches = 400;

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

// Offsets by which partial senders cover what is covered least, the heaviest first. Returns the
// weight that covers the least covered fragment.
double Assign(const std::vector<FragmentWorker>& workers, const FragmentLimits& l, double t,
              std::vector<FragmentShare>& shares) {
  std::vector<double> covered(l.fragments);
  std::vector<size_t> partial;
  for (size_t i = 0; i < workers.size(); ++i) {
    shares[i] = {CountUntil(workers[i], l, t), 0};
    if (shares[i].count == l.fragments) {
      for (double& c : covered) c += workers[i].weight;
    } else if (shares[i].count > 0) {
      partial.push_back(i);
    }
  }
  std::stable_sort(partial.begin(), partial.end(), [&](size_t a, size_t b) {
    return workers[a].weight * shares[a].count > workers[b].weight * shares[b].count;
  });
  for (const size_t i : partial) {
    double least = 0;
    for (uint32_t offset = 0; offset < l.fragments; ++offset) {
      double sum = 0;
      for (uint32_t j = 0; j < shares[i].count; ++j) {
        sum += covered[(offset + j * l.fragments / shares[i].count) % l.fragments];
      }
      if (offset == 0 || sum < least) least = sum, shares[i].offset = offset;
    }
    for (const uint32_t f : FragmentsOf(shares[i], l.fragments, 0)) covered[f] += workers[i].weight;
  }
  return *std::min_element(covered.begin(), covered.end());
}

}  // namespace

std::vector<uint32_t> FragmentsOf(const FragmentShare& share, uint32_t fragments, uint64_t round) {
  std::vector<uint32_t> list;
  for (uint32_t j = 0; j < share.count; ++j) {
    const uint64_t spread = uint64_t{j} * fragments / share.count;
    list.push_back(static_cast<uint32_t>((share.offset + spread + round % fragments) % fragments));
  }
  return list;
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
