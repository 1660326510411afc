// longhaul coordinator: runs the run.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <ctime>
#include <memory>

#include "cli/commands.h"
#include "cli/config.h"
#include "cli/exit_codes.h"
#include "cli/run_command.h"
#include "cli/signals.h"
#include "common/log.h"
#include "coordinator/human.h"

namespace longhaul {
namespace {

struct Arguments {
  std::string file;
  std::vector<std::string> sets;
  std::string resume;
  std::string json_file;
  bool json_lines = false;
  bool verbose = false;
  uint32_t uses = 100;
  double days = 7;
  double wait_s = 0;
};

int Fail(const absl::Status& status) {
  LogError(std::string(status.message()));
  return CoordinatorExitCode(status);
}

bool WriteText(const std::string& path, const std::string& text) {
  std::FILE* file = std::fopen(path.c_str(), "w");
  if (!file) return false;
  const bool written = std::fwrite(text.data(), 1, text.size(), file) == text.size();
  return std::fclose(file) == 0 && written;
}

void ShowStart(CoordinatorRun& run, const std::string& invitation) {
  const RunConfig& c = run.config();
  std::printf("run        %s  (%s)\n", c.run.name.c_str(), c.run.output_dir.c_str());
  std::printf("address    %s\n", run.service().address().c_str());
  if (!run.dashboard().empty()) std::printf("dashboard  %s\n", run.dashboard().c_str());
  std::printf("join with  longhaul join %s\n\n", invitation.c_str());
  std::fflush(stdout);
}

int Coordinate(const Arguments& args, char** environment) {
  const std::atomic<int>& stop = StopCount();
  auto loaded = LoadRunConfig(args.file, {CollectEnvironment(environment), args.sets});
  if (!loaded.ok()) return Fail(loaded.status());
  auto run = CoordinatorRun::Start(loaded->config, args.resume,
                                   Duration(static_cast<int64_t>(args.wait_s * 1e9)),
                                   {.json_lines = args.json_lines});
  if (!run.ok()) return Fail(run.status());
  const auto expires =
      static_cast<uint64_t>(std::time(nullptr)) + static_cast<uint64_t>(args.days * 86400);
  auto invitation = (*run)->service().Invite(args.uses, expires);
  if (!invitation.ok()) return Fail(invitation.status());
  if (absl::Status status = (*run)->KeepInvitation(*invitation); !status.ok()) return Fail(status);
  if (!args.json_lines) ShowStart(**run, *invitation);
  auto outcome = (*run)->service().Run(stop);
  if (!outcome.ok()) return Fail(outcome.status());
  if (!args.json_file.empty() && !WriteText(args.json_file, ToJson(outcome->summary) + "\n")) {
    LogError("cannot write " + args.json_file);
    return kExitStorage;
  }
  if (!outcome->finished) {
    LogWarning("stopped after " + std::to_string(outcome->summary.rounds) +
               " rounds; the same command goes on from here, workers reconnect by themselves");
    return kExitInterrupted;
  }
  if (!args.json_lines) std::fputs(FormatSummary(outcome->summary).c_str(), stdout);
  return kExitOk;
}

}  // namespace

void AddCoordinator(CLI::App& app, Command& command) {
  auto args = std::make_shared<Arguments>();
  auto* sub = app.add_subcommand("coordinator", "Run a run: prints the line that workers paste");
  sub->add_option("file", args->file, "run.toml")->required()->check(CLI::ExistingFile);
  sub->add_option("--set", args->sets, "section.key=value, overrides the file; may be repeated");
  sub->add_option("--resume", args->resume, "start a new generation from this checkpoint folder");
  sub->add_option("--invitation-uses", args->uses,
                  "how many workers may enrol with the printed line")
      ->capture_default_str();
  sub->add_option("--invitation-days", args->days, "how long the printed line is good")
      ->capture_default_str();
  sub->add_option("--wait", args->wait_s,
                  "end when no worker has joined after this many seconds; 0 = wait");
  sub->add_option("--json", args->json_file, "write the summary to this file");
  sub->add_flag("--json-lines", args->json_lines, "one JSON object per round instead of the table");
  sub->add_flag("-v,--verbose", args->verbose, "log every decision");
  sub->footer(
      "Examples:\n  longhaul coordinator run.toml\n  longhaul coordinator run.toml --set "
      "run.rounds=100\n"
      "  longhaul coordinator run.toml --resume runs/my-run/checkpoints/round-000010");
  sub->callback([args, &command] {
    command.run = [args, &command] {
      StartLogging(args->verbose ? LogLevel::kDebug : LogLevel::kInfo, "coordinator", "");
      return Coordinate(*args, command.environment);
    };
  });
}

}  // namespace longhaul
