// longhaul wan fuzz, longhaul wan rerun.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/command_wan.h"
#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "wan/sim/fuzz.h"
#include "wan/sim/goodput.h"

namespace longhaul {
namespace {

using nlohmann::ordered_json;

struct FuzzArguments {
  uint64_t seeds = 1000;
  uint64_t first = 1;
  uint32_t processes = 2;
  std::string json;
  bool policy = false;
  bool goodput = false;
};

struct RerunArguments {
  uint64_t seed = 1;
  std::vector<std::string> without;
  uint32_t length = 1000;
  bool trace = false;
};

Timestamp Now() {
  return Timestamp{
      std::chrono::duration_cast<Duration>(std::chrono::steady_clock::now().time_since_epoch())};
}

double SecondsOf(Duration d) { return static_cast<double>(d.count()) * 1e-9; }

std::string ProgressText(const sim::FuzzSummary& s, uint64_t seeds, Duration elapsed) {
  char text[160];
  const double wall = SecondsOf(elapsed);
  std::snprintf(text, sizeof text,
                "%llu of %llu seeds  %llu faults  %llu leases  %zu violations  %.0f seeds/s",
                static_cast<unsigned long long>(s.seeds), static_cast<unsigned long long>(seeds),
                static_cast<unsigned long long>(s.total_faults()),
                static_cast<unsigned long long>(s.leases), s.failures.size(),
                wall > 0 ? static_cast<double>(s.seeds) / wall : 0.0);
  return text;
}

double Percent(uint64_t part, uint64_t whole) {
  return whole == 0 ? 0.0 : 100.0 * static_cast<double>(part) / static_cast<double>(whole);
}

// Shares of the data, on the same histories.
template <class Sums>
ordered_json PoliciesJson(const Sums& s) {
  const sim::PolicyShares& p = s.policies;
  ordered_json json;
  json["positions"] = p.handed_out;
  json["longhaul"] = {{"lost_percent", Percent(s.lost, s.committed)},
                      {"twice_percent", Percent(s.twice, s.committed)}};
  json["advance_the_index_anyway"] = {{"lost_percent", Percent(p.lost, p.handed_out)},
                                      {"twice_percent", 0.0}};
  json["requeue_and_apply_late_arrivals"] = {{"lost_percent", 0.0},
                                             {"twice_percent", Percent(p.twice, p.applied)}};
  return json;
}

ordered_json ToJson(const sim::FuzzSummary& s, const FuzzArguments& args, double wall_s) {
  ordered_json json;
  json["seeds"] = s.seeds;
  json["first"] = args.first;
  json["simulated_hours"] = SecondsOf(s.simulated) / 3600;
  json["faults"] = s.total_faults();
  for (size_t k = 0; k < sim::kFaultKinds; ++k)
    json["faults_by_kind"][std::string(sim::FaultName(static_cast<sim::FaultKind>(k)))] =
        s.faults[k];
  json["violations"] = s.failures.size();
  json["reruns"] = s.reruns;
  json["rerun_mismatches"] = s.rerun_mismatches;
  json["commits"] = s.commits;
  json["coordinator_restarts"] = s.restarts;
  json["refused"] = s.refused;
  json["leases"] = s.leases;
  json["lost"] = s.lost;
  json["twice"] = s.twice;
  if (args.policy) json["policies"] = PoliciesJson(s);
  char hash[20];
  std::snprintf(hash, sizeof hash, "%016llx", static_cast<unsigned long long>(s.trace_hash));
  json["trace_hash"] = hash;
  json["wall_s"] = wall_s;
  return json;
}

void ShowFailures(const sim::FuzzSummary& s, ordered_json& json) {
  for (const sim::SeedResult& failure : s.failures) {
    sim::WorldOptions options{.seed = failure.world.seed};
    auto shrunk = sim::Shrink(options, failure);
    if (shrunk.ok()) options = shrunk->options;
    const std::string why = shrunk.ok() ? shrunk->result.Why() : failure.Why();
    const std::string command = sim::RerunCommand(options) + " --trace";
    std::fprintf(stderr, "seed %llu: %s\n  %s\n", static_cast<unsigned long long>(options.seed),
                 why.c_str(), command.c_str());
    json["failures"].push_back({{"seed", options.seed}, {"why", why}, {"rerun", command}});
  }
}

// False: it could not be written.
bool Show(const ordered_json& json, const std::string& path) {
  if (path.empty()) {
    std::printf("%s\n", json.dump(2).c_str());
  } else if (std::ofstream file(path); !(file << json.dump(2) << "\n")) {
    std::fprintf(stderr, "longhaul: %s cannot be written\n", path.c_str());
    return false;
  }
  return true;
}

int Goodput(const FuzzArguments& args) {
  const sim::GoodputOptions options{.seed = args.first};
  const sim::Goodput g = sim::MeasureGoodput(options);
  const size_t violations = g.healthy.violations.size() + g.failing.violations.size();
  ordered_json json;
  json["workers"] = options.workers;
  json["failing_percent_per_round"] = options.failing_per_mille / 10.0;
  json["kills"] = g.kills;
  json["commits"] = {{"healthy", g.healthy.commits}, {"failing", g.failing.commits}};
  json["violations"] = violations;
  for (const sim::WorldResult* r : {&g.healthy, &g.failing}) {
    for (const sim::Violation& v : r->violations) json["why"].push_back(v.checker + ": " + v.what);
  }
  json["healthy_tokens_per_s"] = g.healthy_tokens_per_s;
  json["failing_tokens_per_s"] = g.failing_tokens_per_s;
  json["goodput"] = g.ratio();
  if (args.policy) json["policies"] = PoliciesJson(g.failing);
  if (!Show(json, args.json)) return kExitStorage;
  return violations == 0 ? kExitOk : kExitFailure;
}

int Fuzz(const FuzzArguments& args) {
  const bool terminal = ::isatty(2) != 0;
  ProgressLine line({.terminal = terminal},
                    [](const std::string& text) { std::fputs(text.c_str(), stderr); });
  const Timestamp started = Now();
  sim::FuzzOptions options{.first = args.first, .seeds = args.seeds, .processes = args.processes};
  options.stop = &StopCount();
  auto summary = sim::Fuzz(options, [&](const sim::FuzzSummary& s) {
    line.Update(Now(), ProgressText(s, args.seeds, Now() - started));
  });
  if (!summary.ok()) {
    std::fprintf(stderr, "longhaul: %s\n", std::string(summary.status().message()).c_str());
    return ExitCodeFor(summary.status());
  }
  line.Finish(ProgressText(*summary, args.seeds, Now() - started));
  ordered_json json = ToJson(*summary, args, SecondsOf(Now() - started));
  ShowFailures(*summary, json);
  if (!Show(json, args.json)) return kExitStorage;
  if (!summary->failures.empty() || summary->rerun_mismatches > 0) return kExitFailure;
  return StopCount() > 0 ? kExitInterrupted : kExitOk;
}

int Rerun(const RerunArguments& args) {
  sim::WorldOptions options{.seed = args.seed, .length_per_mille = args.length};
  for (size_t k = 0; k < sim::kFaultKinds; ++k) {
    const auto kind = static_cast<sim::FaultKind>(k);
    for (const std::string& name : args.without) {
      if (name == sim::FaultName(kind)) options.faults_off |= sim::FaultBit(kind);
    }
  }
  if (args.trace) options.trace = [](const std::string& text) { std::puts(text.c_str()); };
  const sim::WorldResult r = sim::World(options).Run();
  std::printf("seed %llu: trace %016llx, %.0f s simulated, %llu commits, %zu violations\n",
              static_cast<unsigned long long>(r.seed),
              static_cast<unsigned long long>(r.trace_hash), SecondsOf(r.simulated),
              static_cast<unsigned long long>(r.commits), r.violations.size());
  for (const sim::Violation& v : r.violations)
    std::printf("%s  %s: %s\n", sim::TimeText(v.when).c_str(), v.checker.c_str(), v.what.c_str());
  return r.violations.empty() ? kExitOk : kExitFailure;
}

}  // namespace

void AddWanFuzz(CLI::App& wan, Command& command) {
  auto args = std::make_shared<FuzzArguments>();
  auto* fuzz = wan.add_subcommand("fuzz", "Simulates many runs, each with faults of its own");
  fuzz->add_option("--seeds", args->seeds, "how many")->capture_default_str();
  fuzz->add_option("--first", args->first, "the first one")->capture_default_str();
  fuzz->add_option("--processes", args->processes, "at one time")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  fuzz->add_flag("--goodput", args->goodput,
                 "instead: the speed that is left when 5 % of the workers fail per round");
  fuzz->add_flag("--policy", args->policy,
                 "also tell what two common policies would have lost or repeated");
  fuzz->add_option("--json", args->json, "write the result here instead of showing it");
  fuzz->callback([args, &command] {
    command.run = [args] { return args->goodput ? Goodput(*args) : Fuzz(*args); };
  });
}

void AddWanRerun(CLI::App& wan, Command& command) {
  auto args = std::make_shared<RerunArguments>();
  auto* rerun = wan.add_subcommand("rerun", "Simulates one seed again");
  rerun->add_option("--seed", args->seed, "which one")->required();
  rerun->add_option("--without", args->without, "kinds of fault that shall not happen")
      ->delimiter(',');
  rerun->add_option("--length", args->length, "of the faulty phase, in thousandths")
      ->capture_default_str();
  rerun->add_flag("--trace", args->trace, "show all that happens");
  rerun->callback([args, &command] { command.run = [args] { return Rerun(*args); }; });
}

}  // namespace longhaul
