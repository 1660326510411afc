// What a run in the lab came to, for people, scripts and CI. Pure.
#pragma once

#include <string>
#include <vector>

#include "wan/run.h"

namespace longhaul::wan {

// Metrics, assertions, links, lateness, verdict.
std::string FormatOutcome(const Scenario& scenario, Tier tier, const RunOutcome& outcome);

// {"scenario", "tier", "passed", "valid", "problem", "elapsed_seconds", "median_late_ms",
// "worst_late_ms", "metrics",
// "checks": [{"text", "place", "value", "holds", "skipped"}], "links": [...]}, one line. Numbers
// that were not measured are null.
std::string OutcomeJson(const Scenario& scenario, Tier tier, const RunOutcome& outcome);

// A JUnit test suite: a case for the run itself, one for the emulator's lateness, and one per
// assertion.
std::string OutcomeJunit(const Scenario& scenario, Tier tier, const RunOutcome& outcome);

}  // namespace longhaul::wan
