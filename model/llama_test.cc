#include "model/llama.h"

#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "model/parameter_table.h"

namespace longhaul {
namespace {

TEST(LlamaShape, PresetsAreValidAndAsLargeAsTheirNames) {
  for (const std::string& name : PresetNames()) {
    absl::StatusOr<LlamaShape> shape = PresetShape(name);
    ASSERT_TRUE(shape.ok()) << name;
    EXPECT_TRUE(ValidateShape(*shape).ok()) << name << ValidateShape(*shape);
    double promised = std::stod(name.substr(6));  // "llama-10m" -> 10
    promised *= name.back() == 'k' ? 1e3 : name.back() == 'm' ? 1e6 : 1e9;
    const double ratio = static_cast<double>(ParameterCount(*shape)) / promised;
    EXPECT_GT(ratio, 0.9) << name << " " << ParameterCount(*shape);
    EXPECT_LT(ratio, 1.1) << name << " " << ParameterCount(*shape);
    EXPECT_EQ(ParameterCount(*shape), MakeParameterTable(*shape).elements) << name;
  }
  EXPECT_EQ(ParameterCount(*PresetShape("llama-130k")), 133440u);
  EXPECT_EQ(ParameterCount(*PresetShape("llama-670k")), 668544u);
  EXPECT_EQ(PresetShape("llama-7").status().code(), absl::StatusCode::kNotFound);
}

TEST(LlamaShape, ConfigJsonRoundTrip) {
  for (const std::string& name : PresetNames()) {
    LlamaShape shape = *PresetShape(name);
    shape.tie_word_embeddings = name == "llama-1m";
    shape.rms_norm_eps = 1e-6;
    shape.rope_theta = 500000.0;
    absl::StatusOr<LlamaShape> back = FromConfigJson(ToConfigJson(shape));
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_EQ(*back, shape);
  }
}

TEST(LlamaShape, AChainOfDenseLayers) {
  const absl::StatusOr<LlamaShape> shape = PresetShape("dense:784,24,10");
  ASSERT_TRUE(shape.ok()) << shape.status();
  EXPECT_EQ(shape->dense, (std::vector<uint32_t>{784, 24, 10}));
  EXPECT_TRUE(ValidateShape(*shape).ok());
  EXPECT_EQ(ParameterCount(*shape), 785u * 24 + 25 * 10);
  const absl::StatusOr<LlamaShape> back = FromConfigJson(ToConfigJson(*shape));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(*back, *shape);
  const ParameterTable table = MakeParameterTable(*shape);
  EXPECT_EQ(table.elements, ParameterCount(*shape));
  ASSERT_EQ(table.parameters.size(), 4u);
  EXPECT_EQ(table.parameters[0].shape, (std::vector<uint64_t>{24, 784}));
  EXPECT_EQ(table.parameters[1].name, "model.layers.0.dense.bias");
  EXPECT_EQ(table.parameters[3].offset, table.elements - 10);
  EXPECT_EQ(InitialParameters(table, 1).back(), 0);  // biases begin with 0
}

TEST(LlamaShape, RefusesDenseLayersThatMakeNoModel) {
  for (const char* name : {"dense:", "dense:5,x", "dense:5,,6", "dense:-1,5"}) {
    EXPECT_EQ(PresetShape(name).status().code(), absl::StatusCode::kInvalidArgument) << name;
  }
  for (const char* name : {"dense:5", "dense:5,0", "dense:70000,5"}) {
    const absl::StatusOr<LlamaShape> shape = PresetShape(name);
    ASSERT_TRUE(shape.ok()) << name;
    EXPECT_FALSE(ValidateShape(*shape).ok()) << name;
  }
  for (const char* dense : {"[5]", "[5,0]", "[5,-1]", "5", "[5,1.5]", "[5,\"6\"]"}) {
    const std::string json =
        absl::StrCat(R"({"model_type": "longhaul-dense", "dense": )", dense, "}");
    EXPECT_FALSE(FromConfigJson(json).ok()) << dense;
  }
}

// As published for a small Llama; has keys that we do not use.
constexpr char kPublished[] = R"({
  "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
  "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 576,
  "initializer_range": 0.041666666666666664, "intermediate_size": 1536,
  "max_position_embeddings": 8192, "mlp_bias": false, "model_type": "llama",
  "num_attention_heads": 9, "num_hidden_layers": 30, "num_key_value_heads": 3,
  "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_interleaved": false, "rope_scaling": null,
  "rope_theta": 100000, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
  "use_cache": true, "vocab_size": 49152})";

