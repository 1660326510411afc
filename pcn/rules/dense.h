// A fully connected layer, with closed-form credit: no autograd graph.
//
// Thread rule: as Layer.
#pragma once

#include "pcn/rules/layer.h"

namespace longhaul::pcn {

struct DenseOptions {
  int64_t in = 0, out = 0;
  Activation activation = Activation::kIdentity;
  // false: mu = c phi(W s + b); true: mu = c (W phi(s) + b).
  bool activation_inside = false;
  bool bias = true;
  double scale = 1;       // c, the multiplier of a parametrisation
  bool skip = false;      // mu += s; needs in == out
  double deviation = -1;  // of W's initial values; negative: 1 / sqrt(3 in), as torch.nn.Linear's
};

// The input may have any shape whose rows hold `in` elements; mu is (rows, out).
class Dense final : public Layer {
 public:
  explicit Dense(const DenseOptions& options);
  const DenseOptions& options() const { return options_; }
  std::vector<ParameterSpec> Parameters() const override;
  at::Tensor Predict(LayerWeights weights, const at::Tensor& in, Tape* tape) const override;
  at::Tensor Credit(LayerWeights weights, const Tape& tape, const at::Tensor& error,
                    bool want_input, LayerWeights gradient) const override;

 private:
  DenseOptions options_;
};

}  // namespace longhaul::pcn
