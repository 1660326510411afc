// The shape of a Llama model, with the names that Hugging Face's config.json uses; or of a chain of
// dense layers, which is a block of a Relay run (docs/PCN.md). Pure values.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace longhaul {

// RMSNorm, rotary positions (half-split), SwiGLU, grouped-query attention, no biases.
struct LlamaShape {
  uint32_t vocab_size = 256;
  uint32_t hidden_size = 0;
  uint32_t intermediate_size = 0;
  uint32_t num_hidden_layers = 0;
  uint32_t num_attention_heads = 0;
  uint32_t num_key_value_heads = 0;  // divides num_attention_heads
  double rope_theta = 10000.0;
  double rms_norm_eps = 1e-5;
  bool tie_word_embeddings = false;
  uint32_t max_position = 2048;  // "max_position_embeddings": tokens of context
  // Features of input, hidden layers and output of a chain of dense layers with biases. Not empty:
  // that is the model, and nothing above counts.
  std::vector<uint32_t> dense;
  auto operator<=>(const LlamaShape&) const = default;

  uint32_t head_size() const { return hidden_size / num_attention_heads; }
  uint32_t key_value_size() const { return head_size() * num_key_value_heads; }
};

inline constexpr uint32_t kMaxVocabSize = 65536;  // tokens are 16 bit
inline constexpr uint32_t kMaxHiddenSize = 65536;
inline constexpr uint32_t kMaxIntermediateSize = 1u << 20;
inline constexpr uint32_t kMaxHiddenLayers = 1024;  // or dense layers
inline constexpr uint64_t kMaxParameters = uint64_t{1} << 36;
inline constexpr uint64_t kMaxConfigBytes = 1 << 20;

// Number of parameters; exact for every valid shape.
uint64_t ParameterCount(const LlamaShape& shape);

// InvalidArgument with the field and the reason when the sizes make no model: zero or over a limit
// above, heads that do not divide, an odd head size (rotary positions need pairs), not finite
// constants.
absl::Status ValidateShape(const LlamaShape& shape);

// "llama-1m" and others, all for byte tokens; "dense:256,256,10" is a chain of dense layers.
// NotFound names those that exist. InvalidArgument for sizes that are no numbers.
inline constexpr std::string_view kDensePreset = "dense:";
absl::StatusOr<LlamaShape> PresetShape(const std::string& name);
std::vector<std::string> PresetNames();

// The config.json of a LlamaForCausalLM in float32 (of a chain of dense layers: of model type
// "longhaul-dense", which is ours). The same shape gives the same bytes.
std::string ToConfigJson(const LlamaShape& shape);

// Reads a config.json. InvalidArgument with the field and the reason when it is not valid JSON, not
// one of the two, lacks a size, or asks for something this model does not have (another
// activation, biases, scaled rotary positions, a head size of its own, quantised weights).
absl::StatusOr<LlamaShape> FromConfigJson(const std::string& text);

}  // namespace longhaul
