#include "sharding/plan/steps.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "common/rng.h"
#include "sharding/plan/robust.h"

namespace longhaul {
namespace {

double Uniform(Rng& rng, double low, double high) {
  return low + (high - low) * static_cast<double>(rng.Below(1'000'000)) / 1e6;
}

std::vector<StepWorker> Fleet(Rng& rng, size_t n, bool fixed) {
  std::vector<StepWorker> workers;
  for (size_t i = 0; i < n; ++i) {
    workers.push_back({.step_s = std::exp(Uniform(rng, -2, 1)),
                       .fixed_s = fixed ? Uniform(rng, 0, 3) : 0,
                       .tokens_per_step = Uniform(rng, 1, 3)});
  }
  return workers;
}

double RateAt(const std::vector<StepWorker>& workers, const StepLimits& limits, double t) {
  double tokens = 0;
  for (const StepWorker& w : workers) tokens += StepsUntil(w, limits, t) * w.tokens_per_step;
  return tokens / (t + limits.overhead_s);
}

// Every deadline at which anybody completes a step.
double BruteForce(const std::vector<StepWorker>& workers, const StepLimits& limits) {
  double best = 0;
  for (const StepWorker& w : workers) {
    for (uint32_t h = 1; h <= limits.max_steps; ++h) {
      const double t = w.fixed_s + h * w.step_s;
      if (limits.max_deadline_s > 0 && t > limits.max_deadline_s) continue;
      best = std::max(best, RateAt(workers, limits, t));
    }
  }
  return best;
}

TEST(PlanStepsTest, IsOptimalAndBelowItsBound) {
  Rng rng(1);
  for (int i = 0; i < 300; ++i) {
    const auto workers = Fleet(rng, 1 + rng.Below(12), rng.Chance(1, 2));
    StepLimits limits{.min_steps = static_cast<uint32_t>(1 + rng.Below(4)),
                      .max_steps = static_cast<uint32_t>(4 + rng.Below(40)),
                      .overhead_s = rng.Chance(1, 3) ? 0 : Uniform(rng, 0.1, 5),
                      .max_deadline_s = rng.Chance(1, 2) ? 0 : Uniform(rng, 1, 20)};
    const StepPlan plan = PlanSteps(workers, limits, 0);
    const double brute = BruteForce(workers, limits);
    ASSERT_NEAR(plan.tokens_per_s, brute, 1e-6 * brute) << i;
    ASSERT_LE(plan.tokens_per_s, plan.bound_tokens_per_s * (1 + 1e-9)) << i;
    for (size_t w = 0; w < workers.size(); ++w) {
      ASSERT_LE(plan.steps[w], limits.max_steps);
      if (plan.steps[w] > 0) {
        ASSERT_GE(plan.steps[w], limits.min_steps);
        ASSERT_LE(workers[w].fixed_s + plan.steps[w] * workers[w].step_s,
                  plan.deadline_s * (1 + 1e-6) + 1e-6);
      }
    }
  }
}

// No deadline on a fine grid beats the bound, rounding or not.
TEST(PlanStepsTest, TheBoundHoldsForEveryDeadline) {
  Rng rng(2);
  for (int i = 0; i < 50; ++i) {
    const auto workers = Fleet(rng, 6, true);
    const StepLimits limits{.max_steps = 20, .overhead_s = 1};
    const double bound = PlanSteps(workers, limits, 0).bound_tokens_per_s;
    for (double t = 0.05; t < 120; t *= 1.01) {
      double tokens = 0;
      for (const StepWorker& w : workers) {
        tokens += std::clamp((t - w.fixed_s) / w.step_s, 0.0, 20.0) * w.tokens_per_step;
      }
      ASSERT_LE(tokens / (t + 1), bound * (1 + 1e-9));
    }
  }
}

TEST(PlanStepsTest, ALargeFleetIsCloseToItsBound) {
  Rng rng(3);
  const auto workers = Fleet(rng, 2000, true);
  const StepLimits limits{.max_steps = 200, .overhead_s = 2};
  const StepPlan plan = PlanSteps(workers, limits, 5e-4);
  EXPECT_GE(plan.ratio(), 0.98);
  EXPECT_GT(plan.tokens_per_s, 2 * UniformRate(workers, 100, 2));
}

TEST(PlanStepsTest, NobodyInTimeMeansNoSteps) {
  const StepPlan plan = PlanSteps({{5, 0, 1}, {9, 0, 1}}, {.max_steps = 5, .max_deadline_s = 4}, 0);
  EXPECT_EQ(plan.steps, (std::vector<uint32_t>{0, 0}));
  EXPECT_EQ(plan.tokens_per_s, 0);
  EXPECT_TRUE(PlanSteps({}, {}, 0).steps.empty());
}

TEST(RobustTest, NamesWhatDoesNotBelong) {
  EXPECT_EQ(EstimateRobustly({5}).value, 5);
  EXPECT_EQ(EstimateRobustly({1, 3}).value, 2);
  const RobustEstimate slip = EstimateRobustly({98, 101, 100, 0.1, 99});  // 1,024 times too small
  EXPECT_EQ(slip.outliers, (std::vector<size_t>{3}));
  EXPECT_NEAR(slip.value, 99.5, 1);
  EXPECT_TRUE(EstimateRobustly({100, 110, 95, 105}).outliers.empty());
  EXPECT_TRUE(EstimateRobustly({100, 100, 100, 101}).outliers.empty());
  EXPECT_EQ(EstimateRobustly({100, 100, 101, 160}).outliers.size(), 1u);
}

}  // namespace
}  // namespace longhaul
