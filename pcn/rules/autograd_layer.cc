#include "pcn/rules/autograd_layer.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

namespace longhaul::pcn {
namespace {

at::Tensor Leaf(const at::Tensor& x) { return x.detach().set_requires_grad(true); }

}  // namespace

// Tape: the result with its graph, the input's leaf, the leaves of the weights.
at::Tensor AutogradLayer::Predict(LayerWeights weights, const at::Tensor& in, Tape* tape) const {
  if (tape == nullptr) {
    at::NoGradGuard no_gradient;
    return Forward(weights, in);
  }
  at::AutoGradMode with_gradient(true);
  std::vector<at::Tensor> leaves;
  for (const at::Tensor& w : weights) leaves.push_back(Leaf(w));
  const at::Tensor x = Leaf(in);
  const at::Tensor mu = Forward(leaves, x);
  tape->saved = {mu, x};
  tape->saved.insert(tape->saved.end(), leaves.begin(), leaves.end());
  return mu.detach();
}

at::Tensor AutogradLayer::Credit(LayerWeights, const Tape& tape, const at::Tensor& error,
                                 bool want_input, LayerWeights gradient) const {
  std::vector<at::Tensor> wanted;
  if (want_input) wanted.push_back(tape.saved[1]);
  if (!gradient.empty()) wanted.insert(wanted.end(), tape.saved.begin() + 2, tape.saved.end());
  if (wanted.empty()) return {};
  at::AutoGradMode with_gradient(true);
  const std::vector<at::Tensor> found =
      torch::autograd::grad({tape.saved[0]}, wanted, {error}, /*retain_graph=*/true);
  at::NoGradGuard no_gradient;
  for (size_t i = 0; i < gradient.size(); ++i) gradient[i].add_(found[i + (want_input ? 1 : 0)]);
  return want_input ? found[0] : at::Tensor();
}

}  // namespace longhaul::pcn
