// A layer whose interior is exact reverse-mode differentiation by LibTorch's engine: write the
// forward pass, get the credit.
//
// Thread rule: as Layer. A tape holds the graph until it goes; weights changed in place since the
// prediction make Credit throw.
#pragma once

#include "pcn/rules/layer.h"

namespace longhaul::pcn {

class AutogradLayer : public Layer {
 public:
  at::Tensor Predict(LayerWeights weights, const at::Tensor& in, Tape* tape) const final;
  at::Tensor Credit(LayerWeights weights, const Tape& tape, const at::Tensor& error,
                    bool want_input, LayerWeights gradient) const final;

 protected:
  // Differentiable operators only.
  virtual at::Tensor Forward(LayerWeights weights, const at::Tensor& in) const = 0;
};

}  // namespace longhaul::pcn
