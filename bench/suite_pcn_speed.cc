// The fused path's price in units of its own backprop, windows taking turns.
#include <ATen/ops/zeros_like.h>

#include <chrono>
#include <memory>

#include "absl/strings/str_cat.h"
#include "bench/pcn_training.h"
#include "common/check.h"
#include "pcn/rules/builders.h"
#include "pcn/rules/fused_mlp.h"

namespace longhaul {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kSpcTarget = 2.2, kAnchoredTarget = 1.15;
constexpr int64_t kRows = 128;
constexpr double kImages = 60000;

struct Contender {
  std::string name;
  pcn::RuleOptions rule;
  double target = 0;  // of its time over backprop's; 0: a number only
  std::unique_ptr<pcn::FusedMlp> path;
  std::vector<double> seconds_per_batch;
};

class SpeedSuite {
 public:
  explicit SpeedSuite(const PcnPlan& plan)
      : windows_(plan.quick ? 5 : 21),
        batches_(plan.quick ? 10 : 60),
        threads_(plan.threads),
        weights_(network_.View(network_.InitialParameters(1, at::kFloat))),
        gradient_(network_.View(at::zeros_like(weights_.flat))),
        adam_({}, weights_.flat) {
    const pcn::ImageSet digits = pcn::GeneratedDigits(kRows + kRows / 4 + 1, 1);
    batch_ = DrawBatch(MakeFold(digits, 0), kRows, 1, 0);
    Add("backprop", {.rule = pcn::Rule::kBackprop}, 0);
    Add("zil", {.rule = pcn::Rule::kZil}, kAnchoredTarget);
    Add("fpa", {.rule = pcn::Rule::kFpa, .sweeps = 4, .rate = 1}, kAnchoredTarget);
    Add("spc_5", {.rule = pcn::Rule::kSpc, .sweeps = 5, .rate = 0.0261, .momentum = 0.1},
        kSpcTarget);
    Add("ipc_8", {.rule = pcn::Rule::kIpc, .sweeps = 8, .rate = 0.8, .momentum = 0.25}, 0);
  }

  std::vector<Result> Run() {
    for (Contender& c : contenders_) Window(c);  // warm-up
    for (Contender& c : contenders_) c.seconds_per_batch.clear();
    for (int i = 0; i < windows_; ++i) {
      for (Contender& c : contenders_) Window(c);
    }
    std::vector<Result> results;
    for (const Contender& c : contenders_) {
      const double epoch = Median(c.seconds_per_batch) * kImages / kRows;
      results.push_back(PcnResult(
          "seconds_per_60000_images_" + c.name, "s", epoch,
          absl::StrCat("784-128x3-10, batch ", kRows, ", AdamW, ", threads_, " threads")));
      if (&c == &contenders_.front()) continue;
      Result ratio = PcnResult(c.name + "_to_backprop", "ratio", Ratio(c));
      results.push_back(c.target > 0 ? PcnGoal(ratio, Relation::kAtMost, c.target) : ratio);
    }
    return results;
  }

 private:
  void Add(const std::string& name, const pcn::RuleOptions& rule, double target) {
    auto path = pcn::FusedMlp::Make(network_, rule, pcn::OutputLoss::kSquared, threads_);
    LONGHAUL_CHECK(path.ok(), "a rule of the fused path");
    contenders_.push_back({name, rule, target, *std::move(path), {}});
  }

  void Window(Contender& c) {
    const Clock::time_point start = Clock::now();
    for (int i = 0; i < batches_; ++i) {
      c.path->RunBatch(weights_, batch_, gradient_,
                       [&] { adam_.Step(weights_.flat, gradient_.flat, 1e-5); });
    }
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    c.seconds_per_batch.push_back(seconds / batches_);
  }

  // Median over windows that were neighbours.
  double Ratio(const Contender& c) const {
    std::vector<double> ratios;
    for (size_t i = 0; i < c.seconds_per_batch.size(); ++i) {
      ratios.push_back(c.seconds_per_batch[i] / contenders_[0].seconds_per_batch[i]);
    }
    return Median(ratios);
  }

  const int windows_, batches_;
  const uint32_t threads_;
  const pcn::Network network_ = pcn::MakeMlp({784, 128, 128, 128, 10}, pcn::Activation::kLeakyRelu);
  const pcn::Weights weights_, gradient_;
  pcn::Adam adam_;
  pcn::Batch batch_;
  std::vector<Contender> contenders_;
};

}  // namespace

std::vector<Result> RunPcnSpeed(const PcnPlan& plan) { return SpeedSuite(plan).Run(); }

}  // namespace longhaul
