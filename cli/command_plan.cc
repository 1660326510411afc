// longhaul plan: what a run will cost on a fleet, without any of its machines.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/command_plan_fleet.h"
#include "cli/command_plan_report.h"
#include "cli/commands.h"
#include "cli/config.h"
#include "cli/exit_codes.h"
#include "cli/plan_run.h"
#include "cli/run_inputs.h"
#include "cli/small_file.h"
#include "common/status_macros.h"
#include "coordinator/human.h"

namespace longhaul {
namespace {

struct Arguments {
  std::vector<std::string> files;  // at most one run.toml, and fleets
  std::vector<std::string> fleets;
  std::vector<std::string> sets;
  std::string svg;
  bool json = false;
  bool recommend = false;
};

absl::StatusOr<FleetRun> RunOf(const RunConfig& config, const FleetFile& fleet) {
  ASSIGN_OR_RETURN(FleetRun run, FleetRunOf(config));
  run.max_steps = static_cast<uint64_t>(fleet.max_steps_factor * StepsPerRound(config));
  if (fleet.overlap >= 0) run.overlap = fleet.overlap == 1;
  run.hub_up_bytes_per_s = fleet.hub_up_bytes_per_s;
  run.hub_down_bytes_per_s = fleet.hub_down_bytes_per_s;
  if (fleet.fragments > 0) run.fragments.fragments = fleet.fragments;
  run.fragments.coverage = fleet.coverage;
  run.overhead_s = fleet.overhead_s;
  run.history = fleet.history;
  return run;
}

struct Planned {
  PlanContext context;
  FleetFile fleet;
  FleetRun run;
  FleetPlan plan;
};

absl::StatusOr<Planned> Plan(const std::string& run_file, const std::string& fleet_file,
                             const std::vector<std::string>& sets, char** environment) {
  using Clock = std::chrono::steady_clock;
  ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(fleet_file, kMaxFleetFileBytes));
  Planned p;
  ASSIGN_OR_RETURN(p.fleet, ParseFleetFile(text, fleet_file));
  ConfigOverrides overrides{CollectEnvironment(environment), p.fleet.sets};
  overrides.sets.insert(overrides.sets.end(), sets.begin(), sets.end());
  if (run_file.empty())  // a plan without a run is about no data
    overrides.sets.insert(overrides.sets.begin(), "data.train=wheel");
  ASSIGN_OR_RETURN(LoadedConfig loaded, LoadRunConfig(run_file, overrides));
  RunConfig& config = loaded.config;
  RETURN_IF_ERROR(ResolveModel(config));
  ASSIGN_OR_RETURN(p.run, RunOf(config, p.fleet));
  const auto start = Clock::now();
  p.plan = PlanFleet(p.fleet.workers, p.run);
  p.context.solver_ms = std::chrono::duration<double, std::milli>(Clock::now() - start).count();
  p.context.title = absl::StrCat(fleet_file, ": ", p.fleet.workers.size(), " workers");
  p.context.model = config.model.init_from.empty() ? config.model.preset : config.model.init_from;
  p.context.parameters = p.run.memory.parameters;
  p.context.codec_up = config.sync.codec;
  p.context.codec_down = config.sync.codec_down;
  p.context.rounds = config.run.rounds;
  return p;
}

// ---- what else could be set ----

// More steps between exchanges train better per byte and worse per token; what is recommended is
// the fewest steps, with the most exact codec, that keep this share of the fleet's speed.
constexpr double kWantedUtilisation = 0.9;

struct Choice {
  std::string codec;
  uint32_t inner_steps = 0;
  double utilisation = 0;
  double round_s = 0;
};

absl::StatusOr<std::vector<Choice>> Choices(const std::string& run_file, const std::string& fleet,
                                            const std::vector<std::string>& sets, char** env) {
  std::vector<Choice> choices;
  for (const char* codec : {"float32", "bf16", "int8", "int4", "int2"}) {
    for (const uint32_t steps : {10u, 20u, 30u, 50u, 100u, 200u, 500u}) {
      std::vector<std::string> with = sets;
      with.push_back(absl::StrCat("sync.inner_steps=", steps));
      with.push_back(absl::StrCat("sync.codec=", codec));
      with.push_back(absl::StrCat("sync.codec_down=", codec));
      const auto planned = Plan(run_file, fleet, with, env);
      if (!planned.ok()) return planned.status();
      choices.push_back({codec, steps, planned->plan.utilisation(), planned->plan.round_s});
    }
  }
  return choices;
}

std::string Recommendation(const std::vector<Choice>& choices) {
  const Choice* best = nullptr;
  for (const Choice& c : choices) {
    if (c.utilisation < kWantedUtilisation) continue;
    // Choices are from the most exact codec on, so of equal steps the first one stays.
    if (!best || c.inner_steps < best->inner_steps) best = &c;
  }
  if (!best) {
    best = &*std::max_element(choices.begin(), choices.end(), [](const Choice& a, const Choice& b) {
      return a.utilisation < b.utilisation;
    });
    return absl::StrFormat(
        "\nrecommended: --set sync.codec=%s --set sync.inner_steps=%u\n  even so only %.0f %% of "
        "the "
        "fleet's speed is used; the links are too slow for %.0f %%\n",
        best->codec, best->inner_steps, 100 * best->utilisation, 100 * kWantedUtilisation);
  }
  std::string out = absl::StrFormat(
      "\nrecommended: --set sync.codec=%s --set sync.codec_down=%s --set sync.inner_steps=%u\n"
      "  the fewest steps between exchanges, and of those the most exact codec, that keep %.0f %% "
      "of "
      "the fleet's speed\n  it keeps %.1f %% with rounds of %.3g s\n",
      best->codec, best->codec, best->inner_steps, 100 * kWantedUtilisation,
      100 * best->utilisation, best->round_s);
  for (const Choice& c : choices) {
    if (c.codec != best->codec || c.inner_steps >= best->inner_steps) continue;
    absl::StrAppendFormat(&out, "  with %u steps it would be %.1f %%\n", c.inner_steps,
                          100 * c.utilisation);
  }
  return out;
}

// ---- the command ----

absl::Status WriteSvg(const std::string& path, const Planned& p) {
  std::ofstream file(path);
  file << PlanSvg(p.context, p.fleet.workers, p.run, p.plan);
  file.close();
  return file ? absl::OkStatus() : absl::ResourceExhaustedError("cannot write " + path);
}

// One run.toml at most ("" : defaults), and the fleets.
absl::Status SortFiles(const Arguments& args, std::string& run_file,
                       std::vector<std::string>& fleets) {
  fleets = args.fleets;
  for (const std::string& path : args.files) {
    ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(path, kMaxFleetFileBytes));
    if (IsFleetFile(text)) {
      fleets.push_back(path);
    } else if (run_file.empty()) {
      run_file = path;
    } else {
      return absl::InvalidArgumentError("two files describe a run: " + run_file + " and " + path);
    }
  }
  if (!fleets.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "which machines? Name a file with [[worker]] tables: longhaul plan run.toml --fleet "
      "fleet.toml "
      "(examples are in examples/fleets/)");
}

