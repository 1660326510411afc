// The two layers of a token network: an embedding, and a transformer block whose interior is exact
// reverse-mode differentiation. Their states are (rows, width), a row being one token.
//
// Thread rule: as Layer.
#pragma once

#include "pcn/rules/autograd_layer.h"

namespace longhaul::pcn {

struct EmbeddingOptions {
  int64_t vocabulary = 0, positions = 0, width = 0;
};

// mu = E[token] + P[position]. The input: int64 tokens, whole sequences of `positions`, any shape.
class Embedding final : public Layer {
 public:
  explicit Embedding(const EmbeddingOptions& options);
  std::vector<ParameterSpec> Parameters() const override;
  at::Tensor Predict(LayerWeights weights, const at::Tensor& in, Tape* tape) const override;
  at::Tensor Credit(LayerWeights weights, const Tape& tape, const at::Tensor& error,
                    bool want_input, LayerWeights gradient) const override;

 private:
  EmbeddingOptions options_;
};

struct TransformerBlockOptions {
  int64_t width = 0, heads = 1, positions = 0;
  int64_t hidden = 0;  // of the inner MLP
  double residual_deviation = 0.02;
};

// x + attention(norm(x)), then + mlp(norm(.)): causal attention, RMS norms, GELU, no biases.
class TransformerBlock final : public AutogradLayer {
 public:
  explicit TransformerBlock(const TransformerBlockOptions& options);
  std::vector<ParameterSpec> Parameters() const override;

 private:
  at::Tensor Forward(LayerWeights weights, const at::Tensor& x) const override;
  TransformerBlockOptions options_;
};

}  // namespace longhaul::pcn
