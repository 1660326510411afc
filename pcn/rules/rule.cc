#include "pcn/rules/rule.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace longhaul::pcn {
namespace {

double Rows(const Batch& batch) {
  return batch.rows > 0 ? batch.rows : static_cast<double>(batch.target.size(0));
}

void AddGradient(const Inference& inference, double scale, const Weights& gradient) {
  for (size_t l = 0; l < inference.depth(); ++l) inference.AddLayerGradient(l, scale, gradient);
}

// The energy may rise by rounding, not by more.
bool Diverged(const BatchReport& report) {
  constexpr double kSlack = 1e-3;
  return !std::isfinite(report.energy_after) ||
         report.energy_after > report.energy_before + kSlack * std::abs(report.energy_before);
}

}  // namespace

absl::StatusOr<CreditRule> CreditRule::Make(const RuleOptions& options, OutputLoss loss) {
  RETURN_IF_ERROR(Validate(options, loss));
  return CreditRule(options, loss);
}

CreditRule::Drive CreditRule::DriveFor(const Network& network, const Weights& weights,
                                       const Batch& batch) {
  Drive drive{{loss_, batch.target, options_.output_weight}, options_.output_weight};
  if (options_.nudge != NudgeSign::kNone) {
    const bool odd = batches_ % 2 == 1;
    const bool negative =
        options_.nudge == NudgeSign::kNegative || (options_.nudge == NudgeSign::kCentred && odd);
    const double beta = negative ? -options_.beta : options_.beta;
    drive.divisor *= beta;
    if (options_.nudge_of == NudgeOf::kCost) {
      drive.output.weight *= beta;
    } else {
      const at::Tensor out = network.Predict(weights, batch.input);
      drive.output.target = out.add(batch.target.sub(out), beta);
    }
  }
  ++batches_;
  if (!options_.normalise_credit) drive.divisor = 1;
  return drive;
}

BatchReport CreditRule::RunBatch(const Network& network, const Weights& weights, const Batch& batch,
                                 const Weights& gradient, const std::function<void()>& step) {
  gradient.flat.zero_();
  const Drive drive = DriveFor(network, weights, batch);
  BatchReport report;
  switch (options_.rule) {
    case Rule::kBackprop:
    case Rule::kZil:
    case Rule::kFpa:
      report = RunAnchored(network, weights, batch, drive, gradient);
      break;
    case Rule::kEpc:
      report = RunFreeErrors(network, weights, batch, drive, gradient);
      break;
    case Rule::kSpc:
    case Rule::kPcAlm:
    case Rule::kIpc:
      report = RunFreeStates(network, weights, batch, drive, gradient, step);
      break;
  }
  if (!report.diverged && options_.rule != Rule::kIpc) step();
  return report;
}

BatchReport CreditRule::RunAnchored(const Network& network, const Weights& weights,
                                    const Batch& batch, const Drive& drive,
                                    const Weights& gradient) {
  AnchoredCredit credit(network, weights, batch.input, drive.output);
  BatchReport report;
  report.loss = LossSum(loss_, credit.forward_output(), batch.target) / Rows(batch);
  const double scale = 1 / (Rows(batch) * drive.divisor);
  if (options_.rule == Rule::kFpa && !(rate() == 1 && options_.sweeps + 1 >= network.depth())) {
    for (uint32_t t = 0; t < options_.sweeps; ++t) credit.Sweep(rate());
    AddGradient(credit, scale, gradient);
  } else {  // enough sweeps at rate 1 end where one scheduled pass does
    credit.SolveWithGradient(scale, gradient);
  }
  return report;
}

BatchReport CreditRule::RunFreeStates(const Network& network, const Weights& weights,
                                      const Batch& batch, const Drive& drive,
                                      const Weights& gradient, const std::function<void()>& step) {
  const bool multipliers = options_.rule == Rule::kPcAlm;
  const FreeStates::Options free{rate(), options_.momentum, multipliers ? options_.penalty : 1};
  FreeStates states(network, weights, batch.input, drive.output, free);
  const double rows = Rows(batch), scale = 1 / (rows * drive.divisor);
  BatchReport report;
  report.loss = LossSum(loss_, states.forward_output(), batch.target) / rows;
  report.energy_before = states.Energy() / rows;
  for (uint32_t t = 0; t < options_.sweeps; ++t) {
    if (multipliers && t > 0) states.StepMultipliers(options_.multiplier_rate);
    states.Sweep();
    if (options_.rule != Rule::kIpc) continue;
    if (t > 0) gradient.flat.zero_();
    AddGradient(states, scale, gradient);
    step();
    states.Refresh();
  }
  report.energy_after = states.Energy() / rows;
  // A multiplier's term has any sign, and a weight step may raise what it was not made for.
  report.diverged = multipliers || options_.rule == Rule::kIpc ? !std::isfinite(report.energy_after)
                                                               : Diverged(report);
  if (options_.rule != Rule::kIpc) AddGradient(states, scale, gradient);
  return report;
}

BatchReport CreditRule::RunFreeErrors(const Network& network, const Weights& weights,
                                      const Batch& batch, const Drive& drive,
                                      const Weights& gradient) {
  FreeErrors errors(network, weights, batch.input, drive.output);
  const double rows = Rows(batch), scale = 1 / (rows * drive.divisor);
  BatchReport report;
  report.loss = LossSum(loss_, errors.forward_output(), batch.target) / rows;
  report.energy_before = errors.Energy() / rows;
  for (uint32_t t = 0; t < options_.sweeps; ++t) errors.Sweep(rate());
  report.energy_after = errors.Energy() / rows;
  report.diverged = Diverged(report);
  // From 0, `sweeps` steps let at most this share of the hidden credit through.
  const double share =
      options_.normalise_credit ? std::min(1.0, rate() * static_cast<double>(options_.sweeps)) : 1;
  for (size_t l = 0; l < errors.depth(); ++l) {
    errors.AddLayerGradient(l, l + 1 == errors.depth() ? scale : scale / share, gradient);
  }
  return report;
}

}  // namespace longhaul::pcn
