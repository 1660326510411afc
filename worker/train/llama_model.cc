#include "worker/train/llama_model.h"

#include <ATen/ops/embedding.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/repeat_interleave.h>
#include <ATen/ops/scaled_dot_product_attention.h>

namespace longhaul {
namespace {

at::Tensor View(const Parameter& p, const at::Tensor& flat) {
  const std::vector<int64_t> shape(p.shape.begin(), p.shape.end());
  return flat.narrow(0, static_cast<int64_t>(p.offset), static_cast<int64_t>(p.elements))
      .view(shape);
}

// Under autocast linear gives bf16; what turns positions stays in float32.
at::Tensor InFloat32(const at::Tensor& x) { return x.to(at::kFloat); }

// x: (batch · positions, d). Heads are (batch, positions, heads, h) until attention wants
// (batch, heads, positions, h).
at::Tensor Attention(const LlamaShape& s, const LlamaLayerWeights& w, const RotaryTable& rotary,
                     const at::Tensor& x, int64_t batch, int64_t positions) {
  const int64_t h = s.head_size();
  auto heads = [&](const at::Tensor& weight) {
    return at::linear(x, weight).view({batch, positions, -1, h});
  };
  const at::Tensor q = Rotate(InFloat32(heads(w.q)), rotary).transpose(1, 2);
  at::Tensor k = Rotate(InFloat32(heads(w.k)), rotary).transpose(1, 2);
  at::Tensor v = InFloat32(heads(w.v)).transpose(1, 2);
  const int64_t group = s.num_attention_heads / s.num_key_value_heads;
  if (group > 1) {  // query head i reads key head i / group
    k = at::repeat_interleave(k, group, 1);
    v = at::repeat_interleave(v, group, 1);
  }
  const at::Tensor mixed =
      at::scaled_dot_product_attention(q, k, v, {}, /*dropout_p=*/0.0, /*is_causal=*/true);
  return at::linear(mixed.transpose(1, 2).reshape({batch * positions, s.hidden_size}), w.o);
}

at::Tensor Mlp(const LlamaLayerWeights& w, const at::Tensor& x) {
  return at::linear(SwiGlu(at::linear(x, w.gate), at::linear(x, w.up)), w.down);
}

}  // namespace

LlamaWeights ViewWeights(const LlamaShape& shape, const ParameterTable& table,
                         const at::Tensor& flat, const at::Tensor* flat_gradient,
                         const UseLeaf& use) {
  size_t next = 0;
  auto take = [&] {
    const Parameter& p = table.parameters[next++];
    at::Tensor view = View(p, flat).detach();
    if (flat_gradient != nullptr) {
      view.set_requires_grad(true);
      view.mutable_grad() = View(p, *flat_gradient);
      if (use) use(next - 1, view);
    }
    return view;
  };
  LlamaWeights w;
  w.embedding = take();
  w.head = shape.tie_word_embeddings ? w.embedding : take();
  w.final_norm = take();
  w.layers.resize(shape.num_hidden_layers);
  using Layer = LlamaLayerWeights;
  for (at::Tensor Layer::*member : {&Layer::attention_norm, &Layer::mlp_norm, &Layer::q, &Layer::k,
                                    &Layer::v, &Layer::o, &Layer::gate, &Layer::up, &Layer::down}) {
    for (Layer& layer : w.layers) layer.*member = take();
  }
  return w;
}

at::Tensor LlamaBlock(const LlamaShape& shape, const LlamaLayerWeights& w,
                      const RotaryTable& rotary, const at::Tensor& x, int64_t positions) {
  const at::Tensor normed = RmsNorm(x, w.attention_norm, shape.rms_norm_eps);
  const at::Tensor middle =
      x.add(Attention(shape, w, rotary, normed, x.size(0) / positions, positions));
  return middle.add(Mlp(w, RmsNorm(middle, w.mlp_norm, shape.rms_norm_eps)));
}

at::Tensor LlamaLogits(const LlamaShape& shape, const LlamaWeights& weights,
                       const RotaryTable& rotary, const at::Tensor& tokens) {
  const int64_t positions = tokens.size(1);
  const RotaryTable used = {rotary.cosine.narrow(0, 0, positions),
                            rotary.sine.narrow(0, 0, positions)};
  at::Tensor x = at::embedding(weights.embedding, tokens.reshape({-1}));
  for (const LlamaLayerWeights& w : weights.layers) x = LlamaBlock(shape, w, used, x, positions);
  return at::linear(RmsNorm(x, weights.final_norm, shape.rms_norm_eps), weights.head);
}

}  // namespace longhaul
