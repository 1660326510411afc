// The plan of a round for a whole fleet: who fits, with which micro-batch (memory), who sends which
// fragments (P3), who makes how many steps (P1), for how many the round waits (P4). Each part with
// its lower or upper bound.
//
// Transfers are as long as P3's deadline up, and the whole aggregate down. With overlap they run
// while the worker trains: a round then takes the longer of the two instead of their sum.
//
// Replan keeps the deadlines when a worker joins or leaves, and plans anew only when utilisation
// has fallen by more than kReplanLoss since all was planned last.
//
// Pure; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sharding/plan/fragments.h"
#include "sharding/plan/memory.h"
#include "sharding/plan/quorum.h"
#include "sharding/plan/steps.h"

namespace longhaul {

struct FleetWorker {
  std::string name;
  double tokens_per_s = 0;  // while it trains
  double up_bytes_per_s = 0;
  double down_bytes_per_s = 0;
  double delay_s = 0;         // one way
  uint64_t memory_bytes = 0;  // 0: not known, no limit
};

struct FleetRun {
  MemoryModel memory;
  uint64_t batch_sequences = 0;  // of an inner step
  uint64_t inner_steps = 0;      // that a worker of median speed makes
  uint64_t max_steps = 0;        // that the fastest may make; >= inner_steps
  bool overlap = false;
  double up_bytes = 0;            // of a whole contribution
  double down_bytes = 0;          // of an aggregate
  double hub_up_bytes_per_s = 0;  // of the coordinator; 0: no limit
  double hub_down_bytes_per_s = 0;
  FragmentLimits fragments;           // payload_bytes is set by the plan
  double overhead_s = 0;              // of a round: closing, summing, committing
  std::vector<ArrivalTimes> history;  // of past rounds; empty: quorum and grace stay
  double least_quorum = 0.5;
};

enum class Limit : uint8_t { kMemory, kUplink, kDownlink, kCompute, kMaxSteps };
const char* LimitName(Limit limit);

struct WorkerPlan {
  uint64_t micro_batch = 0;  // sequences; 0: it does not fit
  MemoryEstimate memory;
  uint32_t steps = 0;  // 0: not admitted
  FragmentShare share;
  double compute_s = 0;
  double up_s = 0;
  double down_s = 0;
  double idle_s = 0;
  Limit limit = Limit::kCompute;  // what keeps it from doing more
};

struct FleetPlan {
  std::vector<WorkerPlan> workers;
  StepPlan steps;
  FragmentPlan fragments;
  std::optional<QuorumPlan> quorum;
  double round_s = 0;
  double tokens_per_s = 0;
  double solo_tokens_per_s = 0;     // of all workers, each training alone
  double uniform_tokens_per_s = 0;  // everybody the same steps, everybody waited for
  double hub_s = 0;                 // that the coordinator's own link needs per round
  double planned_utilisation = 0;   // when all was planned last
  double utilisation() const {
    return solo_tokens_per_s > 0 ? tokens_per_s / solo_tokens_per_s : 0;
  }
};

FleetPlan PlanFleet(const std::vector<FleetWorker>& workers, const FleetRun& run);

inline constexpr double kReplanLoss = 0.03;

// After one worker joined (at the end of the list) or left (its place is gone from `workers` and
// given as `left`). `previous` becomes the plan of `workers`. True when all was planned anew.
bool Replan(const std::vector<FleetWorker>& workers, const FleetRun& run,
            std::optional<size_t> left, FleetPlan& previous);

}  // namespace longhaul
