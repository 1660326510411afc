#include "bench/pcn_training.h"

#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "common/check.h"
#include "pcn/rules/fused_mlp.h"

namespace longhaul {

PcnTraining::PcnTraining(const pcn::Network& network, const Options& options)
    : network_(network),
      options_(options),
      weights_(network.View(options.initial.defined()
                                ? options.initial.clone()
                                : network.InitialParameters(options.seed, at::kFloat))),
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
  const pcn::Batch batch = pcn::DrawBatch(fold, options_.rows, options_.seed, batches_++);
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
