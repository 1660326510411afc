// Tier sim: a scenario's run in virtual time. The production cores, reducer, journal, codecs and
// messages of the simulator (wan/sim), over the scenario's network as arithmetic (SimNetwork); a
// trainer in closed form takes the time that the scenario says. The model is a small stand-in of
// the same depth; what travels has the sizes of the real one. Nothing outside the scenario has an
// influence: the same file gives the same outcome, byte for byte, on every machine.
//
// What is not there: losses and values of a real trainer (first_loss, final_loss), hash_checks,
// sync_seconds, computing_percent, packets. Assertions about them are skipped, and named.
//
// One thread; takes seconds of CPU where the run takes minutes.
#pragma once

#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "wan/run.h"

namespace longhaul::wan {

struct SimOptions {
  std::function<void(const std::string&)> say;  // what happens, a line each; may be empty
};

// InvalidArgument when the scenario's [run.config] is not a configuration.
absl::StatusOr<RunOutcome> SimulateScenario(const Scenario& scenario, const SimOptions& options);

}  // namespace longhaul::wan
