// A fleet file: the machines that a plan is for, and the settings of the run that it wants to try.
//
//   [set]                     # like --set: any key of run.toml
//   "model.preset" = "llama-30m"
//   [plan]                    # optional
//   fragments = 16            # P3; default: sync.fragments
//   coverage = 0.95
//   max_steps_factor = 4      # fastest worker's steps over sync.inner_steps
//   overhead_s = 1.0          # of closing, summing and committing a round
//   overlap = false           # transfers while training; default: sync.overlap_steps > 0
//   [coordinator]
//   up_mbps = 1000
//   down_mbps = 1000
//   [[worker]]
//   name = "lab"  count = 4
//   tokens_per_s = 12000      # a number, or a list of measurements
//   up_mbps = [98, 101, 97]
//   down_mbps = 500
//   rtt_ms = 40  memory_gb = 24
//   [history]
//   arrivals_s = [[61, 62, 70], [60, 64, inf]]   # per round, one number per contribution
//
// Reading is one thread's; values.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "sharding/plan/fleet_plan.h"

namespace longhaul {

inline constexpr size_t kMaxFleetFileBytes = 16 << 20;
inline constexpr size_t kMaxFleetWorkers = 100'000;

struct FleetFile {
  std::vector<std::string> sets;  // "section.key=value"
  std::vector<FleetWorker> workers;
  std::vector<ArrivalTimes> history;
  double hub_up_bytes_per_s = 0;
  double hub_down_bytes_per_s = 0;
  uint32_t fragments = 0;  // 0: as the run says
  double coverage = 0.95;
  double max_steps_factor = 4;
  double overhead_s = 1;
  int overlap = -1;                   // -1: as the run says
  std::vector<std::string> outliers;  // measurements that were left out, for people
};

// InvalidArgument names the place and what is accepted.
absl::StatusOr<FleetFile> ParseFleetFile(const std::string& text, const std::string& file_name);
// Whether a TOML text describes a fleet rather than a run.
bool IsFleetFile(const std::string& text);

}  // namespace longhaul
