// Reads the model of a Hugging Face folder, ours or somebody else's.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/storage.h"
#include "model/llama.h"

namespace longhaul {

struct HuggingFaceModel {
  LlamaShape shape;
  std::vector<float> parameters;  // flat order of MakeParameterTable(shape)
};

// config.json with model.safetensors or model.safetensors.index.json and its parts, in F32 or BF16
// (widened). InvalidArgument with file and reason: no such architecture, a tensor missing, unknown,
// given twice or of another shape, a value that is not finite. Two harmless extras are passed over:
// the head of a model with tied embeddings, and the rotary frequencies that old files carry.
absl::StatusOr<HuggingFaceModel> ReadHuggingFace(Storage& storage, const std::string& folder);

}  // namespace longhaul
