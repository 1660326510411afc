#include "bench/bare_llama.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/rms_norm.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <cmath>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "common/check.h"
#include "model/parameter_table.h"

namespace longhaul {
namespace {

constexpr int64_t kIgnored = -100;

struct Layer {
  at::Tensor attention_norm, q, k, v, o, mlp_norm, gate, up, down;
};

// Parameters with the same weight decay, and AdamW's state for each.
struct Group {
  double weight_decay = 0;
  std::vector<at::Tensor> parameters, first, second, steps;

  void Add(const at::Tensor& parameter) {
    parameters.push_back(parameter);
    first.push_back(at::zeros_like(parameter).detach());
    second.push_back(at::zeros_like(parameter).detach());
    steps.push_back(at::zeros({}, at::kFloat));
  }

  void Step(const BareRates& r) {
    std::vector<at::Tensor> gradients;
    for (const at::Tensor& p : parameters) gradients.push_back(p.grad());
    at::_foreach_add_(steps, 1);
    at::_fused_adamw_(parameters, gradients, first, second, {}, steps, r.learning_rate, r.beta1,
                      r.beta2, weight_decay, r.epsilon, /*amsgrad=*/false, /*maximize=*/false);
  }
};

at::Tensor RotateHeads(const at::Tensor& x, const at::Tensor& cosine, const at::Tensor& sine) {
  const std::vector<at::Tensor> halves = x.chunk(2, -1);
  return x.mul(cosine).add(at::cat({halves[1].neg(), halves[0]}, -1).mul(sine));
}

// (length, head size): each angle twice, as the half-split rotation wants it.
std::pair<at::Tensor, at::Tensor> RotaryAngles(int64_t length, int64_t head_size, double theta) {
  std::vector<float> cosine, sine;
  for (int64_t t = 0; t < length; ++t) {
    for (int64_t i = 0; i < head_size; ++i) {
      const double frequency =
          std::pow(theta, -2.0 * static_cast<double>(i % (head_size / 2)) / double(head_size));
      cosine.push_back(static_cast<float>(std::cos(static_cast<double>(t) * frequency)));
      sine.push_back(static_cast<float>(std::sin(static_cast<double>(t) * frequency)));
    }
  }
  auto tensor = [&](std::vector<float>& v) {
    return at::from_blob(v.data(), {length, head_size}, at::kFloat).clone();
  };
  return {tensor(cosine), tensor(sine)};
}

at::Tensor Tokens(std::span<const int64_t> values, at::IntArrayRef sizes) {
  return at::from_blob(const_cast<int64_t*>(values.data()), sizes, at::kLong).clone();
}

}  // namespace

struct BareLlama::State {
  LlamaShape shape;
  BareRates rates;
  at::Tensor inputs, targets, cosine, sine;
  at::Tensor embedding, head, norm;
  std::vector<Layer> layers;
  Group matrices, vectors;

  at::Tensor Leaf(const ParameterTable& table, std::span<const float> flat,
                  const std::string& name) {
    for (const Parameter& p : table.parameters) {
      if (p.name != name) continue;
      const std::vector<int64_t> sizes(p.shape.begin(), p.shape.end());
      at::Tensor leaf = at::from_blob(const_cast<float*>(&flat[p.offset]), sizes, at::kFloat)
                            .clone()
                            .set_requires_grad(true);
      (sizes.size() == 2 ? matrices : vectors).Add(leaf);
      return leaf;
    }
    LONGHAUL_CHECK(false, "the model has no such parameter");
    return {};
  }

  at::Tensor Norm(const at::Tensor& x, const at::Tensor& weight) const {
    return at::rms_norm(x, weight.sizes(), weight, shape.rms_norm_eps);
  }

