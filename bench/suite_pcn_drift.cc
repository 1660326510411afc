// Do local steps of predictive coding drift less between synchronisations than backprop's? Four
// workers with label-skewed images, H weight updates each, then the mean of their changes through
// an outer Nesterov step. Every rule gets the learning rate that is best for it at H = 250.
#include <ATen/Parallel.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <memory>

#include "absl/strings/str_cat.h"
#include "bench/pcn_training.h"
#include "common/rng.h"
#include "pcn/rules/builders.h"
#include "pcn/rules/image_files.h"

namespace longhaul {
namespace {

using pcn::Rule;

constexpr int kWorkers = 4;
constexpr double kOuterRate = 0.7, kOuterMomentum = 0.6;

struct Method {
  std::string name;
  pcn::RuleOptions rule;
};

std::vector<Method> Methods() {
  pcn::RuleOptions nudged{.rule = Rule::kSpc, .sweeps = 4, .rate = 0.0686, .momentum = 0.5};
  nudged.nudge = pcn::NudgeSign::kNegative;
  nudged.beta = 0.2;
  return {{"backprop", {.rule = Rule::kBackprop}},
          {"spc", {.rule = Rule::kSpc, .sweeps = 8, .rate = 0.1, .momentum = 0.3}},
          {"ipc", {.rule = Rule::kIpc, .sweeps = 5, .rate = 0.8, .momentum = 0.25}},
          {"nudged", nudged}};
}

// Four of five images of a worker are of its own two or three classes.
std::vector<Fold> SkewedShards(const Fold& fold) {
  std::vector<std::vector<int64_t>> images(kWorkers);
  for (size_t i = 0; i < fold.train_labels.size(); ++i) {
    const auto own = static_cast<uint64_t>(fold.train_labels[i] * kWorkers / 10);
    const uint64_t draw = Draw(9, {i});
    images[draw % 5 == 0 ? draw / 5 % kWorkers : own].push_back(static_cast<int64_t>(i));
  }
  std::vector<Fold> shards;
  for (const auto& part : images) shards.push_back(Subset(fold, part));
  return shards;
}

double Norm(const at::Tensor& x) { return at::linalg_vector_norm(x).item<double>(); }

struct Outcome {
  double accuracy = 0;      // of the common model at the end
  double delta_cosine = 0;  // mean over rounds and pairs of workers
};

class DriftSuite {
 public:
  DriftSuite(const PcnPlan& plan, const pcn::ImageSet& set)
      : updates_(plan.quick ? 100 : 2000),
        threads_(plan.threads),
        fold_(MakeFold(set, 0)),
        shards_(SkewedShards(fold_)),
        network_(
            pcn::MakeMlp({set.pixels, 128, 128, 128, set.classes}, pcn::Activation::kLeakyRelu)) {}

  Outcome Train(const Method& method, double learning_rate, uint64_t period) const {
    std::vector<std::unique_ptr<PcnTraining>> workers;
    for (int w = 0; w < kWorkers; ++w) {
      PcnTraining::Options options;
      options.rule = method.rule;
      options.learning_rate = learning_rate;
      options.threads = threads_;
      options.seed = 1;  // the same initial weights
      workers.push_back(std::make_unique<PcnTraining>(network_, options));
    }
    const at::Tensor global = workers[0]->weights().flat.clone();
    const at::Tensor momentum = at::zeros_like(global);
    Outcome outcome;
    uint64_t rounds = 0;
    for (uint64_t done = 0; done < updates_; done += period, ++rounds) {
      std::vector<at::Tensor> deltas;
      for (int w = 0; w < kWorkers; ++w) {
        workers[w]->weights().flat.copy_(global);
        const uint64_t end = workers[w]->updates() + std::min(period, updates_ - done);
        while (workers[w]->updates() < end) workers[w]->Step(shards_[w]);
        deltas.push_back(global.sub(workers[w]->weights().flat));
      }
      outcome.delta_cosine += MeanCosine(deltas);
      at::Tensor mean = at::zeros_like(global);
      for (const at::Tensor& delta : deltas) mean.add_(delta, 1.0 / kWorkers);
      momentum.mul_(kOuterMomentum).add_(mean);
      global.sub_(mean.add_(momentum, kOuterMomentum), kOuterRate);
    }
    outcome.accuracy = 100 * Accuracy(network_, network_.View(global), fold_);
    outcome.delta_cosine /= static_cast<double>(rounds);
    return outcome;
  }

  double BestRate(const Method& method, uint64_t period) const {
    double best = 0, rate = 0;
    for (double candidate : {1e-4, 3e-4, 1e-3}) {
      const double accuracy = Train(method, candidate, period).accuracy;
      if (accuracy > best) best = accuracy, rate = candidate;
    }
    return rate;
  }

 private:
  static double MeanCosine(const std::vector<at::Tensor>& deltas) {
    double sum = 0;
    int pairs = 0;
    for (size_t a = 0; a < deltas.size(); ++a) {
      for (size_t b = a + 1; b < deltas.size(); ++b, ++pairs) {
        sum += deltas[a].mul(deltas[b]).sum().item<double>() / (Norm(deltas[a]) * Norm(deltas[b]));
      }
    }
    return sum / pairs;
  }

  const uint64_t updates_;
  const uint32_t threads_;
  const Fold fold_;
  const std::vector<Fold> shards_;
  const pcn::Network network_;
};

}  // namespace

std::vector<Result> RunPcnDrift(const PcnPlan& plan) {
  at::set_num_threads(1);
  const absl::StatusOr<pcn::ImageSet> digits = pcn::LoadIdxDigits(plan.images);
  const bool real = digits.ok() && !plan.quick;
  const DriftSuite suite(plan, real ? *digits : pcn::GeneratedDigits(plan.quick ? 1000 : 10000, 1));
  const std::vector<uint64_t> periods =
      plan.quick ? std::vector<uint64_t>{10, 50} : std::vector<uint64_t>{10, 50, 250, 1000};
  std::vector<Result> results;
  double backprop_loss = 0;
  for (const Method& method : Methods()) {
    const double rate = plan.quick ? 3e-4 : suite.BestRate(method, 250);
    double first = 0, last = 0;
    for (uint64_t period : periods) {
      const Outcome outcome = suite.Train(method, rate, period);
      results.push_back(PcnResult(
          absl::StrCat(method.name, "_h_", period), "%", outcome.accuracy,
          absl::StrCat("rate ", rate, ", cosine of the workers' changes ", outcome.delta_cosine)));
      (period == periods.front() ? first : last) = outcome.accuracy;
    }
    const double lost = first - last;
    results.push_back(PcnResult(method.name + "_loss_by_drift", "points", lost));
    if (method.name == "backprop") {
      backprop_loss = lost;
    } else if (backprop_loss > 0) {
      results.push_back(
          PcnGoal(PcnResult(method.name + "_drift_to_backprops", "ratio", lost / backprop_loss),
                  Relation::kAtMost, 0.5));
    }
  }
  return results;
}

}  // namespace longhaul
