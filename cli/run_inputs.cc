#include "cli/run_inputs.h"

#include <algorithm>
#include <filesystem>

#include "common/status_macros.h"
#include "common/storage.h"
#include "model/hugging_face.h"
#include "model/parameter_table.h"

namespace longhaul {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxCandidates = 1000;

// Files below the given paths, in sorted order.
std::vector<std::string> Expand(const std::vector<std::string>& paths) {
  std::vector<std::string> files;
  for (const std::string& path : paths) {
    std::error_code error;
    if (!fs::is_directory(path, error)) {
      files.push_back(path);
      continue;
    }
    std::vector<std::string> inside;
    for (fs::directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
      if (it->is_regular_file(error) && inside.size() < kMaxCandidates)
        inside.push_back(it->path().string());
    }
    std::sort(inside.begin(), inside.end());
    files.insert(files.end(), inside.begin(), inside.end());
  }
  return files;
}

void SetShape(const LlamaShape& s, ModelSection& m) {
  m.vocab_size = s.vocab_size;
  m.hidden_size = s.hidden_size;
  m.intermediate_size = s.intermediate_size;
  m.num_hidden_layers = s.num_hidden_layers;
  m.num_attention_heads = s.num_attention_heads;
  m.num_key_value_heads = s.num_key_value_heads;
  m.rope_theta = s.rope_theta;
  m.rms_norm_eps = s.rms_norm_eps;
  m.tie_word_embeddings = s.tie_word_embeddings;
}

}  // namespace

LlamaShape ShapeOf(const RunConfig& config) {
  const ModelSection& m = config.model;
  if (std::string_view(m.preset).starts_with(kDensePreset)) {
    return PresetShape(m.preset).value_or(LlamaShape());  // which is not valid
  }
  LlamaShape s;
  s.vocab_size = m.vocab_size;
  s.hidden_size = m.hidden_size;
  s.intermediate_size = m.intermediate_size;
  s.num_hidden_layers = m.num_hidden_layers;
  s.num_attention_heads = m.num_attention_heads;
  s.num_key_value_heads = m.num_key_value_heads;
  s.rope_theta = m.rope_theta;
  s.rms_norm_eps = m.rms_norm_eps;
  s.tie_word_embeddings = m.tie_word_embeddings;
  s.max_position = std::max(s.max_position, config.data.sequence_length);
  return s;
}

namespace {

std::vector<TensorPlace> PlacesOf(const LlamaShape& shape) {
  std::vector<TensorPlace> places;
  for (const Parameter& p : MakeParameterTable(shape).parameters)
    places.push_back({p.offset, p.elements, p.layer});
  return places;
}

}  // namespace

std::vector<FragmentLayout> LayoutOf(const RunConfig& config) {
  return MakeFragments(PlacesOf(ShapeOf(config)), config.sync.fragments);
}

namespace {

TensorClass ClassOf(const Parameter& p) {
  switch (p.parameter_class) {
    case ParameterClass::kEmbedding:
    case ParameterClass::kHead:
      return TensorClass::kEmbedding;
    case ParameterClass::kNorm:
      return TensorClass::kVector;
    case ParameterClass::kMatrix:
      return TensorClass::kMatrix;
  }
  return TensorClass::kMatrix;
}

}  // namespace

std::vector<TensorSpan> TensorsIn(const ParameterTable& table, const FragmentLayout& layout) {
  std::vector<TensorSpan> tensors;
  uint64_t done = 0;  // of the fragment
  for (const ParameterSpan& span : layout.spans) {
    for (const Parameter& p : table.parameters) {  // whole tensors, in flat order
      if (p.offset < span.offset || p.offset >= span.offset + span.count) continue;
      const TensorClass tensor_class = ClassOf(p);
      const bool rows = tensor_class == TensorClass::kEmbedding;
      tensors.push_back({done, p.elements, tensor_class, rows ? p.shape.back() : 0});
      done += p.elements;
    }
  }
  return tensors;
}

std::vector<std::vector<TensorSpan>> TensorsOf(const RunConfig& config) {
  const ParameterTable table = MakeParameterTable(ShapeOf(config));
  std::vector<std::vector<TensorSpan>> tensors;
  for (const FragmentLayout& layout : LayoutOf(config)) {
    tensors.push_back(TensorsIn(table, layout));
  }
  return tensors;
}

absl::Status ResolveModel(RunConfig& config) {
  if (!config.model.init_from.empty()) {
    ASSIGN_OR_RETURN(std::unique_ptr<Storage> folder, OpenFileStorage(config.model.init_from));
    ASSIGN_OR_RETURN(HuggingFaceModel model, ReadHuggingFace(*folder, ""));
    SetShape(model.shape, config.model);
  } else if (config.model.hidden_size == 0) {
    ASSIGN_OR_RETURN(LlamaShape shape, PresetShape(config.model.preset));
    SetShape(shape, config.model);
  }
  RETURN_IF_ERROR(ValidateShape(ShapeOf(config)));
  const uint32_t most = MostFragments(PlacesOf(ShapeOf(config)));
  if (config.sync.fragments > most) {
    return absl::InvalidArgumentError("sync.fragments = " + std::to_string(config.sync.fragments) +
                                      ": this model can be cut into " + std::to_string(most) +
                                      " at most");
  }
  return absl::OkStatus();
}

CorpusOptions CorpusOptionsOf(const RunConfig& config) {
  return {.sample_tokens = kSampleTokens,
          .validation = config.data.validation,
          .vocab_size = config.model.vocab_size,
          .tokenizer = config.data.tokenizer,
          .max_bytes = config.data.max_bytes};
}

std::string WheelFolder() {
  const std::string folder = LONGHAUL_WHEEL_FOLDER;
  std::error_code error;
  return !folder.empty() && fs::is_directory(folder + "/torch", error) ? folder : "";
}

absl::StatusOr<std::shared_ptr<const Corpus>> FindCorpus(
    const RunConfig& config, const Digest& identity, const std::vector<std::string>& candidates) {
  std::string found;
  auto try_one = [&](absl::StatusOr<Corpus> corpus,
                     const std::string& name) -> std::shared_ptr<const Corpus> {
    if (!corpus.ok()) {
      found += "\n  " + name + ": " + std::string(corpus.status().message());
      return nullptr;
    }
    if (corpus->Identity() == identity) return std::make_shared<const Corpus>(std::move(*corpus));
    found += "\n  " + ToHex(corpus->Identity()) + "  " + corpus->Describe();
    return nullptr;
  };
  const CorpusOptions options = CorpusOptionsOf(config);
  for (const std::string& file : Expand(candidates)) {
    if (auto corpus = try_one(Corpus::Open(file, "", options), file)) return corpus;
  }
  if (const std::string wheel = WheelFolder(); !wheel.empty()) {
    if (auto corpus = try_one(Corpus::OpenWheel(wheel, options), "built-in text")) return corpus;
  }
  return absl::NotFoundError(
      "this run trains on data " + ToHex(identity) +
      ", which is not here. Found:" + (found.empty() ? " nothing" : found) +
      "\nGet the run's data from whoever invited you and name it with --data PATH");
}

}  // namespace longhaul
