// longhaul wan exec: any program inside an emulated network.
#include <poll.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <memory>

#include "absl/strings/str_cat.h"
#include "cli/command_wan.h"
#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "cli/signals.h"
#include "cli/suggest.h"
#include "common/log.h"
#include "common/status_macros.h"
#include "wan/emulate/host_process.h"
#include "wan/scenario.h"
#include "wan/tun_lab.h"

namespace longhaul {
namespace {

using Clock = std::chrono::steady_clock;
using wan::HostCommand;
using wan::HostProcess;
using wan::Scenario;

constexpr int kLookEveryMs = 10;
constexpr Duration kListenWait = Seconds(5);

struct Arguments {
  std::string file;
  std::string on;
  std::vector<std::string> with;  // NODE=COMMAND
  std::vector<std::string> command;
  bool quiet = false;
};

struct Background {
  uint32_t node = 0;
  std::string command;
};

absl::StatusOr<uint32_t> NodeNamed(const Scenario& scenario, const std::string& name) {
  if (const auto node = scenario.FindNode(name)) return *node;
  std::vector<std::string> names;
  for (const wan::Node& node : scenario.nodes) names.push_back(node.name);
  return absl::InvalidArgumentError(scenario.file + " has no node \"" + name + "\"" +
                                    DidYouMean(name, names));
}

absl::StatusOr<std::vector<Background>> ParseBackground(const Scenario& scenario,
                                                        const std::vector<std::string>& with) {
  std::vector<Background> out;
  for (const std::string& text : with) {
    const size_t at = text.find('=');
    if (at == std::string::npos) {
      return absl::InvalidArgumentError("--with \"" + text + "\" is not NODE=COMMAND");
    }
    ASSIGN_OR_RETURN(const uint32_t node, NodeNamed(scenario, text.substr(0, at)));
    out.push_back({node, text.substr(at + 1)});
  }
  return out;
}

void Pause() { ::poll(nullptr, 0, kLookEveryMs); }

// Whether anything listens for TCP in the network of the process (proc(5), state 0A).
bool Listens(pid_t pid) {
  for (const char* table : {"tcp", "tcp6"}) {
    std::ifstream file(absl::StrCat("/proc/", pid, "/net/", table));
    std::string line;
    while (std::getline(file, line)) {
      if (line.size() > 36 && line.find(" 0A ") != std::string::npos) return true;
    }
  }
  return false;
}

// Inside the lab: starts what is wanted, follows the schedule, ends with the command.
class Execution {
 public:
  Execution(const Scenario& scenario, const Arguments& args, uint32_t node,
            std::vector<Background> background)
      : scenario_(scenario),
        args_(args),
        node_(node),
        background_(std::move(background)),
        schedule_(scenario.incidents) {}

  int Run() {
    const std::atomic<int>& stop = StopCount();
    auto lab = wan::TunLab::Create(scenario_);
    if (!lab.ok()) return Fail(lab.status());
    lab_ = *std::move(lab);
    if (absl::Status status = StartBackground(stop); !status.ok()) return Fail(status);
    auto process = HostProcess::Start(&lab_->host(node_), CommandOf(args_.command));
    if (!process.ok()) return Fail(process.status());
    lab_->ResetLateness();
    const auto start = Clock::now();
    while (!(*process)->Poll()) {
      for (const auto& step : schedule_.Take(Clock::now() - start)) Do(step);
      if (stop) (*process)->Signal(SIGTERM);
      Pause();
    }
    const int code = *(*process)->Poll();
    const wan::EmulatorReport report = lab_->report();
    if (!args_.quiet) {
      std::fprintf(stderr, "\nnetwork    %s, tier tun\n%s", scenario_.file.c_str(),
                   wan::FormatNetwork(scenario_, report).c_str());
    }
    return code == 0 && !report.valid() ? kExitInvalid : code;
  }

 private:
  int Fail(const absl::Status& status) {
    LogError(std::string(status.message()));
    return ExitCodeFor(status);
  }

  HostCommand CommandOf(const std::vector<std::string>& argv) const {
    HostCommand command;
    command.argv = argv;
    command.network_rights = true;
    command.foreground = true;
    return command;
  }

  absl::Status StartBackground(const std::atomic<int>& stop) {
    for (const Background& b : background_) {
      HostCommand command;
      command.argv = {"sh", "-c", b.command};
      command.network_rights = true;
      if (args_.quiet) command.output_file = "/dev/null";
      ASSIGN_OR_RETURN(auto process, HostProcess::Start(&lab_->host(b.node), command));
      const auto until = Clock::now() + kListenWait;
      while (!stop && !process->Poll() && !Listens(process->pid()) && Clock::now() < until) Pause();
      processes_.push_back(std::move(process));
    }
    return absl::OkStatus();
  }

  void Do(const wan::Schedule::Step& step) {
    if (scenario_.incidents[step.incident].action == wan::Action::kKill) return;
    std::fprintf(stderr, "%s\n", wan::DescribeStep(scenario_, step).c_str());
    lab_->Apply(step);
  }

  const Scenario& scenario_;
  const Arguments& args_;
  const uint32_t node_;
  const std::vector<Background> background_;
  wan::Schedule schedule_;
  std::unique_ptr<wan::TunLab> lab_;
  std::vector<std::unique_ptr<HostProcess>> processes_;
};

absl::StatusOr<int> Exec(const Arguments& args) {
  ASSIGN_OR_RETURN(const Scenario scenario, wan::LoadScenario(args.file));
  uint32_t node = 0;
  if (!args.on.empty()) {
    ASSIGN_OR_RETURN(node, NodeNamed(scenario, args.on));
  }
  ASSIGN_OR_RETURN(std::vector<Background> background, ParseBackground(scenario, args.with));
  return wan::RunInLab([&] { return Execution(scenario, args, node, background).Run(); });
}

int WanExec(const Arguments& args) {
  const absl::StatusOr<int> code = Exec(args);
  if (code.ok()) return *code;
  LogError(std::string(code.status().message()));
  if (!absl::IsFailedPrecondition(code.status())) return ExitCodeFor(code.status());
  LogError("any program can run in tier tun only; `longhaul wan run` also has tier relay");
  return kExitNeedsPackages;
}

}  // namespace

void AddWanExec(CLI::App& wan, Command& command) {
  auto args = std::make_shared<Arguments>();
  auto* exec = wan.add_subcommand("exec", "Run any program inside an emulated network");
  exec->add_option("scenario", args->file, "scenario file")->required()->check(CLI::ExistingFile);
  exec->add_option("--on", args->on, "node that runs the program (the first one)");
  exec->add_option("--with", args->with,
                   "NODE=COMMAND: started before (a server; it is waited for until it listens) and "
                   "killed at the end; may be repeated")
      ->allow_extra_args(false);
  exec->add_flag("-q,--quiet", args->quiet, "no report about the network");
  exec->add_option("command", args->command, "the program and its arguments, after --")->required();
  exec->footer(
      "Nodes know each other by name. The program's exit code is ours; 8 when the network was\n"
      "not emulated in time.\n"
      "Examples:\n"
      "  longhaul wan exec transatlantic.toml -- ping -c 3 america\n"
      "  longhaul wan exec transatlantic.toml --with 'america=iperf3 -s' -- iperf3 -c america");
  exec->callback([args, &command] {
    command.run = [args] {
      StartLogging(LogLevel::kInfo, "wan", "");
      return WanExec(*args);
    };
  });
}

}  // namespace longhaul
