// What a state alone says about its run, for people: which data is committed, and where the run is.
// Pure; owned by one thread.
#pragma once

#include "absl/status/statusor.h"
#include "coordinator/core/state.h"
#include "coordinator/data_origin.h"
#include "coordinator/http_status.h"

namespace longhaul {

const char* PhaseName(Phase phase);  // "waiting", "running", ...

CoverageView CoverageOf(const State& state);
// What is committed, and what is not, of each domain of the data set. O(intervals of the ledger).
std::vector<DomainCoverage> DomainCoverageOf(const State& state, const DataOrigin& data);

// Of a run whose coordinator is not running: name, phase, rounds and coverage. InvalidArgument when
// the state's own configuration cannot be read.
absl::StatusOr<RunStatus> StatusOf(const State& state);

}  // namespace longhaul
