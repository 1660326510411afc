#include "model/llama.h"

#include <cmath>
#include <initializer_list>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/status_macros.h"
#include "model/strict_json.h"

namespace longhaul {
namespace {

using Json = nlohmann::json;

struct Preset {
  const char* name;
  uint32_t hidden_size, intermediate_size, layers, heads, key_value_heads;
};

// The number in the name counts parameters. Widths of SwiGLU are 8/3 of the hidden size, rounded up
// to a multiple of 16.
constexpr Preset kPresets[] = {
    {"llama-130k", 64, 176, 2, 2, 2},      {"llama-670k", 128, 352, 3, 4, 4},
    {"llama-1m", 160, 432, 3, 5, 5},       {"llama-10m", 384, 1024, 6, 6, 6},
    {"llama-30m", 512, 1376, 9, 8, 8},     {"llama-100m", 768, 2048, 14, 12, 12},
    {"llama-300m", 1024, 2736, 24, 16, 8}, {"llama-1b", 2048, 5472, 22, 16, 8},
};

absl::Status Bad(const std::string& field, const std::string& reason) {
  return absl::InvalidArgumentError(absl::StrCat("model: ", field, " ", reason));
}

absl::Status CheckSize(const char* field, uint64_t value, uint64_t max) {
  if (value == 0) return Bad(field, "must not be 0");
  if (value > max) return Bad(field, absl::StrCat("is ", value, ", at most ", max, " is possible"));
  return absl::OkStatus();
}

absl::Status CheckHeads(const LlamaShape& s) {
  RETURN_IF_ERROR(CheckSize("num_attention_heads", s.num_attention_heads, s.hidden_size));
  RETURN_IF_ERROR(CheckSize("num_key_value_heads", s.num_key_value_heads, s.num_attention_heads));
  if (s.hidden_size % s.num_attention_heads != 0) {
    return Bad("hidden_size",
               absl::StrCat("(", s.hidden_size, ") must be a multiple of num_attention_heads (",
                            s.num_attention_heads, ")"));
  }
  if (s.num_attention_heads % s.num_key_value_heads != 0) {
    return Bad("num_attention_heads", absl::StrCat("(", s.num_attention_heads,
                                                   ") must be a multiple of num_key_value_heads (",
                                                   s.num_key_value_heads, ")"));
  }
  if (s.head_size() % 2 != 0) {
    return Bad("hidden_size / num_attention_heads", "must be even (rotary positions turn pairs)");
  }
  return absl::OkStatus();
}

// A key that may be absent or null.
bool Given(const Json& json, const char* key) {
  auto it = json.find(key);
  return it != json.end() && !it->is_null();
}

absl::StatusOr<uint32_t> ReadSize(const Json& json, const char* key, uint32_t max) {
  ASSIGN_OR_RETURN(uint64_t value, JsonUnsigned(json, key, max));
  return static_cast<uint32_t>(value);
}

absl::StatusOr<bool> ReadBool(const Json& json, const char* key, bool fallback) {
  if (!Given(json, key)) return fallback;
  if (!json[key].is_boolean()) {
    return absl::InvalidArgumentError(absl::StrCat("\"", key, "\" is not true or false"));
  }
  return json[key].get<bool>();
}

absl::Status CheckArchitecture(const Json& json) {
  if (Given(json, "model_type") && json["model_type"] != "llama") {
    return absl::InvalidArgumentError(
        absl::StrCat("model_type ", json["model_type"].dump(), " is unknown; only llama is built"));
  }
  if (Given(json, "architectures") && json["architectures"] != Json::array({"LlamaForCausalLM"})) {
    return absl::InvalidArgumentError(absl::StrCat("architectures ", json["architectures"].dump(),
                                                   " are unknown; only LlamaForCausalLM is built"));
  }
  if (!Given(json, "model_type") && !Given(json, "architectures")) {
    return absl::InvalidArgumentError("neither model_type nor architectures is given");
  }
  return absl::OkStatus();
}

absl::Status RefuseUnsupported(const Json& json) {
  if (Given(json, "hidden_act") && json["hidden_act"] != "silu") {
    return absl::InvalidArgumentError("hidden_act must be silu");
  }
  for (const char* key : {"attention_bias", "mlp_bias"}) {
    ASSIGN_OR_RETURN(bool bias, ReadBool(json, key, false));
    if (bias) return absl::InvalidArgumentError(absl::StrCat(key, " is not supported"));
  }
  for (const char* key : {"rope_scaling", "quantization_config"}) {
    if (Given(json, key)) return absl::InvalidArgumentError(absl::StrCat(key, " is not supported"));
  }
  return absl::OkStatus();
}

// Older files have rope_theta at the top, newer ones in "rope_parameters".
absl::StatusOr<double> ReadRopeTheta(const Json& json) {
  const Json* where = &json;
  if (Given(json, "rope_parameters")) {
    where = &json["rope_parameters"];
    if (!where->is_object()) return absl::InvalidArgumentError("rope_parameters is not an object");
    if (Given(*where, "rope_type") && (*where)["rope_type"] != "default") {
      return absl::InvalidArgumentError("scaled rotary positions are not supported");
    }
  }
  if (!Given(*where, "rope_theta")) return 10000.0;
  return JsonNumber(*where, "rope_theta");
}

constexpr char kDenseType[] = "longhaul-dense";

absl::Status ValidateDense(const std::vector<uint32_t>& sizes) {
  if (sizes.size() < 2 || sizes.size() > kMaxHiddenLayers + 1) {
    return Bad("dense", "needs the sizes of 1 to 1024 layers: input, hidden ones, output");
  }
  uint64_t count = 0;  // cannot overflow: 2^10 layers of 2^33 parameters
  for (size_t i = 0; i < sizes.size(); ++i) {
    RETURN_IF_ERROR(CheckSize("dense", sizes[i], kMaxHiddenSize));
    if (i > 0) count += (uint64_t{sizes[i - 1]} + 1) * sizes[i];
  }
  return CheckSize("number of parameters", count, kMaxParameters);
}

absl::StatusOr<LlamaShape> ReadDense(const Json& json) {
  const auto sizes = json.find("dense");
  if (sizes == json.end() || !sizes->is_array() || sizes->size() > kMaxHiddenLayers + 1) {
    return absl::InvalidArgumentError("\"dense\" is no list of sizes");
  }
  LlamaShape s;
  for (const Json& size : *sizes) {
    if (!size.is_number_unsigned() || size.get<uint64_t>() > kMaxHiddenSize) {
      return absl::InvalidArgumentError("\"dense\" is no list of sizes");
    }
    s.dense.push_back(size.get<uint32_t>());
  }
  RETURN_IF_ERROR(ValidateShape(s));
  return s;
}

absl::StatusOr<LlamaShape> ParseDensePreset(const std::string& name) {
  LlamaShape s;
  const absl::string_view sizes = absl::string_view(name).substr(kDensePreset.size());
  for (const absl::string_view text : absl::StrSplit(sizes, ',')) {
    uint32_t size = 0;
    if (!absl::SimpleAtoi(text, &size)) {
      return Bad("preset", absl::StrCat("\"", name, "\": write sizes like dense:784,256,10"));
    }
    s.dense.push_back(size);
  }
  return s;
}

absl::StatusOr<LlamaShape> ReadShape(const Json& json) {
  if (Given(json, "model_type") && json["model_type"] == kDenseType) return ReadDense(json);
  RETURN_IF_ERROR(CheckArchitecture(json));
  RETURN_IF_ERROR(RefuseUnsupported(json));
  LlamaShape s;
  ASSIGN_OR_RETURN(s.vocab_size, ReadSize(json, "vocab_size", kMaxVocabSize));
  ASSIGN_OR_RETURN(s.hidden_size, ReadSize(json, "hidden_size", kMaxHiddenSize));
  ASSIGN_OR_RETURN(s.intermediate_size, ReadSize(json, "intermediate_size", kMaxIntermediateSize));
  ASSIGN_OR_RETURN(s.num_hidden_layers, ReadSize(json, "num_hidden_layers", kMaxHiddenLayers));
  ASSIGN_OR_RETURN(s.num_attention_heads, ReadSize(json, "num_attention_heads", kMaxHiddenSize));
  s.num_key_value_heads = s.num_attention_heads;
  if (Given(json, "num_key_value_heads")) {
    ASSIGN_OR_RETURN(s.num_key_value_heads, ReadSize(json, "num_key_value_heads", kMaxHiddenSize));
  }
  if (Given(json, "max_position_embeddings")) {
    ASSIGN_OR_RETURN(s.max_position, ReadSize(json, "max_position_embeddings", UINT32_MAX));
  }
  s.rms_norm_eps = 1e-6;  // what Hugging Face assumes when it is not given
  if (Given(json, "rms_norm_eps")) {
    ASSIGN_OR_RETURN(s.rms_norm_eps, JsonNumber(json, "rms_norm_eps"));
  }
  ASSIGN_OR_RETURN(s.rope_theta, ReadRopeTheta(json));
  ASSIGN_OR_RETURN(s.tie_word_embeddings, ReadBool(json, "tie_word_embeddings", false));
  RETURN_IF_ERROR(ValidateShape(s));
  if (Given(json, "head_dim")) {
    ASSIGN_OR_RETURN(uint64_t head, JsonUnsigned(json, "head_dim", kMaxHiddenSize));
    if (head != s.head_size()) {
      return absl::InvalidArgumentError("head_dim must be hidden_size / num_attention_heads");
    }
  }
  return s;
}

}  // namespace

uint64_t ParameterCount(const LlamaShape& s) {
  if (!s.dense.empty()) {
    uint64_t count = 0;
    for (size_t i = 1; i < s.dense.size(); ++i) {
      count += (uint64_t{s.dense[i - 1]} + 1) * s.dense[i];
    }
    return count;
  }
  const uint64_t d = s.hidden_size;
  const uint64_t embeddings = (s.tie_word_embeddings ? 1 : 2) * d * s.vocab_size;
  const uint64_t attention = 2 * d * d + 2 * d * s.key_value_size();
  const uint64_t layer = attention + 3 * d * s.intermediate_size + 2 * d;
  return embeddings + d + s.num_hidden_layers * layer;
}

absl::Status ValidateShape(const LlamaShape& s) {
  if (!s.dense.empty()) return ValidateDense(s.dense);
  RETURN_IF_ERROR(CheckSize("vocab_size", s.vocab_size, kMaxVocabSize));
  RETURN_IF_ERROR(CheckSize("hidden_size", s.hidden_size, kMaxHiddenSize));
  RETURN_IF_ERROR(CheckSize("intermediate_size", s.intermediate_size, kMaxIntermediateSize));
  RETURN_IF_ERROR(CheckSize("num_hidden_layers", s.num_hidden_layers, kMaxHiddenLayers));
  RETURN_IF_ERROR(CheckSize("max_position_embeddings", s.max_position, UINT32_MAX));
  RETURN_IF_ERROR(CheckHeads(s));
  if (!std::isfinite(s.rope_theta) || s.rope_theta <= 1) {
    return Bad("rope_theta", "must be finite and above 1");
  }
  if (!std::isfinite(s.rms_norm_eps) || s.rms_norm_eps <= 0 || s.rms_norm_eps >= 1) {
    return Bad("rms_norm_eps", "must be between 0 and 1");
  }
  return CheckSize("number of parameters", ParameterCount(s), kMaxParameters);
}

absl::StatusOr<LlamaShape> PresetShape(const std::string& name) {
  if (std::string_view(name).starts_with(kDensePreset)) return ParseDensePreset(name);
  for (const Preset& p : kPresets) {
    if (name != p.name) continue;
    LlamaShape s;
    s.hidden_size = p.hidden_size;
    s.intermediate_size = p.intermediate_size;
    s.num_hidden_layers = p.layers;
    s.num_attention_heads = p.heads;
    s.num_key_value_heads = p.key_value_heads;
    return s;
  }
  return absl::NotFoundError(absl::StrCat("model preset \"", name, "\" is unknown; there are ",
                                          absl::StrJoin(PresetNames(), ", "),
                                          " and dense:SIZE,SIZE,..."));
}

std::vector<std::string> PresetNames() {
  std::vector<std::string> names;
  for (const Preset& p : kPresets) names.push_back(p.name);
  return names;
}

std::string ToConfigJson(const LlamaShape& s) {
  nlohmann::ordered_json json;
  if (!s.dense.empty()) {
    json["model_type"] = kDenseType;
    json["dense"] = s.dense;
    json["torch_dtype"] = "float32";
    return json.dump(2) + "\n";
  }
  json["architectures"] = Json::array({"LlamaForCausalLM"});
  json["model_type"] = "llama";
  json["vocab_size"] = s.vocab_size;
  json["hidden_size"] = s.hidden_size;
  json["intermediate_size"] = s.intermediate_size;
  json["num_hidden_layers"] = s.num_hidden_layers;
  json["num_attention_heads"] = s.num_attention_heads;
  json["num_key_value_heads"] = s.num_key_value_heads;
  json["head_dim"] = s.head_size();
  json["max_position_embeddings"] = s.max_position;
  json["rope_theta"] = s.rope_theta;
  json["rms_norm_eps"] = s.rms_norm_eps;
  json["tie_word_embeddings"] = s.tie_word_embeddings;
  json["hidden_act"] = "silu";
  json["attention_bias"] = false;
  json["mlp_bias"] = false;
  // Without these, transformers would take byte 2 for the end of a text.
  json["bos_token_id"] = nullptr;
  json["eos_token_id"] = nullptr;
  json["torch_dtype"] = "float32";
  return json.dump(2) + "\n";
}

absl::StatusOr<LlamaShape> FromConfigJson(const std::string& text) {
  if (text.size() > kMaxConfigBytes) {
    return absl::InvalidArgumentError("config.json is larger than it may be");
  }
  ASSIGN_OR_RETURN(Json json, ParseStrictJson(text, "config.json"));
  absl::StatusOr<LlamaShape> shape = ReadShape(json);
  if (!shape.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("config.json: ", std::string(shape.status().message())));
  }
  return shape;
}

}  // namespace longhaul
