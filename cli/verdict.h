// What a measured link means for a run: seconds per round, and the share of the time in which the
// machine computes. Pure.
#pragma once

#include <optional>

#include "absl/status/statusor.h"
#include "cli/doctor.h"
#include "proto/run_config.h"

namespace longhaul {

struct RunVerdict {
  double up_bytes = 0;  // of a round
  double down_bytes = 0;
  double exchange_s = 0;  // transfers and round trips of a round
  bool overlap = false;   // the exchange runs while the machine computes
  uint64_t inner_steps = 0;
  // A step this long keeps the machine computing for kWantedComputing of the time.
  double wanted_step_s = 0;
  // With a known step time only:
  std::optional<double> round_s;
  std::optional<double> computing;  // 0 to 1
};
inline constexpr double kWantedComputing = 0.9;

// The plan of a fleet of this machine alone (sharding/plan). Rates of `link` must be known;
// `step_s` of an inner step here, 0: not known. InvalidArgument: the run's settings cannot be
// planned.
absl::StatusOr<RunVerdict> JudgeLink(RunConfig config, const LinkFacts& link, double step_s);

// For people. Fails when the machine computes less than `least_percent` of the time, or when that
// is asked for (above 0) and not known; warns below half.
CheckResult DescribeVerdict(const RunVerdict& verdict, double least_percent);

}  // namespace longhaul