absl::Status RunPlan(const Arguments& args, char** environment) {
  std::string run_file;
  std::vector<std::string> fleets;
  RETURN_IF_ERROR(SortFiles(args, run_file, fleets));
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (const std::string& fleet : fleets) {
    ASSIGN_OR_RETURN(const Planned p, Plan(run_file, fleet, args.sets, environment));
    if (args.json) {
      all.push_back(PlanJson(p.context, p.fleet.workers, p.run, p.plan));
    } else {
      if (&fleet != &fleets.front()) std::fputs("\n", stdout);
      std::fputs(PlanTable(p.context, p.fleet.workers, p.run, p.plan).c_str(), stdout);
      for (const std::string& outlier : p.fleet.outliers) {
        std::printf("left out: %s\n", PrintableText(outlier, true).c_str());
      }
    }
    if (!args.svg.empty()) RETURN_IF_ERROR(WriteSvg(args.svg, p));
    if (args.recommend) {
      ASSIGN_OR_RETURN(const auto choices, Choices(run_file, fleet, args.sets, environment));
      if (args.json) {
        all.back()["recommendation"] = Recommendation(choices);
      } else {
        std::fputs(Recommendation(choices).c_str(), stdout);
      }
    }
  }
  if (args.json) {
    using Json = nlohmann::ordered_json;
    std::printf("%s\n", all.dump(2, ' ', false, Json::error_handler_t::replace).c_str());
  }
  return absl::OkStatus();
}

}  // namespace

void AddPlan(CLI::App& app, Command& command) {
  auto args = std::make_shared<Arguments>();
  auto* plan = app.add_subcommand("plan", "What a run will cost on a fleet, before it starts");
  plan->add_option("files", args->files, "run.toml (default: all defaults) and fleet files");
  plan->add_option("--fleet", args->fleets, "a fleet file; may be repeated");
  plan->add_option("--set", args->sets, "section.key=value, overrides both; may be repeated");
  plan->add_option("--svg", args->svg, "draw a round into this file");
  plan->add_flag("--recommend", args->recommend, "also say which codec and how many inner steps");
  plan->add_flag("--json", args->json, "as JSON: a list, one plan per fleet");
  plan->footer(
      "Examples:\n  longhaul plan examples/fleets/home.toml\n"
      "  longhaul plan run.toml --fleet examples/fleets/continents.toml --svg round.svg\n"
      "  longhaul plan examples/fleets/home.toml --set sync.codec=int2 "
      "--set sync.inner_steps=60");
  plan->callback([args, &command] {
    command.run = [args, &command]() -> int {
      const absl::Status status = RunPlan(*args, command.environment);
      if (status.ok()) return kExitOk;
      std::fprintf(stderr, "longhaul: %s\n", std::string(status.message()).c_str());
      return absl::IsNotFound(status) ? kExitUsage : ExitCodeFor(status);
    };
  });
}

}  // namespace longhaul
