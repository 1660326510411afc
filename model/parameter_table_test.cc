#include "model/parameter_table.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <tuple>
#include <vector>

#include "common/rng.h"

namespace longhaul {
namespace {

TEST(ParameterTable, NamesShapesAndOrderOfAGroupedQueryModel) {
  LlamaShape s;
  s.vocab_size = 10;
  s.hidden_size = 8;
  s.intermediate_size = 12;
  s.num_hidden_layers = 2;
  s.num_attention_heads = 4;
  s.num_key_value_heads = 2;
  const std::vector<std::tuple<std::string, std::vector<uint64_t>, ParameterClass>> expected = {
      {"model.embed_tokens.weight", {10, 8}, ParameterClass::kEmbedding},
      {"lm_head.weight", {10, 8}, ParameterClass::kHead},
      {"model.norm.weight", {8}, ParameterClass::kNorm},
      {"model.layers.0.input_layernorm.weight", {8}, ParameterClass::kNorm},
      {"model.layers.1.input_layernorm.weight", {8}, ParameterClass::kNorm},
      {"model.layers.0.post_attention_layernorm.weight", {8}, ParameterClass::kNorm},
      {"model.layers.1.post_attention_layernorm.weight", {8}, ParameterClass::kNorm},
      {"model.layers.0.self_attn.q_proj.weight", {8, 8}, ParameterClass::kMatrix},
      {"model.layers.1.self_attn.q_proj.weight", {8, 8}, ParameterClass::kMatrix},
      {"model.layers.0.self_attn.k_proj.weight", {4, 8}, ParameterClass::kMatrix},
      {"model.layers.1.self_attn.k_proj.weight", {4, 8}, ParameterClass::kMatrix},
      {"model.layers.0.self_attn.v_proj.weight", {4, 8}, ParameterClass::kMatrix},
      {"model.layers.1.self_attn.v_proj.weight", {4, 8}, ParameterClass::kMatrix},
      {"model.layers.0.self_attn.o_proj.weight", {8, 8}, ParameterClass::kMatrix},
      {"model.layers.1.self_attn.o_proj.weight", {8, 8}, ParameterClass::kMatrix},
      {"model.layers.0.mlp.gate_proj.weight", {12, 8}, ParameterClass::kMatrix},
      {"model.layers.1.mlp.gate_proj.weight", {12, 8}, ParameterClass::kMatrix},
      {"model.layers.0.mlp.up_proj.weight", {12, 8}, ParameterClass::kMatrix},
      {"model.layers.1.mlp.up_proj.weight", {12, 8}, ParameterClass::kMatrix},
      {"model.layers.0.mlp.down_proj.weight", {8, 12}, ParameterClass::kMatrix},
      {"model.layers.1.mlp.down_proj.weight", {8, 12}, ParameterClass::kMatrix},
  };
  const ParameterTable table = MakeParameterTable(s);
  ASSERT_EQ(table.parameters.size(), expected.size());
  uint64_t offset = 0;
  for (size_t k = 0; k < expected.size(); ++k) {
    const Parameter& p = table.parameters[k];
    EXPECT_EQ(std::tie(p.name, p.shape, p.parameter_class), expected[k]) << p.name;
    EXPECT_EQ(p.offset, offset) << p.name;
    EXPECT_EQ(p.elements, p.shape[0] * (p.shape.size() == 2 ? p.shape[1] : 1));
    const bool inside = p.name.starts_with("model.layers.");
    EXPECT_EQ(p.layer, inside ? p.name[13] - '0' : k == 0 ? -1 : 2) << p.name;
    EXPECT_EQ(p.initial == InitialRule::kOnes, p.parameter_class == ParameterClass::kNorm);
    offset += p.elements;
  }
  EXPECT_EQ(table.elements, offset);
  EXPECT_EQ(ParameterCount(s), offset);

  s.tie_word_embeddings = true;
  const ParameterTable tied = MakeParameterTable(s);
  EXPECT_EQ(tied.parameters[1].name, "model.norm.weight");
  EXPECT_EQ(tied.elements, table.elements - 80);
  EXPECT_EQ(ParameterCount(s), tied.elements);
}

struct Golden {  // from an independent implementation
  const char* preset;
  double sum, norm;
};

TEST(InitialParameters, AgreeWithTheIndependentImplementation) {
  const double first4[] = {0.014326040633022785, 0.0039755613543093204, -0.0009889797074720263,
                           -0.006356236059218645};
  for (const Golden& g : {Golden{"llama-130k", 328.92310984832835, 19.075022708790886},
                          Golden{"llama-670k", 887.1836966924973, 33.18274472790392}}) {
    const std::vector<float> theta =
        InitialParameters(MakeParameterTable(*PresetShape(g.preset)), /*seed=*/1);
    double sum = 0, squares = 0;
    for (float v : theta) sum += v, squares += double{v} * v;
    EXPECT_NEAR(sum, g.sum, 1e-6) << g.preset;
    EXPECT_NEAR(std::sqrt(squares), g.norm, 1e-8) << g.preset;
    for (int i = 0; i < 4; ++i) EXPECT_FLOAT_EQ(theta[i], static_cast<float>(first4[i]));
  }
}

TEST(NormalDraw, AgreesWithTheIndependentImplementation) {
  const double golden[] = {0.7163020135279382, 0.1987780729700601, -0.049448983361000946,
                           -0.31781180222781};
  for (uint64_t i = 0; i < 4; ++i) EXPECT_DOUBLE_EQ(NormalDraw(1, 1, 0, i), golden[i]);
  // The definition, written with Draw alone.
  for (uint64_t i : {0ull, 5ull, 123456789ull}) {
    const double u1 = static_cast<double>((Draw(9, {1, 3, 2 * i}) >> 11) + 1) * 0x1p-53;
    const double u2 = static_cast<double>(Draw(9, {1, 3, 2 * i + 1}) >> 11) * 0x1p-53;
    EXPECT_DOUBLE_EQ(NormalDraw(9, 1, 3, i),
                     std::sqrt(-2 * std::log(u1)) * std::cos(2 * M_PI * u2));
  }
}

TEST(InitialParameters, SeedsDifferNormsAreOne) {
  const ParameterTable table = MakeParameterTable(*PresetShape("llama-130k"));
  const std::vector<float> a = InitialParameters(table, 1), b = InitialParameters(table, 2);
  EXPECT_NE(a, b);
  EXPECT_EQ(a, InitialParameters(table, 1));
  for (const Parameter& p : table.parameters) {
    if (p.parameter_class == ParameterClass::kNorm) {
      for (uint64_t i = 0; i < p.elements; ++i) EXPECT_EQ(a[p.offset + i], 1.0f);
    }
  }
}

}  // namespace
}  // namespace longhaul
