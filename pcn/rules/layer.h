// What a predictive network is made of: a layer predicts the state above it, and pulls an error
// back to the state below it.
//
//     mu = f(s; theta)      credit = (df/ds)^T e      gradient += (df/dtheta)^T e
//
// Layers hold sizes, never weights: those are passed in as views of one flat vector, so that two
// versions of the weights can live side by side. States are (rows, features) or, between
// convolutions, (rows, channels, height, width); a row is a sample, or a token of one.
//
// Thread rule: a layer is immutable; any number of threads. Everything throws what LibTorch throws.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace longhaul::pcn {

struct ParameterSpec {
  std::string name;            // within its layer
  std::vector<int64_t> shape;  // none is 0
  double deviation = 0;        // of the normal initial values around `centre`
  double centre = 0;
};

// What a prediction keeps so that errors can be pulled back through it. It stays valid until the
// weights that it was made with change; only autograd layers notice when they have (they throw).
struct Tape {
  std::vector<at::Tensor> saved;
};

using LayerWeights = std::span<const at::Tensor>;  // in the order of Layer::Parameters

class Layer {
 public:
  virtual ~Layer() = default;
  virtual std::vector<ParameterSpec> Parameters() const = 0;
  // `tape` may be null: then nothing is kept.
  virtual at::Tensor Predict(LayerWeights weights, const at::Tensor& in, Tape* tape) const = 0;
  // Returns (df/ds)^T error in the shape of the input, undefined when `want_input` is false or the
  // input has no derivative (tokens). Adds (df/dtheta)^T error, summed over rows, to `gradient`
  // unless that is empty. May be called again and again on one tape.
  virtual at::Tensor Credit(LayerWeights weights, const Tape& tape, const at::Tensor& error,
                            bool want_input, LayerWeights gradient) const = 0;
};

// ---- activations ----

enum class Activation { kIdentity, kRelu, kLeakyRelu, kTanh, kGelu, kHardTanh };
inline constexpr double kLeakySlope = 0.01;

at::Tensor Activate(Activation activation, const at::Tensor& x);
// error * phi'(x), where y = Activate(activation, x).
at::Tensor ActivationCredit(Activation activation, const at::Tensor& error, const at::Tensor& x,
                            const at::Tensor& y);

}  // namespace longhaul::pcn
