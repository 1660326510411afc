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
#include <string>

#include "absl/status/statusor.h"
#include "pcn/rules/energy.h"
#include "pcn/rules/inference.h"
#include "pcn/rules/network.h"

namespace longhaul::pcn {

enum class Rule {
  kBackprop,  // exact credit, each layer once
  kZil,       // Z-IL (Song et al. 2020): states at rate 1, each layer's weights at the sweep when
              // its credit arrives; the same numbers as kBackprop, computed in that order
  kFpa,       // fixed predictions (Millidge et al. 2020, Rosenbaum 2021): anchored sweeps
  kSpc,       // free states, then one weight step (Whittington and Bogacz 2017)
  kIpc,       // free states, a weight step at every sweep (arXiv 2212.00720)
  kEpc,       // free errors (arXiv 2505.20137)
  kPcAlm,     // free states with multipliers (arXiv 2605.31022)
};
enum class NudgeSign { kNone, kPositive, kNegative, kCentred };  // centred: alternates by batch
enum class NudgeOf { kTarget, kCost };  // move the clamped target, or weigh the cost

struct RuleOptions {
  Rule rule = Rule::kZil;
  uint32_t sweeps = 1;       // not used by kBackprop and kZil
  double rate = 0.1;         // of states, or of errors
  double momentum = 0;       // of states (kSpc, kIpc)
  double output_weight = 1;  // lambda
  NudgeSign nudge = NudgeSign::kNone;
  NudgeOf nudge_of = NudgeOf::kTarget;
  double beta = 0.5;             // size of the nudge, above 0
  double multiplier_rate = 1;    // kPcAlm
  double penalty = 1;            // kPcAlm
  bool normalise_credit = true;  // false: gradients of the plain energy
};

// Its name as in configuration and reports: "spc". ParseRule: InvalidArgument, listing all names.
std::string RuleName(Rule rule);
absl::StatusOr<Rule> ParseRule(const std::string& name);
// InvalidArgument, naming option and rule, for values that mean nothing or do not go together.
absl::Status Validate(const RuleOptions& options, OutputLoss loss);
// Weight updates that one batch makes: `sweeps` for kIpc, otherwise 1.
uint32_t UpdatesPerBatch(const RuleOptions& options);

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