  at::Tensor Attention(const Layer& w, const at::Tensor& x) const {
    const int64_t batch = x.size(0), length = x.size(1), h = shape.head_size();
    auto heads = [&](const at::Tensor& weight) {
      return at::linear(x, weight).view({batch, length, -1, h}).transpose(1, 2);
    };
    const at::Tensor q = RotateHeads(heads(w.q), cosine, sine);
    const at::Tensor k = RotateHeads(heads(w.k), cosine, sine);
    const bool grouped = shape.num_attention_heads != shape.num_key_value_heads;
    const at::Tensor mixed = at::scaled_dot_product_attention(q, k, heads(w.v), {}, 0.0,
                                                              /*is_causal=*/true, {}, grouped);
    return at::linear(mixed.transpose(1, 2).reshape({batch, length, -1}), w.o);
  }

  at::Tensor Loss() const {
    at::Tensor x = at::embedding(embedding, inputs);
    for (const Layer& w : layers) {
      x = x.add(Attention(w, Norm(x, w.attention_norm)));
      const at::Tensor y = Norm(x, w.mlp_norm);
      x = x.add(at::linear(at::silu(at::linear(y, w.gate)).mul(at::linear(y, w.up)), w.down));
    }
    const at::Tensor logits = at::linear(Norm(x, norm), head);
    return at::cross_entropy_loss(logits.view({-1, logits.size(-1)}), targets, {},
                                  at::Reduction::Mean, kIgnored);
  }

  void Clip() {
    std::vector<at::Tensor> norms;
    for (const Group* group : {&matrices, &vectors}) {
      for (const at::Tensor& p : group->parameters) {
        norms.push_back(at::linalg_vector_norm(p.grad()));
      }
    }
    const at::Tensor total = at::linalg_vector_norm(at::stack(norms));
    const at::Tensor scale = total.add(1e-6).reciprocal().mul(rates.max_grad_norm).clamp_max(1.0);
    for (const Group* group : {&matrices, &vectors}) {
      for (const at::Tensor& p : group->parameters) p.grad().mul_(scale);
    }
  }
};

BareLlama::BareLlama(const LlamaShape& shape, std::span<const float> parameters,
                     const BareRates& rates, std::span<const int64_t> inputs,
                     std::span<const int64_t> targets, int64_t length)
    : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.shape = shape;
  s.rates = rates;
  s.matrices.weight_decay = rates.weight_decay;
  s.inputs = Tokens(inputs, {static_cast<int64_t>(inputs.size()) / length, length});
  s.targets = Tokens(targets, {static_cast<int64_t>(targets.size())});
  std::tie(s.cosine, s.sine) = RotaryAngles(length, shape.head_size(), shape.rope_theta);
  const ParameterTable table = MakeParameterTable(shape);
  auto leaf = [&](const std::string& name) { return s.Leaf(table, parameters, name + ".weight"); };
  s.embedding = leaf("model.embed_tokens");
  s.head = shape.tie_word_embeddings ? s.embedding : leaf("lm_head");
  s.norm = leaf("model.norm");
  for (uint32_t i = 0; i < shape.num_hidden_layers; ++i) {
    const std::string at = "model.layers." + std::to_string(i) + ".";
    s.layers.push_back({leaf(at + "input_layernorm"), leaf(at + "self_attn.q_proj"),
                        leaf(at + "self_attn.k_proj"), leaf(at + "self_attn.v_proj"),
                        leaf(at + "self_attn.o_proj"), leaf(at + "post_attention_layernorm"),
                        leaf(at + "mlp.gate_proj"), leaf(at + "mlp.up_proj"),
                        leaf(at + "mlp.down_proj")});
  }
}

BareLlama::~BareLlama() = default;

double BareLlama::Step() {
  State& s = *state_;
  for (const Group* group : {&s.matrices, &s.vectors}) {
    for (const at::Tensor& p : group->parameters) p.mutable_grad().reset();
  }
  const at::Tensor loss = s.Loss();
  loss.backward();
  at::NoGradGuard no_gradient;
  s.Clip();
  s.matrices.Step(s.rates);
  s.vectors.Step(s.rates);
  return loss.item<float>();
}

}  // namespace longhaul
