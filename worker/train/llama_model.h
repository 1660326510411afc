// The forward pass of a Llama model on single LibTorch operators. Any device; differentiable when
// the weights require gradients.
//
// Thread rule: as for LibTorch's operators. They throw what LibTorch throws.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

#include "model/llama.h"
#include "model/parameter_table.h"
#include "worker/train/layers.h"

namespace longhaul {

struct LlamaLayerWeights {
  at::Tensor attention_norm, mlp_norm, q, k, v, o, gate, up, down;
};

struct LlamaWeights {
  at::Tensor embedding, head, final_norm;  // head is the embedding when tied
  std::vector<LlamaLayerWeights> layers;
};

// Views into a flat vector in the table's order; they share its memory. With `flat_gradient` (as
// long as `flat`) each view is a leaf that requires a gradient, accumulated in place there; `use`,
// if any, is called for each, with its place in the table.
using UseLeaf = std::function<void(size_t parameter, const at::Tensor& leaf)>;
LlamaWeights ViewWeights(const LlamaShape& shape, const ParameterTable& table,
                         const at::Tensor& flat, const at::Tensor* flat_gradient,
                         const UseLeaf& use = {});

// One layer: attention and MLP, each after its norm and with its skip. x: (batch · positions, d),
// contiguous; the rotary table has exactly `positions` positions.
at::Tensor LlamaBlock(const LlamaShape& shape, const LlamaLayerWeights& weights,
                      const RotaryTable& rotary, const at::Tensor& x, int64_t positions);

// tokens: (batch, positions), int64, below the vocabulary size. The rotary table has at least as
// many positions. Returns the logits, (batch · positions, vocab_size).
at::Tensor LlamaLogits(const LlamaShape& shape, const LlamaWeights& weights,
                       const RotaryTable& rotary, const at::Tensor& tokens);

}  // namespace longhaul