TEST(LlamaShape, ReadsAPublishedConfig) {
  absl::StatusOr<LlamaShape> shape = FromConfigJson(kPublished);
  ASSERT_TRUE(shape.ok()) << shape.status();
  EXPECT_EQ(shape->hidden_size, 576u);
  EXPECT_EQ(shape->num_key_value_heads, 3u);
  EXPECT_EQ(shape->rope_theta, 100000.0);
  EXPECT_TRUE(shape->tie_word_embeddings);
  EXPECT_EQ(shape->max_position, 8192u);
  EXPECT_EQ(ParameterCount(*shape), 134515008u);
}

TEST(LlamaShape, ReadsNestedRopeParameters) {
  std::string text = absl::StrReplaceAll(
      kPublished, {{"\"rope_theta\": 100000",
                    "\"rope_parameters\": {\"rope_theta\": 250000, \"rope_type\": \"default\"}"}});
  EXPECT_EQ(FromConfigJson(text)->rope_theta, 250000.0);
  text = absl::StrReplaceAll(text, {{"\"default\"", "\"llama3\""}});
  EXPECT_FALSE(FromConfigJson(text).ok());
}

TEST(LlamaShape, RefusesWithTheReason) {
  struct {
    const char *from, *to, *reason;
  } cases[] = {
      {"LlamaForCausalLM", "MistralForCausalLM", "only LlamaForCausalLM"},
      {"\"llama\"", "\"mistral\"", "only llama"},
      {"\"vocab_size\": 49152", "\"vocab\": 1", "\"vocab_size\" is missing"},
      {"\"vocab_size\": 49152", "\"vocab_size\": 128256", "at most 65536"},
      {"\"vocab_size\": 49152", "\"vocab_size\": -5", "not a whole number"},
      {"\"hidden_size\": 576", "\"hidden_size\": 577", "multiple of num_attention_heads"},
      {"\"hidden_size\": 576", "\"hidden_size\": \"576\"", "not a whole number"},
      {"\"hidden_size\": 576", "\"hidden_size\": 0", "must not be 0"},
      {"\"num_key_value_heads\": 3", "\"num_key_value_heads\": 2", "num_key_value_heads"},
      {"\"num_key_value_heads\": 3", "\"num_key_value_heads\": 0", "must not be 0"},
      {"\"num_attention_heads\": 9", "\"num_attention_heads\": 576", "must be even"},
      {"\"num_hidden_layers\": 30", "\"num_hidden_layers\": 99999", "at most"},
      {"\"silu\"", "\"gelu\"", "hidden_act"},
      {"\"attention_bias\": false", "\"attention_bias\": true", "attention_bias"},
      {"\"mlp_bias\": false", "\"mlp_bias\": 1", "mlp_bias"},
      {"\"rope_scaling\": null", "\"rope_scaling\": {\"factor\": 8}", "rope_scaling"},
      {"\"rope_theta\": 100000", "\"rope_theta\": -1", "rope_theta"},
      {"\"rms_norm_eps\": 1e-05", "\"rms_norm_eps\": 0", "rms_norm_eps"},
      {"\"pretraining_tp\": 1", "\"head_dim\": 128", "head_dim"},
      {"\"pretraining_tp\": 1", "\"vocab_size\": 7", "twice"},
      {"\"vocab_size\": 49152}", "\"vocab_size\": 49152", "not valid JSON"},
  };
  for (const auto& c : cases) {
    absl::StatusOr<LlamaShape> shape =
        FromConfigJson(absl::StrReplaceAll(kPublished, {{c.from, c.to}}));
    ASSERT_FALSE(shape.ok()) << c.to;
    EXPECT_EQ(shape.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(std::string(shape.status().message()).find(c.reason), std::string::npos)
        << c.to << " -> " << shape.status();
  }
  EXPECT_FALSE(FromConfigJson("").ok());
  EXPECT_FALSE(FromConfigJson("[]").ok());
  EXPECT_FALSE(FromConfigJson("{}").ok());
  EXPECT_FALSE(FromConfigJson(std::string(100000, '[')).ok());
  EXPECT_FALSE(FromConfigJson(std::string(2 << 20, ' ')).ok());
}

}  // namespace
}  // namespace longhaul
