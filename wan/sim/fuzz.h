// Many seeds, each in a world of its own, spread over processes: a broken invariant ends a process,
// and is a violation of the seed that it was at.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "wan/sim/world.h"

namespace longhaul::sim {

// What one run of a seed came to; `broken` tells how its process ended, when it did.
struct SeedResult {
  WorldResult world;
  std::string broken;
  bool failed() const { return !broken.empty() || !world.violations.empty(); }
  // One line.
  std::string Why() const;
};

struct FuzzOptions {
  uint64_t first = 1;
  uint64_t seeds = 100;
  uint32_t processes = 2;
  uint32_t rerun_one_in = 20;              // this share of the seeds runs twice; 0: none
  uint64_t most_failures = 10;             // stop then; 0: never
  WorldOptions world;                      // but its seed
  const std::atomic<int>* stop = nullptr;  // not 0: stop
};

struct FuzzSummary {
  uint64_t seeds = 0;
  Duration simulated{0};
  FaultCounts faults{};
  uint64_t leases = 0;
  uint64_t commits = 0;
  uint64_t committed = 0;
  uint64_t lost = 0;
  uint64_t twice = 0;
  PolicyShares policies;
  uint64_t restarts = 0;
  uint64_t refused = 0;
  uint64_t finished = 0;
  uint64_t reruns = 0;
  uint64_t rerun_mismatches = 0;
  uint64_t trace_hash = 0;  // over all seeds, in order
  std::vector<SeedResult> failures;
  uint64_t total_faults() const;
};

// `on_progress` hears of every seed. InvalidArgument: no processes. Unavailable: no processes could
// be started.
absl::StatusOr<FuzzSummary> Fuzz(const FuzzOptions& options,
                                 const std::function<void(const FuzzSummary&)>& on_progress);

// In a process of its own.
absl::StatusOr<SeedResult> RunSeed(const WorldOptions& options);

// A failing seed with as few kinds of fault and as short as it can be while it still fails in the
// same checker: kinds are switched off one by one, then the faulty phase is cut.
struct Shrunk {
  WorldOptions options;
  SeedResult result;
  uint32_t runs = 0;
};
absl::StatusOr<Shrunk> Shrink(const WorldOptions& failing, const SeedResult& result);

// "longhaul wan rerun --seed 7 --without loss,twin --length 250".
std::string RerunCommand(const WorldOptions& options);

}  // namespace longhaul::sim
