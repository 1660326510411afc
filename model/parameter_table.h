// The parameters of a model in ONE flat float32 vector: names (Hugging Face's), shapes, classes,
// offsets and initial values. Every part of the project that cuts, sends, stores or trains
// parameters uses this order:
//
//   embedding, head (absent when tied), final norm, attention norm of each layer, MLP norm of each
//   layer, then q of all layers, k, v, o, gate, up, down. Matrices are (out, in), y = x Wᵀ.
//
// A chain of dense layers has weight and bias of each layer in turn.
//
// Pure values; any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "model/llama.h"

namespace longhaul {

enum class ParameterClass { kEmbedding, kHead, kNorm, kMatrix };
enum class InitialRule { kOnes, kNormal };

struct Parameter {
  std::string name;  // "model.layers.0.self_attn.q_proj.weight"
  std::vector<uint64_t> shape;
  ParameterClass parameter_class = ParameterClass::kMatrix;
  uint64_t offset = 0;    // in elements of the flat vector
  uint64_t elements = 0;  // product of the shape
  InitialRule initial = InitialRule::kNormal;
  double standard_deviation = 0;  // kNormal only
  int32_t layer = -1;  // block; -1 before the first one, the number of blocks after the last one
  bool operator==(const Parameter&) const = default;
};

struct ParameterTable {
  std::vector<Parameter> parameters;  // in flat order, without gaps
  uint64_t elements = 0;
};

// The shape must be valid (ValidateShape).
ParameterTable MakeParameterTable(const LlamaShape& shape);

// θ at version 0. Norms are 1; element i of matrix k (its place in the table) is
// float32(σ · z), z = √(−2 ln u₁) cos(2π u₂) in float64, u₁ = ((draw(seed, 1, k, 2i) >> 11) + 1) /
// 2⁵³, u₂ = (draw(seed, 1, k, 2i + 1) >> 11) / 2⁵³ (Box and Muller 1958; draw: common/rng.h). σ =
// 0.02, for o and down 0.02 / √(2 layers) (Radford et al. 2019, section 2.3); for a dense layer
// 1 / √in, and 0 for its bias. log and cos differ in
// the last bit between C libraries: one machine makes θ, the others receive it.
std::vector<float> InitialParameters(const ParameterTable& table, uint64_t seed);

// One value of the rule above with σ = 1.
double NormalDraw(uint64_t seed, uint64_t stream, uint64_t tensor, uint64_t i);

}  // namespace longhaul
