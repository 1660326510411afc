#include "sharding/plan/fleet_plan.h"

#include <algorithm>

#include "common/check.h"

namespace longhaul {
namespace {

constexpr double kSearchTolerance = 5e-4;

double TokensPerStep(const FleetRun& run) {
  return static_cast<double>(run.batch_sequences * run.memory.sequence_length);
}

// The coordinator's link carries everybody's payload; each gets its own or an equal share of it.
double Rate(double own, double hub, size_t workers) {
  return hub > 0 ? std::min(own, hub / static_cast<double>(workers)) : own;
}

void Fit(const FleetWorker& worker, const FleetRun& run, WorkerPlan& plan) {
  plan.micro_batch = LargestMicroBatch(run.memory, run.batch_sequences, worker.memory_bytes);
  plan.memory = EstimateMemory(run.memory, std::max<uint64_t>(1, plan.micro_batch));
  if (plan.micro_batch == 0) plan.limit = Limit::kMemory;
}

FragmentWorker Sender(const FleetWorker& worker, const FleetRun& run, size_t workers) {
  return {Rate(worker.up_bytes_per_s, run.hub_down_bytes_per_s, workers), worker.delay_s,
          worker.tokens_per_s};
}

// Seconds in which a worker cannot train (or, overlapped, does anyway: 0).
StepWorker Stepper(const FleetWorker& worker, const FleetRun& run, const WorkerPlan& plan) {
  StepWorker s;
  s.step_s = TokensPerStep(run) / worker.tokens_per_s;
  s.tokens_per_step = TokensPerStep(run);
  s.fixed_s = run.overlap ? 0 : plan.up_s + plan.down_s;
  return s;
}

void SetTransfers(const FleetWorker& worker, const FleetRun& run, size_t workers,
                  const FragmentShare& share, WorkerPlan& plan) {
  const FragmentWorker sender = Sender(worker, run, workers);
  const double part = static_cast<double>(share.size()) / run.fragments.fragments;
  plan.share = share;
  plan.up_s = share.empty() ? 0 : sender.delay_s + part * run.up_bytes / sender.bytes_per_s;
  plan.down_s = worker.delay_s +
                run.down_bytes / Rate(worker.down_bytes_per_s, run.hub_up_bytes_per_s, workers);
}

FragmentLimits LimitsOf(const FleetRun& run) {
  FragmentLimits limits = run.fragments;
  limits.payload_bytes = run.up_bytes;
  return limits;
}

// The time in which a worker of median speed makes inner_steps and its transfers.
double MedianDeadline(const std::vector<StepWorker>& workers, uint64_t inner_steps) {
  std::vector<double> ends;
  for (const StepWorker& w : workers) {
    ends.push_back(w.fixed_s + static_cast<double>(inner_steps) * w.step_s);
  }
  const auto middle = ends.begin() + static_cast<int64_t>(ends.size() / 2);
  std::nth_element(ends.begin(), middle, ends.end());
  return *middle;
}

StepLimits StepLimitsOf(const std::vector<StepWorker>& steppers, const FleetRun& run) {
  StepLimits limits;
  limits.max_steps = static_cast<uint32_t>(run.max_steps);
  limits.overhead_s = run.overhead_s;
  limits.max_deadline_s = MedianDeadline(steppers, run.inner_steps);
  return limits;
}

Limit LimitOf(const WorkerPlan& w, const FleetRun& run) {
  if (w.micro_batch == 0) return Limit::kMemory;
  if (w.steps >= run.max_steps) return Limit::kMaxSteps;
  const double transfers = w.up_s + w.down_s;
  if (w.steps == 0 || transfers > w.compute_s) {
    return w.up_s > w.down_s ? Limit::kUplink : Limit::kDownlink;
  }
  return Limit::kCompute;
}

// What follows from everybody's steps and fragments.
void Summarise(const std::vector<FleetWorker>& workers, const FleetRun& run, FleetPlan& plan) {
  double tokens = 0, longest_transfer = 0;
  size_t senders = 0;
  plan.solo_tokens_per_s = 0;
  for (size_t i = 0; i < workers.size(); ++i) {
    WorkerPlan& w = plan.workers[i];
    w.compute_s = w.steps * TokensPerStep(run) / workers[i].tokens_per_s;
    w.limit = LimitOf(w, run);
    plan.solo_tokens_per_s += workers[i].tokens_per_s;
    if (w.steps == 0) continue;
    tokens += w.steps * TokensPerStep(run);
    longest_transfer = std::max(longest_transfer, w.up_s + w.down_s);
    ++senders;
  }
  plan.round_s = plan.steps.deadline_s + run.overhead_s;
  if (run.overlap) plan.round_s = std::max(plan.round_s, longest_transfer + run.overhead_s);
  plan.tokens_per_s = plan.round_s > 0 ? tokens / plan.round_s : 0;
  for (WorkerPlan& w : plan.workers) {
    if (w.steps == 0) continue;
    const double busy = run.overlap ? w.compute_s : w.compute_s + w.up_s + w.down_s;
    w.idle_s = std::max(0.0, plan.round_s - busy);
  }
  const double n = static_cast<double>(senders);
  plan.hub_s = 0;
  if (run.hub_down_bytes_per_s > 0) plan.hub_s += n * run.up_bytes / run.hub_down_bytes_per_s;
  if (run.hub_up_bytes_per_s > 0) plan.hub_s += n * run.down_bytes / run.hub_up_bytes_per_s;
}

void PlanWaiting(const FleetRun& run, FleetPlan& plan) {
  plan.quorum.reset();
  if (run.history.empty()) return;
  // While a round waits, every worker could train; a missing contribution is a round of one.
  const double workers = static_cast<double>(std::max<size_t>(1, plan.workers.size()));
  const QuorumCosts costs{.waiting_cost_per_s = plan.tokens_per_s,
                          .missing_cost = plan.tokens_per_s * plan.round_s / workers,
                          .least_quorum = run.least_quorum};
  plan.quorum = PlanQuorum(run.history, costs);
}

}  // namespace

const char* LimitName(Limit limit) {
  switch (limit) {
    case Limit::kMemory:
      return "memory";
    case Limit::kUplink:
      return "uplink";
    case Limit::kDownlink:
      return "downlink";
    case Limit::kMaxSteps:
      return "step limit";
    case Limit::kCompute:
      break;
  }
  return "compute";
}

FleetPlan PlanFleet(const std::vector<FleetWorker>& workers, const FleetRun& run) {
  FleetPlan plan;
  plan.workers.resize(workers.size());
  std::vector<size_t> fitting;
  for (size_t i = 0; i < workers.size(); ++i) {
    Fit(workers[i], run, plan.workers[i]);
    if (plan.workers[i].micro_batch > 0) fitting.push_back(i);
  }
  std::vector<FragmentWorker> senders;
  for (const size_t i : fitting) senders.push_back(Sender(workers[i], run, fitting.size()));
  plan.fragments = PlanFragments(senders, LimitsOf(run));
  std::vector<StepWorker> steppers;
  for (size_t k = 0; k < fitting.size(); ++k) {
    const size_t i = fitting[k];
    SetTransfers(workers[i], run, fitting.size(), plan.fragments.shares[k], plan.workers[i]);
    steppers.push_back(Stepper(workers[i], run, plan.workers[i]));
  }
  if (!fitting.empty()) {
    plan.steps = PlanSteps(steppers, StepLimitsOf(steppers, run), kSearchTolerance);
    plan.uniform_tokens_per_s =
        UniformRate(steppers, static_cast<uint32_t>(run.inner_steps), run.overhead_s);
  }
  for (size_t k = 0; k < fitting.size(); ++k) {
    WorkerPlan& w = plan.workers[fitting[k]];
    // Who sends nothing trains nothing that counts.
    w.steps = !w.share.empty() ? plan.steps.steps[k] : 0;
  }
  Summarise(workers, run, plan);
  plan.planned_utilisation = plan.utilisation();
  PlanWaiting(run, plan);
  return plan;
}

bool Replan(const std::vector<FleetWorker>& workers, const FleetRun& run,
            std::optional<size_t> left, FleetPlan& previous) {
  if (left) {
    LONGHAUL_CHECK(*left < previous.workers.size(), "no such worker");
    previous.workers.erase(previous.workers.begin() + static_cast<int64_t>(*left));
  } else {
    WorkerPlan joined;
    Fit(workers.back(), run, joined);
    if (joined.micro_batch > 0) {
      const FragmentLimits limits = LimitsOf(run);
      // As many fragments as its link carries until the deadline that stays.
      const FragmentWorker sender = Sender(workers.back(), run, workers.size());
      const double share = std::clamp((previous.fragments.deadline_s - sender.delay_s) *
                                          sender.bytes_per_s / limits.payload_bytes,
                                      0.0, 1.0);
      const auto count = static_cast<uint32_t>(share * limits.fragments + 1e-9);
      const uint32_t offset = static_cast<uint32_t>(workers.size() % limits.fragments);
      SetTransfers(workers.back(), run, workers.size(),
                   SpreadEvenly(count, offset, limits.fragments), joined);
      const StepWorker stepper = Stepper(workers.back(), run, joined);
      const StepLimits steps{.max_steps = static_cast<uint32_t>(run.max_steps)};
      joined.steps = count > 0 ? StepsUntil(stepper, steps, previous.steps.deadline_s) : 0;
    }
    previous.workers.push_back(joined);
  }
  LONGHAUL_CHECK(previous.workers.size() == workers.size(), "a plan of other workers");
  Summarise(workers, run, previous);
  if (previous.utilisation() >= previous.planned_utilisation * (1 - kReplanLoss)) return false;
  previous = PlanFleet(workers, run);
  return true;
}

}  // namespace longhaul
