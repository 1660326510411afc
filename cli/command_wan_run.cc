// longhaul wan run: a whole run in an emulated network, with a verdict.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>

#include "absl/strings/str_cat.h"
#include "cli/command_wan.h"
#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "cli/signals.h"
#include "common/log.h"
#include "common/status_macros.h"
#include "wan/run.h"
#include "wan/run_report.h"
#include "wan/scenario.h"
#include "wan/sim_run.h"

namespace longhaul {
namespace {

using wan::Scenario;
using wan::Tier;

struct Arguments {
  std::string file;
  std::string tier = "auto";
  std::string json_file;
  std::string junit_file;
  std::string folder;
  bool quiet = false;
};

// The folder for logs; a temporary one goes when everything went well.
class WorkFolder {
 public:
  static absl::StatusOr<WorkFolder> Make(const std::string& wanted) {
    WorkFolder out;
    std::error_code error;
    if (!wanted.empty()) {
      out.path_ = std::filesystem::absolute(wanted, error).string();
      if (std::filesystem::exists(out.path_ + "/run", error)) {
        return absl::InvalidArgumentError(wanted + " holds an earlier run");
      }
      std::filesystem::create_directories(out.path_, error);
      if (error) return absl::InvalidArgumentError(wanted + ": " + error.message());
      return out;
    }
    std::string path =
        std::filesystem::temp_directory_path(error).string() + "/longhaul-wan-XXXXXX";
    if (!::mkdtemp(path.data())) return absl::ResourceExhaustedError("no temporary folder");
    out.path_ = path;
    out.temporary_ = true;
    return out;
  }
  const std::string& path() const { return path_; }
  // Keeps it after a failure, and says where it is.
  void Finish(bool good) const {
    std::error_code error;
    if (temporary_ && good) std::filesystem::remove_all(path_, error);
    if (!good) LogInfo("logs are in " + path_);
  }

 private:
  std::string path_;
  bool temporary_ = false;
};

bool WriteText(const std::string& path, const std::string& text) {
  if (path.empty()) return true;
  std::ofstream file(path);
  file << text;
  if (file.flush()) return true;
  LogError("cannot write " + path);
  return false;
}

int Report(const Arguments& args, const Scenario& scenario, Tier tier,
           const wan::RunOutcome& outcome) {
  if (!args.quiet) std::fputs(wan::FormatOutcome(scenario, tier, outcome).c_str(), stdout);
  const bool written =
      WriteText(args.json_file, wan::OutcomeJson(scenario, tier, outcome) + "\n") &&
      WriteText(args.junit_file, wan::OutcomeJunit(scenario, tier, outcome));
  if (!outcome.passed()) return kExitFailure;
  if (!outcome.valid()) return kExitInvalid;
  return written ? kExitOk : kExitStorage;
}

std::function<void(const std::string&)> Sayer(const Arguments& args) {
  if (args.quiet) return {};
  return [](const std::string& line) {
    std::printf("%s\n", line.c_str());
    std::fflush(stdout);
  };
}

int Simulate(const Arguments& args, const Scenario& scenario) {
  const auto outcome = wan::SimulateScenario(scenario, {Sayer(args)});
  if (outcome.ok()) return Report(args, scenario, Tier::kSim, *outcome);
  LogError(std::string(outcome.status().message()));
  return ExitCodeFor(outcome.status());
}

int RunIn(const Arguments& args, const Scenario& scenario, Tier tier, const std::string& folder,
          const Command& command) {
  const std::atomic<int>& stop = StopCount();
  auto world = wan::MakeWorld(tier, scenario);
  if (!world.ok()) {
    LogError(std::string(world.status().message()));
    return ExitCodeFor(world.status());
  }
  wan::RunOptions options;
  options.program_folder = command.program_folder;
  options.work_folder = folder;
  options.say = Sayer(args);
  const auto outcome = wan::RunScenario(scenario, **world, options, stop);
  if (outcome.ok()) return Report(args, scenario, tier, *outcome);
  LogError(std::string(outcome.status().message()));
  return ExitCodeFor(outcome.status());
}

// What was asked for, or the best one that this system allows.
absl::StatusOr<Tier> ChooseTier(const std::string& wanted) {
  if (wanted == "relay") return Tier::kRelay;
  const wan::LabProbe probe = wan::ProbeLab();
  if (probe.possible) return Tier::kTun;
  const std::string why = probe.problem + "; try: " + probe.remedy;
  if (wanted == "tun") return absl::FailedPreconditionError("tier tun: " + why);
  LogWarning("tier tun is not possible here: " + why);
  LogWarning("going on in tier relay: real processes and TCP, but no losses and no congestion");
  return Tier::kRelay;
}

void PrintHead(const Scenario& scenario, Tier tier) {
  std::printf("scenario   %s: %s\ntier       %s\n", scenario.file.c_str(),
              scenario.description.c_str(), wan::TierName(tier));
  std::fflush(stdout);
}

int WanRun(const Arguments& args, const Command& command) {
  auto scenario = wan::LoadScenario(args.file);
  if (!scenario.ok()) {
    LogError(std::string(scenario.status().message()));
    return ExitCodeFor(scenario.status());
  }
  if (args.tier == "sim") {
    PrintHead(*scenario, Tier::kSim);
    return Simulate(args, *scenario);
  }
  const auto tier = ChooseTier(args.tier);
  const auto folder = WorkFolder::Make(args.folder);
  for (const absl::Status& status : {tier.status(), folder.status()}) {
    if (status.ok()) continue;
    LogError(std::string(status.message()));
    return absl::IsFailedPrecondition(status) ? kExitNeedsPackages : ExitCodeFor(status);
  }
  PrintHead(*scenario, *tier);
  const auto body = [&] { return RunIn(args, *scenario, *tier, folder->path(), command); };
  const absl::StatusOr<int> code = *tier == Tier::kTun ? wan::RunInLab(body) : body();
  folder->Finish(code.ok() && *code != kExitFailure);
  if (code.ok()) return *code;
  LogError(std::string(code.status().message()));
  return ExitCodeFor(code.status());
}

}  // namespace

void AddWanRun(CLI::App& wan, Command& command) {
  auto args = std::make_shared<Arguments>();
  auto* run = wan.add_subcommand("run", "A whole run in an emulated network, with a verdict");
  run->add_option("scenario", args->file, "scenario file")->required()->check(CLI::ExistingFile);
  run->add_option(
         "--tier", args->tier,
         "tun: kernel TCP over emulated packets; relay: a process in the middle; auto: the "
         "first of these that this system allows; sim: the cores in virtual time, no processes")
      ->check(CLI::IsMember({"auto", "tun", "relay", "sim"}))
      ->capture_default_str();
  run->add_option("--json", args->json_file, "write the outcome to this file");
  run->add_option("--junit", args->junit_file, "write the outcome as JUnit XML to this file");
  run->add_option("--folder", args->folder, "keep logs and the run folder here");
  run->add_flag("-q,--quiet", args->quiet, "the verdict is the exit code");
  run->footer(
      "Exit code: 0 passed, 1 failed, 2 mistake in the file, 3 tier not possible here, 8 this\n"
      "machine was too busy to emulate the network, 130 interrupted.\n"
      "Example:\n  longhaul wan run transatlantic.toml --junit junit.xml");
  run->callback([args, &command] {
    command.run = [args, &command] {
      StartLogging(LogLevel::kInfo, "wan", "");
      return WanRun(*args, command);
    };
  });
}

}  // namespace longhaul
