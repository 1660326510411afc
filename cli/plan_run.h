// What the planner must know of a run, from its configuration: for `longhaul plan`, for the verdict
// of `longhaul doctor`, and for the memory of a worker that joins. Pure; any thread.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "model/llama.h"
#include "proto/run_config.h"
#include "sharding/plan/fleet_plan.h"
#include "sharding/plan/memory.h"

namespace longhaul {

// Payload of a whole contribution or aggregate of so many parameters in this codec. One that keeps
// to a budget of bits takes about that. InvalidArgument: no such codec.
absl::StatusOr<double> CodedBytes(const std::string& codec_name, double bits, uint64_t parameters);

absl::StatusOr<MemoryModel> MemoryModelOf(const RunConfig& config, const LlamaShape& shape);

// With as many steps as sync.inner_steps says, for everybody; no limits of the coordinator's link,
// no overhead, no history. `config` has its model resolved (ResolveModel).
absl::StatusOr<FleetRun> FleetRunOf(const RunConfig& config);

}  // namespace longhaul
