#include "pcn/rules/inference.h"

#include <ATen/ops/zeros_like.h>

namespace longhaul::pcn {

// ---- common ----

Inference::Inference(const Network& network, const Weights& weights, const at::Tensor& in,
                     Output output)
    : network_(network), weights_(weights), output_(std::move(output)), tapes_(network.depth()) {
  at::Tensor state = in;
  for (size_t l = 0; l < depth(); ++l) {
    state = network.layer(l).Predict(weights.of_layer[l], state, &tapes_[l]);
    predictions_.push_back(state);
    errors_.push_back(l == top() ? TopError() : at::zeros_like(state));
  }
  forward_output_ = state;
}

at::Tensor Inference::Predict(size_t l, const at::Tensor& in) {
  predictions_[l] = network_.layer(l).Predict(weights_.of_layer[l], in, &tapes_[l]);
  return predictions_[l];
}

at::Tensor Inference::PullBack(size_t l, const at::Tensor& error) const {
  return network_.layer(l).Credit(weights_.of_layer[l], tapes_[l], error, /*want_input=*/true, {});
}

at::Tensor Inference::TopError() const {
  const at::Tensor error = OutputError(output_.loss, predictions_[top()], output_.target);
  return output_.weight == 1 ? error : error.mul(output_.weight);
}

void Inference::AddLayerGradient(size_t l, double scale, const Weights& gradient) const {
  network_.layer(l).Credit(weights_.of_layer[l], tapes_[l], errors_[l].mul(-scale),
                           /*want_input=*/false, gradient.of_layer[l]);
}

double Inference::LayerEnergy(size_t l) const {
  if (l == top()) {
    return output_.weight * LossSum(output_.loss, predictions_[l], output_.target);
  }
  return 0.5 * errors_[l].square().sum().item<double>();
}

double Inference::Energy() const {
  double sum = 0;
  for (size_t l = 0; l < depth(); ++l) sum += LayerEnergy(l);
  return sum;
}

// ---- anchored ----

AnchoredCredit::AnchoredCredit(const Network& network, const Weights& weights, const at::Tensor& in,
                               Output output)
    : Inference(network, weights, in, std::move(output)) {}

void AnchoredCredit::Sweep(double rate) {
  // Ascending, so that each layer reads its upper neighbour before that changes.
  for (size_t l = 0; l < top(); ++l) {
    const at::Tensor arrived = PullBack(l + 1, errors_[l + 1]);
    errors_[l] = rate == 1 ? arrived : errors_[l].mul(1 - rate).add(arrived, rate);
  }
}

void AnchoredCredit::Solve() {
  for (size_t l = top(); l > 0; --l) errors_[l - 1] = PullBack(l, errors_[l]);
}

void AnchoredCredit::SolveWithGradient(double scale, const Weights& gradient) {
  // Pulled back with the sign and size of the gradient, so that each layer is touched once.
  at::Tensor credit = errors_[top()].mul(-scale);
  for (size_t l = depth(); l-- > 0;) {
    credit = network_.layer(l).Credit(weights_.of_layer[l], tapes_[l], credit,
                                      /*want_input=*/l > 0, gradient.of_layer[l]);
    if (l > 0) errors_[l - 1] = credit.mul(-1 / scale);
  }
}

// ---- free states ----

FreeStates::FreeStates(const Network& network, const Weights& weights, const at::Tensor& in,
                       Output output, const Options& options)
    : Inference(network, weights, in, std::move(output)),
      options_(options),
      in_(in),
      velocities_(network.depth()),
      multipliers_(network.depth()) {
  states_.assign(predictions_.begin(), predictions_.end() - 1);
}

at::Tensor FreeStates::HiddenError(size_t l) const {
  at::Tensor error = states_[l].sub(predictions_[l]);
  if (options_.penalty != 1) error = error.mul(options_.penalty);
  return multipliers_[l].defined() ? error.add(multipliers_[l]) : error;
}

void FreeStates::RefreshFrom(size_t first) {
  for (size_t l = first; l < depth(); ++l) {
    Predict(l, l == 0 ? in_ : states_[l - 1]);
    errors_[l] = l == top() ? TopError() : HiddenError(l);
  }
}

at::Tensor FreeStates::Force(size_t l) const {
  return PullBack(l + 1, errors_[l + 1]).sub_(errors_[l]);
}

void FreeStates::Sweep() {
  if (multipliers_[0].defined()) {
    for (size_t l = 0; l < top(); ++l) errors_[l] = HiddenError(l);
  }
  for (size_t l = 0; l < top(); ++l) {
    at::Tensor step = Force(l);
    if (options_.momentum != 0) {
      if (velocities_[l].defined()) step = step.add_(velocities_[l], options_.momentum);
      velocities_[l] = step;
    }
    states_[l] = states_[l].add(step, options_.rate);
  }
  // What the input predicts does not move; only the error there does.
  if (top() > 0) errors_[0] = HiddenError(0);
  RefreshFrom(1);
}

void FreeStates::StepMultipliers(double rate) {
  for (size_t l = 0; l < top(); ++l) {
    const at::Tensor step = states_[l].sub(predictions_[l]).mul_(rate);
    multipliers_[l] = multipliers_[l].defined() ? multipliers_[l].add(step) : step;
  }
}

// ---- free errors ----

FreeErrors::FreeErrors(const Network& network, const Weights& weights, const at::Tensor& in,
                       Output output)
    : Inference(network, weights, in, std::move(output)), in_(in) {}

void FreeErrors::Rebuild() {
  at::Tensor state = in_;
  for (size_t l = 0; l < depth(); ++l) {
    const at::Tensor prediction = Predict(l, state);
    if (l < top()) state = prediction.add(errors_[l]);
  }
  errors_[top()] = TopError();
}

void FreeErrors::Sweep(double rate) {
  // The total derivative: moving s_l moves everything above it, errors held.
  at::Tensor down = errors_[top()];
  for (size_t l = top(); l > 0; --l) {
    down = PullBack(l, down);
    errors_[l - 1] = errors_[l - 1].mul(1 - rate).add(down, rate);
  }
  Rebuild();
}

}  // namespace longhaul::pcn
