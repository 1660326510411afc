// Real runs over emulated paths: the coordinator and toy workers as processes, ordinary shells and
// cores. What is measured is the product as it ships.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/wan_experiment.h"
#include "cli/config.h"
#include "cli/plan_run.h"
#include "cli/run_inputs.h"
#include "common/status_macros.h"
#include "wan/run.h"

namespace longhaul {
namespace {

using wan::RunOutcome;
using wan::Scenario;

constexpr double kTcpShare = 1448.0 / 1500;
// Granted to a contribution at a time: what a worker may have under way.
constexpr double kCreditBytes = 4 * 1024 * 1024;
constexpr double kCutS = 5;

// A hub with a wide, near link, and workers with equal ones.
struct Fleet {
  uint32_t workers = 2;
  double up_mbit = 100;
  double down_mbit = 100;
  double round_trip_ms = 100;
  std::vector<std::pair<std::string, std::string>> config;
};

constexpr double kHubMbit = 1000, kHubRoundTripMs = 1;

Scenario ScenarioOf(const Fleet& fleet) {
  Scenario out;
  out.file = "bench";
  wan::Node hub;
  hub.name = "hub";
  hub.access.up_mbit = hub.access.down_mbit = kHubMbit;
  hub.access.round_trip = Duration(static_cast<int64_t>(kHubRoundTripMs * 1e6));
  out.nodes.push_back(hub);
  for (uint32_t i = 0; i < fleet.workers; ++i) {
    wan::Node node;
    node.name = absl::StrCat("w", i + 1);
    node.access.up_mbit = fleet.up_mbit;
    node.access.down_mbit = fleet.down_mbit;
    node.access.round_trip =
        Duration(static_cast<int64_t>((fleet.round_trip_ms - kHubRoundTripMs) * 1e6));
    out.nodes.push_back(node);
  }
  out.run_config = fleet.config;
  return out;
}

// What was measured, and whether the emulator was in time.
absl::StatusOr<RunOutcome> Run(const Scenario& scenario, const Place& place,
                               const std::string& name) {
  wan::RunOptions options;
  options.program_folder = place.program_folder;
  options.work_folder = place.work_folder + "/" + name;
  std::filesystem::create_directories(options.work_folder);
  ASSIGN_OR_RETURN(auto world, wan::MakeWorld(wan::Tier::kTun, scenario));
  const std::atomic<int> stop{0};
  ASSIGN_OR_RETURN(RunOutcome out, wan::RunScenario(scenario, *world, options, stop));
  if (!out.finished) return absl::InternalError(out.problem);
  return out;
}

// Percent of the time that the plan promises: links at TCP's share, two round trips of control.
absl::StatusOr<double> PlannedComputing(const Fleet& fleet) {
  ASSIGN_OR_RETURN(const RunConfig config, ConfigOf(ScenarioOf(fleet)));
  ASSIGN_OR_RETURN(FleetRun run, FleetRunOf(config));
  run.overhead_s = 2 * fleet.round_trip_ms / 1000;
  run.hub_up_bytes_per_s = run.hub_down_bytes_per_s = kHubMbit * 1e6 / 8 * kTcpShare;
  FleetWorker worker;
  const double tokens = static_cast<double>(run.batch_sequences * run.memory.sequence_length);
  worker.tokens_per_s = tokens / (config.train.toy_step_ms / 1000.0);
  worker.up_bytes_per_s = fleet.up_mbit * 1e6 / 8 * kTcpShare;
  worker.down_bytes_per_s = fleet.down_mbit * 1e6 / 8 * kTcpShare;
  worker.delay_s = fleet.round_trip_ms / 2000;
  const FleetPlan plan = PlanFleet(std::vector<FleetWorker>(fleet.workers, worker), run);
  return 100 * std::min(1.0, plan.workers[0].compute_s / plan.round_s);
}

// ---- experiments ----

Experiment Utilisation(const std::string& name, const Fleet& fleet) {
  Experiment out;
  out.measure = [=](const Place& place) -> absl::StatusOr<Numbers> {
    ASSIGN_OR_RETURN(const double planned, PlannedComputing(fleet));
    ASSIGN_OR_RETURN(const RunOutcome run, Run(ScenarioOf(fleet), place, name));
    Numbers n;
    const double measured = MetricOf(run, "computing_percent");
    n.values["computing"] = measured;
    n.values["off"] = std::abs(measured - planned);
    n.note = absl::StrFormat("computing %.1f %% of the time, planned %.1f %%; rounds of %.3f s",
                             measured, planned, MetricOf(run, "round_seconds_p50"));
    AddLateness(run.network, &n);
    return n;
  };
  out.rows = {
      {name, "off", "points off plan", 3, Relation::kAtMost},
      {name + "_computing", "computing", "% of time", 0, Relation::kAtLeast, ResultKind::kMeasure}};
  return out;
}

// Rounds whose payload and computing are next to nothing.
Experiment RoundTax(const Fleet& fleet) {
  Experiment out;
  out.measure = [=](const Place& place) -> absl::StatusOr<Numbers> {
    ASSIGN_OR_RETURN(const RunOutcome run, Run(ScenarioOf(fleet), place, "tax"));
    Numbers n;
    n.values["trips"] = MetricOf(run, "round_seconds_p50") * 1000 / fleet.round_trip_ms;
    n.note = absl::StrFormat("median %.0f ms between commits, p90 %.0f ms, RTT %.0f ms",
                             MetricOf(run, "round_seconds_p50") * 1000,
                             MetricOf(run, "round_seconds_p90") * 1000, fleet.round_trip_ms);
    AddLateness(run.network, &n);
    return n;
  };
  out.rows = {{"round_tax", "trips", "round trips", 3.5, Relation::kAtMost}};
  return out;
}

// One of the workers is killed while it sends; the others end with the same model, in the time of
// an undisturbed round and two round trips.
Experiment Churn(const Fleet& fleet) {
  Experiment out;
  out.measure = [=](const Place& place) -> absl::StatusOr<Numbers> {
    Scenario scenario = ScenarioOf(fleet);
    ASSIGN_OR_RETURN(const RunOutcome calm, Run(scenario, place, "calm"));
    wan::Incident kill;
    kill.action = wan::Action::kKill;
    kill.target = 1;
    kill.trigger = {std::nullopt, 3, wan::RoundState::kOffered};
    scenario.incidents.push_back(kill);
    ASSIGN_OR_RETURN(const RunOutcome killed, Run(scenario, place, "killed"));
    const double allowed = MetricOf(calm, "round_seconds_p50") + 2 * fleet.round_trip_ms / 1000;
    Numbers n;
    n.values["time"] = MetricOf(killed, "round_seconds_max") / allowed;
    n.values["equal"] = MetricOf(killed, "hash_mismatches") == 0 &&
                        MetricOf(killed, "hash_checks") > 0 && MetricOf(killed, "killed") == 1;
    n.note =
        absl::StrFormat("round of the kill %.3f s, undisturbed %.3f s",
                        MetricOf(killed, "round_seconds_max"), MetricOf(calm, "round_seconds_p50"));
    AddLateness(calm.network, &n);
    AddLateness(killed.network, &n);
    return n;
  };
  out.rows = {{"churn", "time", "of allowed", 1, Relation::kAtMost},
              {"churn_equal", "equal", "bit-identical", 1, Relation::kAtLeast, ResultKind::kGate}};
  return out;
}

uint64_t UplinkBytes(const RunOutcome& run, uint32_t node) { return run.network.links[node].bytes; }

// The slower of two workers is cut off in the middle of its upload: when the other's is held.
Experiment Resume(const Fleet& fleet) {
  Experiment out;
  out.measure = [=](const Place& place) -> absl::StatusOr<Numbers> {
    constexpr uint32_t kFast = 1, kSlow = 2;
    Scenario scenario = ScenarioOf(fleet);
    scenario.nodes[kFast].access.up_mbit = 4 * fleet.up_mbit;
    ASSIGN_OR_RETURN(const RunOutcome calm, Run(scenario, place, "calm"));
    wan::Incident cut;
    cut.action = wan::Action::kOutage;
    cut.target = kSlow;
    cut.lasts = Duration(static_cast<int64_t>(kCutS * 1e9));
    cut.trigger = {std::nullopt, 2, wan::RoundState::kHeld};
    scenario.incidents.push_back(cut);
    ASSIGN_OR_RETURN(const RunOutcome resumed, Run(scenario, place, "cut"));
    const double extra = static_cast<double>(UplinkBytes(resumed, kSlow)) -
                         static_cast<double>(UplinkBytes(calm, kSlow));
    Numbers n;
    n.values["again"] = std::max(0.0, extra) / kCreditBytes;
    n.note = absl::StrFormat(
        "%.2f MB more over the uplink, credit %.2f MB, round %.1f s after a "
        "cut of %.0f s, %.1f s without",
        extra / 1e6, kCreditBytes / 1e6, MetricOf(resumed, "round_seconds_max"), kCutS,
        MetricOf(calm, "round_seconds_max"));
    AddLateness(calm.network, &n);
    AddLateness(resumed.network, &n);
    return n;
  };
  out.rows = {{"resume", "again", "re-sent/credit", 1.1, Relation::kAtMost}};
  return out;
}

Fleet ToyFleet(uint32_t workers, uint32_t rounds, uint32_t steps, uint32_t step_ms) {
  Fleet fleet;
  fleet.workers = workers;
  fleet.config = {{"run.rounds", absl::StrCat(rounds)},
                  {"sync.inner_steps", absl::StrCat(steps)},
                  {"train.toy_step_ms", absl::StrCat(step_ms)},
                  {"run.min_workers", absl::StrCat(workers)}};
  return fleet;
}

// Sizes instead of a preset.
void UseModel(Fleet& fleet, uint32_t hidden, uint32_t intermediate, uint32_t layers) {
  fleet.config.insert(fleet.config.end(), {{"model.preset", ""},
                                           {"model.hidden_size", absl::StrCat(hidden)},
                                           {"model.intermediate_size", absl::StrCat(intermediate)},
                                           {"model.num_hidden_layers", absl::StrCat(layers)},
                                           {"model.num_attention_heads", "4"},
                                           {"model.num_key_value_heads", "4"}});
}

}  // namespace

std::vector<Experiment> ProductExperiments() {
  Fleet blocking = ToyFleet(3, 12, 20, 50);
  blocking.up_mbit = 20;
  Fleet streamed = blocking;
  streamed.config.insert(streamed.config.end(),
                         {{"sync.fragments", "4"}, {"sync.overlap_steps", "5"}});
  Fleet tiny = ToyFleet(2, 20, 1, 1);
  UseModel(tiny, 16, 32, 1);
  Fleet four = ToyFleet(4, 8, 20, 20);
  Fleet heavy = ToyFleet(2, 3, 5, 20);  // 4.7 million parameters, 19 MB a contribution
  heavy.up_mbit = 20;
  heavy.config.insert(heavy.config.end(), {{"sync.codec", "float32"}, {"round.quorum", "1"}});
  UseModel(heavy, 256, 1024, 4);
  return {Utilisation("utilisation", blocking), Utilisation("utilisation_streamed", streamed),
          RoundTax(tiny), Churn(four), Resume(heavy)};
}

double MetricOf(const RunOutcome& run, const std::string& name) {
  const auto it = run.metrics.find(name);
  return it == run.metrics.end() ? std::nan("") : it->second;
}

absl::StatusOr<RunConfig> ConfigOf(const Scenario& scenario) {
  ConfigOverrides overrides;
  overrides.sets = wan::RunSettings(scenario);
  overrides.sets.push_back("run.output_dir=run");
  ASSIGN_OR_RETURN(LoadedConfig loaded, ParseRunConfig("", scenario.file, overrides));
  RETURN_IF_ERROR(ResolveModel(loaded.config));
  return loaded.config;
}

Experiment QuickRun() {
  Fleet fleet = ToyFleet(2, 2, 5, 5);
  fleet.round_trip_ms = 10;
  Experiment out = Utilisation("quick_run", fleet);
  for (Row& row : out.rows) row.kind = ResultKind::kMeasure;
  return out;
}

}  // namespace longhaul
