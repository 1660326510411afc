#include "pcn/rules/transformer.h"

#include <ATen/ops/embedding.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/rms_norm.h>
#include <ATen/ops/scaled_dot_product_attention.h>

#include "common/check.h"

namespace longhaul::pcn {
namespace {

constexpr double kDeviation = 0.02;
// States of size 1: a norm that follows smaller ones would stretch the energy's Hessian.
constexpr double kEmbeddingDeviation = 0.7;
constexpr double kNormEpsilon = 1e-5;

}  // namespace

Embedding::Embedding(const EmbeddingOptions& options) : options_(options) {
  LONGHAUL_CHECK(options.vocabulary > 0 && options.positions > 0 && options.width > 0,
                 "an embedding without features");
}

std::vector<ParameterSpec> Embedding::Parameters() const {
  return {{"tokens", {options_.vocabulary, options_.width}, kEmbeddingDeviation},
          {"positions", {options_.positions, options_.width}, kEmbeddingDeviation}};
}

at::Tensor Embedding::Predict(LayerWeights weights, const at::Tensor& in, Tape* tape) const {
  const at::Tensor tokens = in.reshape({-1, options_.positions});
  if (tape != nullptr) tape->saved = {tokens.reshape({-1})};
  return at::embedding(weights[0], tokens).add(weights[1]).view({-1, options_.width});
}

at::Tensor Embedding::Credit(LayerWeights, const Tape& tape, const at::Tensor& error, bool,
                             LayerWeights gradient) const {
  if (!gradient.empty()) {
    gradient[0].index_add_(0, tape.saved[0], error);
    gradient[1].add_(error.view({-1, options_.positions, options_.width}).sum(0));
  }
  return {};
}

TransformerBlock::TransformerBlock(const TransformerBlockOptions& options) : options_(options) {
  LONGHAUL_CHECK(options.width > 0 && options.positions > 0 && options.hidden > 0 &&
                     options.heads > 0 && options.width % options.heads == 0,
                 "a transformer block needs a width that its heads divide");
}

std::vector<ParameterSpec> TransformerBlock::Parameters() const {
  const int64_t d = options_.width, h = options_.hidden;
  return {{"attention_norm", {d}, 0, 1},
          {"query_key_value", {3 * d, d}, kDeviation},
          {"attention_out", {d, d}, options_.residual_deviation},
          {"mlp_norm", {d}, 0, 1},
          {"mlp_up", {h, d}, kDeviation},
          {"mlp_down", {d, h}, options_.residual_deviation}};
}

at::Tensor TransformerBlock::Forward(LayerWeights w, const at::Tensor& x) const {
  const int64_t d = options_.width, t = options_.positions, heads = options_.heads;
  const at::Tensor parts = at::linear(at::rms_norm(x, {d}, w[0], kNormEpsilon), w[1])
                               .view({-1, t, 3, heads, d / heads})
                               .permute({2, 0, 3, 1, 4});
  const at::Tensor mixed = at::scaled_dot_product_attention(
      parts.select(0, 0), parts.select(0, 1), parts.select(0, 2), {}, /*dropout_p=*/0.0,
      /*is_causal=*/true);
  const at::Tensor middle = x.add(at::linear(mixed.transpose(1, 2).reshape({-1, d}), w[2]));
  const at::Tensor up = at::gelu(at::linear(at::rms_norm(middle, {d}, w[3], kNormEpsilon), w[4]));
  return middle.add(at::linear(up, w[5]));
}

}  // namespace longhaul::pcn
