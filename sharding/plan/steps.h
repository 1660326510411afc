// P1: how many inner steps each worker makes in a round, from one shared deadline.
//
// Worker i makes H_i(T) = floor((T - c_i) / s_i) steps until deadline T, at most max_steps; with
// fewer than min_steps it is not admitted (0). T maximises tokens per second,
//
//   sum m_i H_i(T) / (T + overhead),   T <= max_deadline.
//
// The best T is where some worker completes a step. A grid bounds what the best of each interval
// can be, and only intervals that can beat the best one by more than `tolerance` are searched; with
// tolerance 0 the plan is optimal.
//
// Bound: the same without rounding down and without min_steps. It is a sum of piecewise linear
// functions over T + overhead, so its maximum is at one of 2n + 1 places.
//
// Pure; any thread.
#pragma once

#include <cstdint>
#include <vector>

namespace longhaul {

struct StepWorker {
  double step_s = 0;           // above 0
  double fixed_s = 0;          // of every round: transfers and delays that training does not hide
  double tokens_per_step = 0;  // above 0
};

struct StepLimits {
  uint32_t min_steps = 1;
  uint32_t max_steps = 1;
  double overhead_s = 0;      // between rounds, for everybody
  double max_deadline_s = 0;  // 0: none
};

struct StepPlan {
  double deadline_s = 0;
  std::vector<uint32_t> steps;  // per worker; 0: not admitted
  double tokens_per_s = 0;
  double bound_tokens_per_s = 0;
  double ratio() const { return bound_tokens_per_s > 0 ? tokens_per_s / bound_tokens_per_s : 1; }
};

// When nobody can make min_steps in time, no steps and 0 tokens per second.
StepPlan PlanSteps(const std::vector<StepWorker>& workers, const StepLimits& limits,
                   double tolerance);

// The steps that a worker can make until a deadline: what a join or leave needs while the deadline
// stays.
uint32_t StepsUntil(const StepWorker& worker, const StepLimits& limits, double deadline_s);

// Tokens per second when everybody makes `steps` steps and the slowest is waited for.
double UniformRate(const std::vector<StepWorker>& workers, uint32_t steps, double overhead_s);

}  // namespace longhaul
