#include "model/parameter_table.h"

#include <cmath>
#include <numbers>

#include "absl/strings/str_cat.h"
#include "common/rng.h"

namespace longhaul {
namespace {

constexpr uint64_t kInitialStream = 1;
constexpr double kStandardDeviation = 0.02;

class TableBuilder {
 public:
  void Norm(const std::string& name, uint64_t size, int32_t layer) {
    Add({name, {size}, ParameterClass::kNorm, 0, 0, InitialRule::kOnes, 0, layer});
  }
  void Matrix(const std::string& name, uint64_t rows, uint64_t columns, ParameterClass kind,
              double standard_deviation, int32_t layer) {
    Add({name, {rows, columns}, kind, 0, 0, InitialRule::kNormal, standard_deviation, layer});
  }
  void Bias(const std::string& name, uint64_t size, int32_t layer) {
    Add({name, {size}, ParameterClass::kNorm, 0, 0, InitialRule::kNormal, 0, layer});
  }
  ParameterTable Take() { return std::move(table_); }

 private:
  void Add(Parameter p) {
    p.offset = table_.elements;
    p.elements = 1;
    for (uint64_t size : p.shape) p.elements *= size;
    table_.elements += p.elements;
    table_.parameters.push_back(std::move(p));
  }
  ParameterTable table_;
};

struct LayerMatrix {
  const char* name;
  uint64_t rows, columns;
  bool residual;  // writes to the residual stream
};

std::string LayerName(int32_t layer, const char* what) {
  return absl::StrCat("model.layers.", layer, ".", what, ".weight");
}

// Box-Muller on the counter 2i, 2i + 1 below a chain of indices.
double NormalBelow(uint64_t prefix, uint64_t i) {
  const uint64_t a = Mix(prefix + (2 * i + 1) * kGoldenGamma);
  const uint64_t b = Mix(prefix + (2 * i + 2) * kGoldenGamma);
  const double u1 = static_cast<double>((a >> 11) + 1) * 0x1p-53;
  const double u2 = static_cast<double>(b >> 11) * 0x1p-53;
  return std::sqrt(-2.0 * std::log(u1)) * std::cos(2.0 * std::numbers::pi * u2);
}

ParameterTable DenseTable(const std::vector<uint32_t>& sizes) {
  TableBuilder table;
  for (size_t i = 1; i < sizes.size(); ++i) {
    const auto layer = static_cast<int32_t>(i - 1);
    const uint64_t in = sizes[i - 1], out = sizes[i];
    table.Matrix(LayerName(layer, "dense"), out, in, ParameterClass::kMatrix,
                 1 / std::sqrt(static_cast<double>(in)), layer);
    table.Bias(absl::StrCat("model.layers.", layer, ".dense.bias"), out, layer);
  }
  return table.Take();
}

}  // namespace

ParameterTable MakeParameterTable(const LlamaShape& s) {
  if (!s.dense.empty()) return DenseTable(s.dense);
  const uint64_t d = s.hidden_size;
  const uint64_t kv = s.key_value_size();
  const uint64_t ffn = s.intermediate_size;
  const auto layers = static_cast<int32_t>(s.num_hidden_layers);
  TableBuilder table;
  table.Matrix("model.embed_tokens.weight", s.vocab_size, d, ParameterClass::kEmbedding,
               kStandardDeviation, -1);
  if (!s.tie_word_embeddings) {
    table.Matrix("lm_head.weight", s.vocab_size, d, ParameterClass::kHead, kStandardDeviation,
                 layers);
  }
  table.Norm("model.norm.weight", d, layers);
  for (const char* norm : {"input_layernorm", "post_attention_layernorm"}) {
    for (int32_t l = 0; l < layers; ++l) table.Norm(LayerName(l, norm), d, l);
  }
  const LayerMatrix matrices[] = {
      {"self_attn.q_proj", d, d, false},  {"self_attn.k_proj", kv, d, false},
      {"self_attn.v_proj", kv, d, false}, {"self_attn.o_proj", d, d, true},
      {"mlp.gate_proj", ffn, d, false},   {"mlp.up_proj", ffn, d, false},
      {"mlp.down_proj", d, ffn, true},
  };
  const double residual_deviation = kStandardDeviation / std::sqrt(2.0 * s.num_hidden_layers);
  for (const LayerMatrix& m : matrices) {
    for (int32_t l = 0; l < layers; ++l) {
      table.Matrix(LayerName(l, m.name), m.rows, m.columns, ParameterClass::kMatrix,
                   m.residual ? residual_deviation : kStandardDeviation, l);
    }
  }
  return table.Take();
}

double NormalDraw(uint64_t seed, uint64_t stream, uint64_t tensor, uint64_t i) {
  return NormalBelow(Draw(seed, {stream, tensor}), i);
}

std::vector<float> InitialParameters(const ParameterTable& table, uint64_t seed) {
  std::vector<float> values(table.elements, 1.0f);
  for (size_t k = 0; k < table.parameters.size(); ++k) {
    const Parameter& p = table.parameters[k];
    if (p.initial == InitialRule::kOnes) continue;
    const uint64_t prefix = Draw(seed, {kInitialStream, k});
    for (uint64_t i = 0; i < p.elements; ++i) {
      values[p.offset + i] = static_cast<float>(p.standard_deviation * NormalBelow(prefix, i));
    }
  }
  return values;
}

}  // namespace longhaul
