// Rounds of the simulator (tier sim: production cores, virtual time) against arithmetic, for fleets
// from four to nine hundred. The hub's link carries everybody, so it is what limits large fleets;
// each worker's own is what limits small ones.
#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/wan_experiment.h"
#include "cli/plan_run.h"
#include "common/status_macros.h"
#include "wan/sim_run.h"

namespace longhaul {
namespace {

constexpr double kHubMbit = 1000, kWorkerMbit = 20, kRoundTripMs = 40;
constexpr double kTcpShare = 1448.0 / 1500;
constexpr uint32_t kSteps = 20, kStepMs = 500, kRounds = 6;

wan::Scenario FleetOf(uint32_t workers) {
  wan::Scenario out;
  out.file = "bench";
  out.time_limit = Seconds(100'000);
  for (uint32_t i = 0; i <= workers; ++i) {
    wan::Node node;
    node.name = i == 0 ? "hub" : absl::StrCat("w", i);
    node.access.up_mbit = node.access.down_mbit = i == 0 ? kHubMbit : kWorkerMbit;
    node.access.round_trip = Duration(static_cast<int64_t>(kRoundTripMs * 0.5e6));
    out.nodes.push_back(node);
  }
  out.run_config = {{"run.rounds", absl::StrCat(kRounds)},
                    {"run.min_workers", absl::StrCat(workers)},
                    {"sync.inner_steps", absl::StrCat(kSteps)},
                    {"train.toy_step_ms", absl::StrCat(kStepMs)},
                    {"round.quorum", "1"}};
  return out;
}

// Steps, the payload through the narrower of both links each way, and the round trips of a round:
// offer and grant, chunks, commit and chunks. `bytes` of a worker and round.
double ClosedFormS(uint32_t workers, double up_bytes, double down_bytes) {
  const auto transfer = [&](double bytes) {
    const double mbit = std::min(kWorkerMbit, kHubMbit / workers);
    return bytes * 8 / (mbit * 1e6 * kTcpShare);
  };
  return kSteps * kStepMs / 1000.0 + transfer(up_bytes) + transfer(down_bytes) +
         3 * kRoundTripMs / 1000;
}

}  // namespace

Experiment ScaleSim(const std::vector<uint32_t>& fleets) {
  Experiment out;
  out.in_lab = false;
  out.measure = [=](const Place&) -> absl::StatusOr<Numbers> {
    Numbers n;
    for (const uint32_t workers : fleets) {
      const wan::Scenario fleet = FleetOf(workers);
      ASSIGN_OR_RETURN(const wan::RunOutcome run, wan::SimulateScenario(fleet, {}));
      if (!run.finished) return absl::InternalError(run.problem);
      ASSIGN_OR_RETURN(const RunConfig config, ConfigOf(fleet));
      ASSIGN_OR_RETURN(const FleetRun payload, FleetRunOf(config));
      const double closed = ClosedFormS(workers, payload.up_bytes, payload.down_bytes);
      const double simulated = MetricOf(run, "round_seconds_p50");
      const double off = 100 * std::abs(simulated / closed - 1);
      n.values["off"] = std::max(n.values["off"], off);
      absl::StrAppend(&n.note,
                      absl::StrFormat("%s%d workers: %.3f s, closed form %.3f s",
                                      n.note.empty() ? "" : "; ", workers, simulated, closed));
    }
    return n;
  };
  out.rows = {{"scale_sim", "off", "% off, worst", 2, Relation::kAtMost}};
  return out;
}

}  // namespace longhaul
