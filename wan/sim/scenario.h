// What one seed simulates: the run's configuration, the machines and how long faults last.
#pragma once

#include <cstdint>
#include <vector>

#include "common/time.h"
#include "coordinator/journal.h"
#include "model/llama.h"
#include "proto/run_config.h"
#include "reducer/slice_host.h"
#include "sync/fragments.h"
#include "wan/sim/network.h"

namespace longhaul::sim {

struct Machine {
  LinkShape link;
  Duration step_time{0};            // of one inner step
  uint32_t clock_per_mille = 1000;  // how fast its clock runs
  Duration joins_at{0};
  bool reduces = false;  // offers to
};

struct Scenario {
  uint64_t seed = 0;
  RunConfig config;
  LlamaShape shape;
  std::vector<FragmentLayout> layout;
  uint64_t positions = 0;
  JournalOptions journal;
  std::vector<Machine> machines;
  bool worker_snapshots = true;           // workers keep residuals on disks of their own
  Duration small_job = Milliseconds(20);  // of a worker's trainer thread: coding, applying
  uint32_t job_spread_per_mille = 200;    // a job takes up to this much longer
  Duration faulty{0};                     // faults happen for this long, then they stop
};

// Of the owner of machine number `key.bytes[0]`.
std::string MachineName(const WorkerKey& key);

// The reducer may be busy for this long while faults happen.
inline constexpr Duration kMaxReducerStall = Seconds(100);

// Everything is a function of the seed. Tiny models and short rounds: a seed costs milliseconds.
Scenario DrawScenario(uint64_t seed);

// Of a process that reduces slices, but for its callbacks.
SliceHost::Options SliceOptions(const Scenario& scenario, Storage* storage, std::string folder);

// How long a healthy run may take from now to its next committed round, whatever state the faults
// left it in; `round_limit` is the time limit of the round that is open, 0 if none.
Duration ProgressBound(const Scenario& scenario, Duration round_limit);

}  // namespace longhaul::sim
