// longhaul demo: coordinator and workers on this machine, over real sockets, from nothing to a
// checkpoint. One worker is killed halfway and comes back.
#include <signal.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <memory>
#include <thread>

#include "cli/child_process.h"
#include "cli/commands.h"
#include "cli/config.h"
#include "cli/exit_codes.h"
#include "cli/run_command.h"
#include "cli/signals.h"
#include "common/log.h"
#include "common/status_macros.h"

namespace longhaul {
namespace {

constexpr uint32_t kMaxDemoWorkers = 64;
constexpr uint64_t kInvitationSeconds = 24 * 3600;

struct Arguments {
  uint32_t workers = 4;
  std::vector<std::string> sets;
  std::string text;
  std::string json_file;
  std::string device = "auto";
  bool toy = false;
  bool no_kill = false;
  bool verbose = false;
};

// "runs/demo", or "runs/demo-2", ... when earlier ones are there.
std::string NewRunFolder() {
  std::string folder = "runs/demo";
  for (int n = 2; std::filesystem::exists(folder); ++n) folder = "runs/demo-" + std::to_string(n);
  return folder;
}

// About 0.57 M tokens: 7 rounds of 4 workers, 20 steps of 1,024 tokens each.
std::string DemoToml(const Arguments& args) {
  std::string toml = "[run]\nname = \"demo\"\nrounds = 7\nmin_workers = " +
                     std::to_string(std::max(1u, args.workers - 1)) + "\n";
  toml += "[data]\ntrain = \"" + (args.text.empty() ? std::string("wheel") : args.text) + "\"\n";
  toml += "[train]\nwarmup_steps = 20\n";
  if (args.toy) toml += "optimizer = \"toy\"\ntoy_step_ms = 20\n";
  toml += "[sync]\ninner_steps = 20\n[checkpoint]\nevery_rounds = 3\n";
  toml += "[network]\nlisten = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\n";
  return toml;
}

class Demo {
 public:
  Demo(const Arguments& args, const Command& command) : args_(args), command_(command) {}

  absl::StatusOr<CoordinatorService::Outcome> Run() {
    auto loaded = ParseRunConfig(DemoToml(args_), "demo",
                                 {CollectEnvironment(command_.environment), args_.sets});
    RETURN_IF_ERROR(loaded.status());
    if (loaded->config.run.output_dir.empty()) loaded->config.run.output_dir = NewRunFolder();
    ASSIGN_OR_RETURN(run_, CoordinatorRun::Start(loaded->config, "", Seconds(120), {}));
    ASSIGN_OR_RETURN(invitation_, run_->service().Invite(args_.workers,
                                                         static_cast<uint64_t>(std::time(nullptr)) +
                                                             kInvitationSeconds));
    std::printf("run        %s\ndashboard  %s\n", run_->config().run.output_dir.c_str(),
                run_->dashboard().c_str());
    std::printf("workers    %u processes of %s, %u threads each; their logs are in %s\n\n",
                args_.workers, Program().c_str(), Threads(), WorkerFolder().c_str());
    std::fflush(stdout);
    std::filesystem::create_directories(WorkerFolder());
    workers_.resize(args_.workers);
    for (uint32_t i = 0; i < args_.workers; ++i) RETURN_IF_ERROR(StartWorker(i));
    run_->on_round = [this](const RoundReport& report) { AfterRound(report); };
    ASSIGN_OR_RETURN(CoordinatorService::Outcome outcome, run_->service().Run(StopCount()));
    StopWorkers();
    outcome.summary.killed = killed_;
    outcome.summary.rejoined = rejoined_;
    return outcome;
  }

  // What a worker said last, when something went wrong.
  std::string LastWords() const {
    std::ifstream file(WorkerFolder() + "/w1.log");
    std::string line, last;
    while (std::getline(file, line)) last = line;
    return last;
  }

 private:
  std::string Program() const { return args_.toy ? "longhaul-worker-toy" : "longhaul-worker"; }
  std::string WorkerFolder() const { return run_->config().run.output_dir + "/workers"; }
  uint32_t Threads() const {
    return std::max(1u, std::thread::hardware_concurrency() / args_.workers);
  }

