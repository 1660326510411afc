#include "bench/pcn_training.h"

#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "common/check.h"
#include "common/rng.h"
#include "pcn/rules/fused_mlp.h"

namespace longhaul {
namespace {

at::Tensor Indices(const std::vector<int64_t>& values) {
  return at::from_blob(const_cast<int64_t*>(values.data()), {static_cast<int64_t>(values.size())},
                       at::kLong);
}

// Place `at` of the stream's pass number `pass` over n images: an affine permutation.
int64_t Shuffled(int64_t n, uint64_t seed, uint64_t pass, uint64_t at) {
  const auto count = static_cast<uint64_t>(n);
  uint64_t factor = Draw(seed, {pass, 0}) % count | 1;
  while (std::gcd(factor, count) != 1) factor += 2;
  return static_cast<int64_t>((factor * at + Draw(seed, {pass, 1}) % count) % count);
}

}  // namespace

Fold MakeFold(const pcn::ImageSet& set, int64_t fold) {
  std::vector<int64_t> train, test;
  Fold made;
  for (int64_t i = 0; i < set.size(); ++i) {
    const bool is_test = i % kFolds == fold;
    (is_test ? test : train).push_back(i);
    (is_test ? made.test_labels : made.train_labels).push_back(set.labels[i]);
  }
  const at::Tensor all =
      at::from_blob(const_cast<float*>(set.values.data()), {set.size(), set.pixels}, at::kFloat);
  made.train = all.index_select(0, Indices(train));
  made.test = all.index_select(0, Indices(test));
  auto targets = pcn::OneHot(made.train_labels, set.classes, at::kFloat);
  LONGHAUL_CHECK(targets.ok(), "labels of a checked image set");
  made.train_targets = *targets;
  return made;
}

Fold Subset(const Fold& fold, const std::vector<int64_t>& images) {
  Fold part = fold;
  part.train = fold.train.index_select(0, Indices(images));
  part.train_targets = fold.train_targets.index_select(0, Indices(images));
  part.train_labels.clear();
  for (int64_t i : images) part.train_labels.push_back(fold.train_labels[i]);
  return part;
}

pcn::Batch DrawBatch(const Fold& fold, int64_t rows, uint64_t seed, uint64_t step) {
  const int64_t images = fold.train.size(0);
  std::vector<int64_t> chosen;
  for (int64_t r = 0; r < rows; ++r) {
    const uint64_t place = step * static_cast<uint64_t>(rows) + static_cast<uint64_t>(r);
    const auto n = static_cast<uint64_t>(images);
    chosen.push_back(Shuffled(images, seed, place / n, place % n));
  }
  const at::Tensor indices = Indices(chosen);
  return {fold.train.index_select(0, indices), fold.train_targets.index_select(0, indices), 0};
}

double Accuracy(const pcn::Network& network, const pcn::Weights& weights, const Fold& fold) {
  const at::Tensor best = network.Predict(weights, fold.test).argmax(1);
  const double right = best.eq(Indices(fold.test_labels)).sum().item<double>();
  return right / static_cast<double>(fold.test_labels.size());
}

PcnTraining::PcnTraining(const pcn::Network& network, const Options& options)
    : network_(network),
      options_(options),
      weights_(network.View(network.InitialParameters(options.seed, at::kFloat))),
      gradient_(network.View(at::zeros_like(weights_.flat))),
      adam_({.weight_decay = options.weight_decay}, weights_.flat) {
  auto fused = pcn::FusedMlp::Make(network_, options.rule, options.loss, options.threads);
  if (fused.ok()) {
    run_ = [this, path = std::shared_ptr<pcn::FusedMlp>(*std::move(fused))](
               const pcn::Batch& batch, const std::function<void()>& step) {
      return path->RunBatch(weights_, batch, gradient_, step);
    };
    return;
  }
  auto rule = pcn::CreditRule::Make(options.rule, options.loss);
  LONGHAUL_CHECK(rule.ok(), "a rule of the suite");
  run_ = [this, plain = std::make_shared<pcn::CreditRule>(*std::move(rule))](
             const pcn::Batch& batch, const std::function<void()>& step) {
    return plain->RunBatch(network_, weights_, batch, gradient_, step);
  };
}

PcnTraining::~PcnTraining() = default;

uint32_t PcnTraining::Step(const Fold& fold) {
  const uint64_t before = updates_;
  const pcn::Batch batch = DrawBatch(fold, options_.rows, options_.seed, batches_++);
  const pcn::BatchReport report = run_(batch, [&] {
    const double factor = options_.updates > 0 ? pcn::WarmCosine(updates_, options_.updates) : 1;
    adam_.Step(weights_.flat, gradient_.flat, options_.learning_rate * factor);
    ++updates_;
  });
  loss_ = report.loss;
  diverged_ += report.diverged ? 1 : 0;
  return static_cast<uint32_t>(updates_ - before);
}

double Mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

PairedBound BoundOf(const std::vector<double>& differences) {
  // One-sided 95 % points of Student's t by degrees of freedom.
  constexpr std::array<double, 10> kPoints = {6.314, 2.920, 2.353, 2.132, 2.015,
                                              1.943, 1.895, 1.860, 1.833, 1.812};
  PairedBound bound{Mean(differences), 0};
  const size_t n = differences.size();
  if (n < 2) return bound;
  double squares = 0;
  for (double d : differences) squares += (d - bound.mean) * (d - bound.mean);
  const double deviation = std::sqrt(squares / static_cast<double>(n - 1));
  const double point = n - 2 < kPoints.size() ? kPoints[n - 2] : 1.8;
  bound.half_width = point * deviation / std::sqrt(static_cast<double>(n));
  return bound;
}

Result PcnResult(const std::string& name, const std::string& unit, double value,
                 const std::string& note) {
  return {.suite = "pcn", .name = name, .value = value, .unit = unit, .note = note};
}

Result PcnGoal(Result result, Relation relation, double target) {
  result.kind = ResultKind::kGoal;
  result.relation = relation;
  result.target = target;
  return result;
}

Result PcnGate(Result result, Relation relation, double target) {
  result = PcnGoal(std::move(result), relation, target);
  result.kind = ResultKind::kGate;
  return result;
}

}  // namespace longhaul
