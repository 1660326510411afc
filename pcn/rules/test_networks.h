// Problems that several tests of this folder share. Double precision, values from the project's own
// draws.
//
// Thread rule: free functions; any thread.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/zeros_like.h>

#include <vector>

#include "common/rng.h"
#include "pcn/rules/builders.h"
#include "pcn/rules/inference.h"

namespace longhaul::pcn {

// Uniform in [-size, size).
inline at::Tensor RandomTensor(at::IntArrayRef shape, uint64_t seed, double size = 1,
                               at::ScalarType type = at::kDouble) {
  at::Tensor out = at::empty(shape, at::kDouble);
  double* values = out.mutable_data_ptr<double>();
  for (int64_t i = 0; i < out.numel(); ++i) {
    values[i] =
        size * (static_cast<double>(Draw(seed, {static_cast<uint64_t>(i)}) >> 11) * 0x1p-52 - 1);
  }
  return out.to(type);
}

inline double Norm(const at::Tensor& x) { return at::linalg_vector_norm(x).item<double>(); }
// |a - b| / |b|
inline double RelativeDifference(const at::Tensor& a, const at::Tensor& b) {
  return Norm(a.sub(b)) / Norm(b);
}
inline double Cosine(const at::Tensor& a, const at::Tensor& b) {
  return a.mul(b).sum().item<double>() / (Norm(a) * Norm(b));
}

// A network with weights, a batch, and backprop's errors and mean gradient for it.
struct Problem {
  Problem(Network n, int64_t rows, uint64_t seed, OutputLoss l = OutputLoss::kSquared)
      : network(std::move(n)),
        weights(network.View(network.InitialParameters(seed, at::kDouble))),
        loss(l) {
    Fill(rows, seed);
  }
  void Fill(int64_t rows, uint64_t seed) {
    const int64_t in = network.layer(0).Parameters()[0].shape[1];
    input = RandomTensor({rows, in}, seed + 1);
    const at::Tensor out = network.Predict(weights, input);
    target = RandomTensor(out.sizes(), seed + 2);
    if (loss == OutputLoss::kCrossEntropy) target = target.abs().div(target.abs().sum(1, true));
  }
  Output output(double weight = 1) const { return {loss, target, weight}; }
  AnchoredCredit Backprop() const {
    AnchoredCredit credit(network, weights, input, output());
    credit.Solve();
    return credit;
  }

  Network network;
  Weights weights;
  OutputLoss loss;
  at::Tensor input, target;
};

// The gradient of one layer for these errors, summed over rows, flat.
inline at::Tensor LayerGradient(const Problem& p, const Inference& inference, size_t l,
                                double scale = 1) {
  const Weights gradient = p.network.View(at::zeros_like(p.weights.flat));
  inference.AddLayerGradient(l, scale, gradient);
  return gradient.flat;
}
inline at::Tensor FullGradient(const Problem& p, const Inference& inference, double scale = 1) {
  const Weights gradient = p.network.View(at::zeros_like(p.weights.flat));
  for (size_t l = 0; l < inference.depth(); ++l) inference.AddLayerGradient(l, scale, gradient);
  return gradient.flat;
}

}  // namespace longhaul::pcn
