#include "sharding/plan/steps.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace longhaul {
namespace {

constexpr int kGrid = 256;
// A step that ends exactly at the deadline is made, however the last bit was rounded.
constexpr double kSlack = 1e-9;

double TokensUntil(const std::vector<StepWorker>& workers, const StepLimits& limits, double t) {
  double tokens = 0;
  for (const StepWorker& w : workers) tokens += StepsUntil(w, limits, t) * w.tokens_per_step;
  return tokens;
}

double EndOf(const StepWorker& w, uint32_t steps) { return w.fixed_s + steps * w.step_s; }

double Latest(const std::vector<StepWorker>& workers, const StepLimits& limits) {
  double last = 0;
  for (const StepWorker& w : workers) last = std::max(last, EndOf(w, limits.max_steps));
  return limits.max_deadline_s > 0 ? std::min(last, limits.max_deadline_s) : last;
}

double Earliest(const std::vector<StepWorker>& workers, const StepLimits& limits) {
  double first = std::numeric_limits<double>::infinity();
  for (const StepWorker& w : workers) {
    first = std::min(first, EndOf(w, std::max(1u, limits.min_steps)));
  }
  return first;
}

struct Best {
  double deadline_s = 0;
  double rate = 0;
  void Try(double deadline_s_, double tokens, double overhead_s) {
    const double r = tokens / (deadline_s_ + overhead_s);
    if (r > rate) rate = r, deadline_s = deadline_s_;
  }
};

// Every place in (from, to] where somebody completes a step.
void Search(const std::vector<StepWorker>& workers, const StepLimits& limits, double from,
            double to, Best& best) {
  std::vector<std::pair<double, double>> gains;  // (time, tokens)
  double tokens = 0;
  for (const StepWorker& w : workers) {
    const uint32_t before = StepsUntil(w, limits, from), after = StepsUntil(w, limits, to);
    tokens += before * w.tokens_per_step;
    for (uint32_t h = before + 1; h <= after; ++h) {
      // The first steps count together, when min_steps of them are made.
      if (h < limits.min_steps) continue;
      const double count = h == limits.min_steps && before == 0 ? h : 1;
      gains.emplace_back(EndOf(w, h), count * w.tokens_per_step);
    }
  }
  std::sort(gains.begin(), gains.end());
  for (size_t i = 0; i < gains.size(); ++i) {
    tokens += gains[i].second;
    best.Try(gains[i].first, tokens, limits.overhead_s);
  }
}

Best FindDeadline(const std::vector<StepWorker>& workers, const StepLimits& limits,
                  double tolerance) {
  Best best;
  const double first = Earliest(workers, limits), last = Latest(workers, limits);
  if (!(first <= last * (1 + kSlack))) return best;
  std::vector<double> times(kGrid + 1), tokens(kGrid + 1);
  for (int k = 0; k <= kGrid; ++k) {
    times[k] = first * std::pow(last / first, static_cast<double>(k) / kGrid);
    tokens[k] = TokensUntil(workers, limits, times[k]);
    best.Try(times[k], tokens[k], limits.overhead_s);
  }
  const auto most = [&](int k) { return tokens[k + 1] / (times[k] + limits.overhead_s); };
  std::vector<int> intervals(kGrid);
  for (int k = 0; k < kGrid; ++k) intervals[k] = k;
  std::sort(intervals.begin(), intervals.end(), [&](int a, int b) { return most(a) > most(b); });
  for (const int k : intervals) {
    if (most(k) <= best.rate * (1 + tolerance)) break;
    Search(workers, limits, times[k], times[k + 1], best);
  }
  return best;
}

// max over T of sum m_i min(max_steps, max(0, (T - c_i) / s_i)) / (T + overhead).
double Relaxation(const std::vector<StepWorker>& workers, const StepLimits& limits) {
  struct Bend {
    double at;
    double slope;
  };
  std::vector<Bend> bends;
  for (const StepWorker& w : workers) {
    const double slope = w.tokens_per_step / w.step_s;
    bends.push_back({w.fixed_s, slope});
    bends.push_back({EndOf(w, limits.max_steps), -slope});
  }
  std::sort(bends.begin(), bends.end(), [](const Bend& a, const Bend& b) { return a.at < b.at; });
  const double last = Latest(workers, limits);
  double best = 0, tokens = 0, slope = 0, at = 0;
  for (const Bend& bend : bends) {
    const double until = std::min(bend.at, last);
    tokens += slope * std::max(0.0, until - at);
    at = std::max(at, until);
    if (at + limits.overhead_s > 0) best = std::max(best, tokens / (at + limits.overhead_s));
    if (bend.at > last) break;
    slope += bend.slope;
  }
  return best;
}

}  // namespace

uint32_t StepsUntil(const StepWorker& w, const StepLimits& limits, double deadline_s) {
  const double steps = std::floor((deadline_s - w.fixed_s) / w.step_s * (1 + kSlack) + kSlack);
  if (!(steps >= std::max(1u, limits.min_steps))) return 0;
  return static_cast<uint32_t>(std::min<double>(steps, limits.max_steps));
}

StepPlan PlanSteps(const std::vector<StepWorker>& workers, const StepLimits& limits,
                   double tolerance) {
  StepPlan plan;
  plan.steps.resize(workers.size());
  if (workers.empty()) return plan;
  const Best best = FindDeadline(workers, limits, tolerance);
  plan.deadline_s = best.deadline_s;
  double tokens = 0;
  for (size_t i = 0; i < workers.size(); ++i) {
    plan.steps[i] = StepsUntil(workers[i], limits, best.deadline_s);
    tokens += plan.steps[i] * workers[i].tokens_per_step;
  }
  if (tokens > 0) plan.tokens_per_s = tokens / (plan.deadline_s + limits.overhead_s);
  plan.bound_tokens_per_s = Relaxation(workers, limits);
  return plan;
}

double UniformRate(const std::vector<StepWorker>& workers, uint32_t steps, double overhead_s) {
  double tokens = 0, last = 0;
  for (const StepWorker& w : workers) {
    tokens += steps * w.tokens_per_step;
    last = std::max(last, EndOf(w, steps));
  }
  return workers.empty() ? 0 : tokens / (last + overhead_s);
}

}  // namespace longhaul
