// The credit rules: which way credit takes, how long, and when weights step. docs/PCN.md says what
// each computes and costs.
//
// One normalisation for all: states move per row; gradients are means over the batch's rows; output
// weight and nudge are divided out of gradients, and so is the share of credit that ePC's sweeps
// let through. So a learning rate means the same under every rule, and under backprop.
//
// Thread rule: one thread per object. LibTorch's exceptions pass through.
#pragma once

#include <cstdint>
#include <functional>

#include "absl/status/statusor.h"
#include "pcn/rules/energy.h"
#include "pcn/rules/inference.h"
#include "pcn/rules/network.h"
#include "pcn/rules/rule_options.h"

namespace longhaul::pcn {

struct Batch {
  at::Tensor input;
  at::Tensor target;  // (rows, classes)
  double rows = 0;    // that gradients are the mean over; 0: those of `target`
};

struct BatchReport {
  double loss = 0;           // mean over rows, at the forward pass
  double energy_before = 0;  // mean over rows; of the free rules, otherwise 0
  double energy_after = 0;
  // Inference ended above the energy it began with, or not finite: the gradient was not used.
  bool diverged = false;
};

// Runs batches under one rule.
class CreditRule {
 public:
  // InvalidArgument: Validate.
  static absl::StatusOr<CreditRule> Make(const RuleOptions& options, OutputLoss loss);

  // Fills `gradient` and calls `step` when weights are to be updated: once, or at every sweep for
  // kIpc. `step` changes weights.flat in place; it is not called when inference diverged.
  BatchReport RunBatch(const Network& network, const Weights& weights, const Batch& batch,
                       const Weights& gradient, const std::function<void()>& step);

  // The guard's means: all later batches use rate * scale. In (0, 1].
  void ScaleRate(double scale) { rate_scale_ *= scale; }
  double rate() const { return options_.rate * rate_scale_; }
  const RuleOptions& options() const { return options_; }

 private:
  CreditRule(const RuleOptions& options, OutputLoss loss) : options_(options), loss_(loss) {}
  // What the next batch's inference sees at the top, and the divisor of its gradients.
  struct Drive {
    Output output;
    double divisor = 1;
  };
  Drive DriveFor(const Network& network, const Weights& weights, const Batch& batch);
  BatchReport RunAnchored(const Network& network, const Weights& weights, const Batch& batch,
                          const Drive& drive, const Weights& gradient);
  BatchReport RunFreeStates(const Network& network, const Weights& weights, const Batch& batch,
                            const Drive& drive, const Weights& gradient,
                            const std::function<void()>& step);
  BatchReport RunFreeErrors(const Network& network, const Weights& weights, const Batch& batch,
                            const Drive& drive, const Weights& gradient);

  RuleOptions options_;
  OutputLoss loss_;
  double rate_scale_ = 1;
  uint64_t batches_ = 0;  // for the centred nudge
};

}  // namespace longhaul::pcn
