// Speed of the trainer: Longhaul's against a bare LibTorch loop in the same process, and against
// plain PyTorch in a process of its own. Windows of both sides take turns, so that whatever else
// the machine does hits both; a ratio is the median over pairs of neighbouring windows.
#include <CLI/CLI.hpp>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <memory>
#include <regex>

#include "absl/strings/str_cat.h"
#include "bench/suite.h"
#include "bench/trainer_speed.h"
#include "cli/child_process.h"
#include "common/status_macros.h"
#include "model/test_folder.h"

namespace longhaul {
namespace {

constexpr char kPreset[] = "llama-1m";
constexpr uint32_t kWarmUpSteps = 3;
// Both loops do the same arithmetic in another order: after the warm-up their losses agree to
// float32 rounding, far below this.
constexpr double kMaxLossDifference = 1e-3;
constexpr double kBareTarget = 0.95;
constexpr double kEagerTarget = 1.0;

struct Arguments {
  uint32_t threads = 1;
  std::string eager_python;
};

struct Plan {
  uint32_t windows, steps;  // of each side, against the bare loop
  uint32_t eager_windows, eager_steps;
};
constexpr Plan kFull = {15, 10, 7, 30};
constexpr Plan kQuick = {5, 4, 3, 10};

Result Make(const std::string& name, const std::string& unit) {
  return {.suite = "trainer", .name = name, .unit = unit};
}

Result MakeGoal(const std::string& name, double target) {
  Result r = Make(name, "ratio");
  r.kind = ResultKind::kGoal;
  r.target = target;
  return r;
}

// The two sides of one comparison, window by window, in tokens per second.
struct Duel {
  std::vector<double> ours, theirs;

  void Add(double our_speed, double their_speed) {
    ours.push_back(our_speed);
    theirs.push_back(their_speed);
  }
  double Ratio() const {
    std::vector<double> ratios;
    for (size_t i = 0; i < ours.size(); ++i) ratios.push_back(ours[i] / theirs[i]);
    return Median(ratios);
  }
};

// Mean speed of tools/eager_trainer.py, in tokens per second.
absl::StatusOr<double> RunEager(const Arguments& args, uint32_t steps) {
  const TestFolder folder;
  const std::string log = folder.path() + "/log";
  ASSIGN_OR_RETURN(
      std::unique_ptr<ChildProcess> child,
      ChildProcess::Start(
          {args.eager_python, std::string(LONGHAUL_SOURCE_DIR) + "/tools/eager_trainer.py",
           "--preset", kPreset, "--batch", std::to_string(kBenchBatch), "--length",
           std::to_string(kBenchLength), "--threads", std::to_string(args.threads), "--steps",
           std::to_string(steps)},
          log));
  const int code = child->Wait();
  std::ifstream file(log);
  std::string line, last;
  std::smatch match;
  while (std::getline(file, line)) {
    if (std::regex_search(line, match, std::regex(", ([0-9.]+) mean"))) return std::stod(match[1]);
    last = line;
  }
  return absl::UnavailableError(absl::StrCat(args.eager_python, " ended with ", code, ": ", last));
}

class TrainerSuite {
 public:
  TrainerSuite(const Arguments& args, const Plan& plan) : args_(args), plan_(plan) {}

  std::vector<Result> Run() {
    absl::Status status = Start();
    if (status.ok()) status = AgainstBare();
    const std::string failed(status.message());
    if (!status.ok()) {
      for (Result* r : {&longhaul_, &bare_, &ratio_, &agreement_, &eager_, &eager_ratio_}) {
        if (!r->value) r->note = failed;
      }
    } else if (args_.eager_python.empty()) {
      eager_.note = eager_ratio_.note = "no python with torch given";
    } else if (status = AgainstEager(); !status.ok()) {
      eager_.note = eager_ratio_.note = std::string(status.message());
    }
    return {longhaul_, bare_, ratio_, agreement_, eager_, eager_ratio_};
  }

 private:
  absl::Status Start() {
    agreement_.kind = ResultKind::kGate;
    agreement_.relation = Relation::kAtMost;
    agreement_.target = kMaxLossDifference;
    ASSIGN_OR_RETURN(LlamaShape shape, PresetShape(kPreset));
    ASSIGN_OR_RETURN(loops_, TrainerSpeed::Make(shape, args_.threads));
    ASSIGN_OR_RETURN(TrainerSpeed::Window ours, loops_->Longhaul(kWarmUpSteps));
    ASSIGN_OR_RETURN(TrainerSpeed::Window theirs, loops_->Bare(kWarmUpSteps));
    agreement_.value = std::abs(ours.loss - theirs.loss);
    agreement_.note = absl::StrCat("loss ", ours.loss, " and ", theirs.loss, " after ",
                                   kWarmUpSteps, " steps from the same parameters");
    return absl::OkStatus();
  }

  absl::Status AgainstBare() {
    Duel duel;
    for (uint32_t i = 0; i < plan_.windows; ++i) {
      ASSIGN_OR_RETURN(TrainerSpeed::Window ours, loops_->Longhaul(plan_.steps));
      ASSIGN_OR_RETURN(TrainerSpeed::Window theirs, loops_->Bare(plan_.steps));
      duel.Add(ours.tokens_per_second, theirs.tokens_per_second);
    }
    longhaul_.value = Median(duel.ours);
    longhaul_.note =
        absl::StrCat(kPreset, ", batch ", kBenchBatch, " x ", kBenchLength, ", ", args_.threads,
                     " threads, median of ", plan_.windows, " windows of ", plan_.steps, " steps");
    bare_.value = Median(duel.theirs);
    ratio_.value = duel.Ratio();
    return absl::OkStatus();
  }

  absl::Status AgainstEager() {
    Duel duel;
    for (uint32_t i = 0; i < plan_.eager_windows; ++i) {
      ASSIGN_OR_RETURN(TrainerSpeed::Window ours, loops_->Longhaul(plan_.eager_steps));
      ASSIGN_OR_RETURN(double theirs, RunEager(args_, plan_.eager_steps));
      duel.Add(ours.tokens_per_second, theirs);
    }
    eager_.value = Median(duel.theirs);
    eager_ratio_.value = duel.Ratio();
    return absl::OkStatus();
  }

  const Arguments args_;
  const Plan plan_;
  std::unique_ptr<TrainerSpeed> loops_;
  Result longhaul_ = Make("longhaul", "tokens/s");
  Result bare_ = Make("bare_libtorch", "tokens/s");
  Result ratio_ = MakeGoal("longhaul_to_bare_libtorch", kBareTarget);
  Result agreement_ = Make("loss_difference_to_bare_libtorch", "nats");
  Result eager_ = Make("pytorch_eager", "tokens/s");
  Result eager_ratio_ = MakeGoal("longhaul_to_pytorch_eager", kEagerTarget);
};

}  // namespace

void AddTrainer(CLI::App& app, Bench& bench) {
  auto args = std::make_shared<Arguments>();
  CLI::App* suite = AddSuite(app, bench, "trainer",
                             "Training speed against a bare LibTorch loop and plain PyTorch");
  suite->add_option("--threads", args->threads, "CPU threads of each side")
      ->check(CLI::Range(1u, 256u))
      ->capture_default_str();
  suite->add_option("--eager-python", args->eager_python,
                    "a python that can import torch: compares with PyTorch, too");
  suite->callback([args, &bench] {
    bench.run = [args, &bench] { return TrainerSuite(*args, bench.quick ? kQuick : kFull).Run(); };
  });
}

}  // namespace longhaul
