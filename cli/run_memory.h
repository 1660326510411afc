// What a run's file says about the memory that a worker needs: the one estimate of it is
// sharding/plan/memory.h, for `longhaul plan` and for a worker that joins. Pure; any thread.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "model/llama.h"
#include "proto/run_config.h"
#include "sharding/plan/memory.h"

namespace longhaul {

// A whole contribution in this codec. One that keeps to a budget of bits takes about that.
// InvalidArgument: no such codec.
absl::StatusOr<double> CodedBytes(const std::string& codec_name, double bits, uint64_t parameters);

absl::StatusOr<MemoryModel> MemoryModelOf(const RunConfig& config, const LlamaShape& shape);

}  // namespace longhaul