  absl::Status StartWorker(uint32_t i) {
    const std::string name = "w" + std::to_string(i + 1);
    std::vector<std::string> argv = {command_.program_folder + "/" + Program(),
                                     invitation_,
                                     "--name",
                                     name,
                                     "--home",
                                     WorkerFolder() + "/" + name,
                                     "--threads",
                                     std::to_string(Threads()),
                                     "--device",
                                     args_.device};
    if (!args_.text.empty()) argv.insert(argv.end(), {"--data", args_.text});
    if (args_.verbose) argv.push_back("--verbose");
    ASSIGN_OR_RETURN(workers_[i], ChildProcess::Start(argv, WorkerFolder() + "/" + name + ".log"));
    return absl::OkStatus();
  }

  // Halfway, the last worker is killed without warning; a round later a new process with its key
  // takes its place.
  void AfterRound(const RoundReport& report) {
    if (args_.no_kill || args_.workers < 3) return;
    const uint64_t half = run_->config().run.rounds / 2;
    ChildProcess& victim = *workers_.back();
    if (report.round == half) {
      victim.Signal(SIGKILL);
      victim.Wait();
      ++killed_;
      std::printf("          w%u was killed with -9\n", args_.workers);
      std::fflush(stdout);
    } else if (report.round == half + 1 && killed_ > 0) {
      if (StartWorker(args_.workers - 1).ok()) ++rejoined_;
      std::printf("          w%u is back: a new process with the same key\n", args_.workers);
      std::fflush(stdout);
    }
  }

  void StopWorkers() {
    for (auto& worker : workers_) worker->Signal(SIGTERM);
    for (auto& worker : workers_) worker->Wait();
  }

  const Arguments args_;
  const Command& command_;
  std::unique_ptr<CoordinatorRun> run_;
  std::string invitation_;
  std::vector<std::unique_ptr<ChildProcess>> workers_;
  uint64_t killed_ = 0;
  uint64_t rejoined_ = 0;
};

int RunDemo(const Arguments& args, const Command& command) {
  StopCount();
  Demo demo(args, command);
  auto outcome = demo.Run();
  if (!outcome.ok()) {
    LogError(std::string(outcome.status().message()));
    if (absl::IsDeadlineExceeded(outcome.status()))
      LogError("a worker's last words: " + demo.LastWords());
    return CoordinatorExitCode(outcome.status());
  }
  RunSummary& summary = outcome->summary;
  summary.next = {"longhaul init my-run.toml", "longhaul coordinator my-run.toml"};
  if (!args.json_file.empty()) {
    std::ofstream file(args.json_file);
    file << ToJson(summary) << "\n";
    if (!file.flush()) {
      LogError("cannot write " + args.json_file);
      return kExitStorage;
    }
  }
  if (!outcome->finished) {
    LogWarning("stopped after " + std::to_string(summary.rounds) + " rounds; checkpoint kept in " +
               summary.checkpoint);
    return kExitInterrupted;
  }
  std::fputs(FormatSummary(summary).c_str(), stdout);
  return summary.hash_mismatches == 0 ? kExitOk : kExitFailure;
}

}  // namespace

void AddDemo(CLI::App& app, Command& command) {
  auto args = std::make_shared<Arguments>();
  auto* demo = app.add_subcommand(
      "demo", "Train a small model with several worker processes on this machine");
  demo->add_option("--workers", args->workers, "worker processes")
      ->check(CLI::Range(1u, kMaxDemoWorkers))
      ->capture_default_str();
  demo->add_option("--text", args->text, "train on this text file instead of the built-in text")
      ->check(CLI::ExistingFile);
  demo->add_option("--json", args->json_file, "write the summary to this file");
  demo->add_option("--device", args->device, "cpu, cuda or auto")
      ->check(CLI::IsMember({"cpu", "cuda", "auto"}));
  demo->add_option("--set", args->sets, "section.key=value; may be repeated");
  demo->add_flag("--toy", args->toy, "no neural network (needs no LibTorch)");
  demo->add_flag("--no-kill", args->no_kill, "do not kill a worker halfway");
  demo->add_flag("-v,--verbose", args->verbose, "log every decision");
  demo->footer(
      "Examples:\n  longhaul demo\n  longhaul demo --text corpus.txt --json demo.json\n"
      "  longhaul demo --set run.rounds=20 --set model.preset=llama-10m");
  demo->callback([args, &command] {
    command.run = [args, &command] {
      StartLogging(args->verbose ? LogLevel::kDebug : LogLevel::kInfo, "demo", "");
      return RunDemo(*args, command);
    };
  });
}

}  // namespace longhaul
