#include "model/hugging_face.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "model/parameter_table.h"
#include "model/safetensors.h"

namespace longhaul {
namespace {

struct Place {
  std::string path;
  const SafetensorsHeader* header = nullptr;
  const TensorInfo* tensor = nullptr;
};

struct Files {
  Files() = default;
  Files(Files&&) = default;  // a copy's places would point into the original
  Files& operator=(Files&&) = default;
  std::map<std::string, SafetensorsHeader> headers;  // by path
  std::map<std::string, Place> tensors;              // by name
};

absl::Status AddFile(Storage& storage, const std::string& path, Files& files) {
  ASSIGN_OR_RETURN(files.headers[path], ReadSafetensorsHeader(storage, path));
  const SafetensorsHeader& header = files.headers[path];
  for (const TensorInfo& t : header.tensors) {
    if (!files.tensors.try_emplace(t.name, Place{path, &header, &t}).second) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": tensor ", t.name, " came before"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Files> OpenFiles(Storage& storage, const std::string& folder) {
  Files files;
  const std::string single = folder + "/model.safetensors";
  const std::string index = folder + "/model.safetensors.index.json";
  if (storage.Exists(single)) {
    RETURN_IF_ERROR(AddFile(storage, single, files));
    return files;
  }
  if (!storage.Exists(index)) {
    return absl::NotFoundError(absl::StrCat(
        folder, " has neither model.safetensors nor model.safetensors.index.json (convert other ",
        "formats with transformers' save_pretrained)"));
  }
  ASSIGN_OR_RETURN(std::string text, ReadWhole(storage, index, kMaxSafetensorsHeaderBytes));
  ASSIGN_OR_RETURN(auto weight_map, ParseSafetensorsIndex(text));
  std::set<std::string> names;
  for (const auto& [tensor, file] : weight_map) names.insert(file);
  for (const std::string& name : names) {
    RETURN_IF_ERROR(AddFile(storage, absl::StrCat(folder, "/", name), files));
  }
  for (const auto& [tensor, file] : weight_map) {
    auto it = files.tensors.find(tensor);
    if (it == files.tensors.end() || it->second.path != absl::StrCat(folder, "/", file)) {
      return absl::InvalidArgumentError(
          absl::StrCat(index, ": tensor ", tensor, " is not in ", file));
    }
  }
  return files;
}

absl::StatusOr<const Place*> FindParameter(const Files& files, const Parameter& p) {
  auto it = files.tensors.find(p.name);
  if (it == files.tensors.end()) {
    return absl::InvalidArgumentError(absl::StrCat("tensor ", p.name, " is missing"));
  }
  if (it->second.tensor->shape != p.shape) {
    return absl::InvalidArgumentError(absl::StrCat(it->second.path, ": tensor ", p.name,
                                                   " has another shape than config.json says"));
  }
  return &it->second;
}

absl::Status ReadParameter(Storage& storage, const Place& place, std::span<float> out) {
  RETURN_IF_ERROR(ReadTensor(storage, place.path, *place.header, *place.tensor, 0, out));
  if (!std::all_of(out.begin(), out.end(), [](float v) { return std::isfinite(v); })) {
    return absl::InvalidArgumentError(absl::StrCat(place.path, ": tensor ", place.tensor->name,
                                                   " holds a value that is not finite"));
  }
  return absl::OkStatus();
}

absl::Status RefuseUnknown(const Files& files, const ParameterTable& table, bool tied) {
  std::set<std::string> known;
  for (const Parameter& p : table.parameters) known.insert(p.name);
  for (const auto& [name, place] : files.tensors) {
    const bool harmless =
        (tied && name == "lm_head.weight") || absl::EndsWith(name, ".rotary_emb.inv_freq");
    if (!harmless && known.count(name) == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(place.path, ": tensor ", name, " is not part of this model"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<HuggingFaceModel> ReadHuggingFace(Storage& storage, const std::string& folder) {
  ASSIGN_OR_RETURN(std::string text, ReadWhole(storage, folder + "/config.json", kMaxConfigBytes));
  HuggingFaceModel model;
  ASSIGN_OR_RETURN(model.shape, FromConfigJson(text));
  const ParameterTable table = MakeParameterTable(model.shape);
  ASSIGN_OR_RETURN(Files files, OpenFiles(storage, folder));
  RETURN_IF_ERROR(RefuseUnknown(files, table, model.shape.tie_word_embeddings));
  std::vector<const Place*> places;  // all found before anything large is allocated
  for (const Parameter& p : table.parameters) {
    ASSIGN_OR_RETURN(const Place* place, FindParameter(files, p));
    places.push_back(place);
  }
  model.parameters.resize(table.elements);
  const std::span<float> all(model.parameters);
  for (size_t k = 0; k < places.size(); ++k) {
    const Parameter& p = table.parameters[k];
    RETURN_IF_ERROR(ReadParameter(storage, *places[k], all.subspan(p.offset, p.elements)));
  }
  return model;
}

}  // namespace longhaul
