#include "model/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "model/strict_json.h"

namespace longhaul {
namespace {

static_assert(std::endian::native == std::endian::little, "tensors are stored little-endian");

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kMaxElements = uint64_t{1} << 48;  // no product below can overflow
constexpr uint64_t kReadBytes = 4 << 20;

absl::Status Bad(const std::string& reason) {
  return absl::InvalidArgumentError("safetensors: " + reason);
}

uint64_t ElementBytes(TensorType type) { return type == TensorType::kF32 ? 4 : 2; }

absl::StatusOr<TensorType> ParseType(const std::string& name) {
  if (name == "F32") return TensorType::kF32;
  if (name == "BF16") return TensorType::kBf16;
  return absl::InvalidArgumentError(
      absl::StrCat("type ", name, " is not supported (F32 and BF16 are)"));
}

absl::StatusOr<std::vector<uint64_t>> ParseShape(const nlohmann::json& json) {
  auto it = json.find("shape");
  if (it == json.end() || !it->is_array()) return absl::InvalidArgumentError("no shape");
  if (it->size() > kMaxSafetensorsDimensions) {
    return absl::InvalidArgumentError("too many dimensions");
  }
  std::vector<uint64_t> shape;
  uint64_t elements = 1;
  for (const nlohmann::json& size : *it) {
    if (!size.is_number_unsigned() || size.get<uint64_t>() == 0) {
      return absl::InvalidArgumentError("a dimension is not a positive whole number");
    }
    shape.push_back(size.get<uint64_t>());
    if (shape.back() > kMaxElements / elements) return absl::InvalidArgumentError("too large");
    elements *= shape.back();
  }
  return shape;
}

absl::Status ParseOffsets(const nlohmann::json& json, TensorInfo& tensor) {
  auto it = json.find("data_offsets");
  if (it == json.end() || !it->is_array() || it->size() != 2 || !(*it)[0].is_number_unsigned() ||
      !(*it)[1].is_number_unsigned()) {
    return absl::InvalidArgumentError("data_offsets are not two whole numbers");
  }
  tensor.begin_bytes = (*it)[0].get<uint64_t>();
  tensor.end_bytes = (*it)[1].get<uint64_t>();
  if (tensor.end_bytes < tensor.begin_bytes ||
      tensor.end_bytes - tensor.begin_bytes != tensor.elements() * ElementBytes(tensor.type)) {
    return absl::InvalidArgumentError("data_offsets disagree with shape and type");
  }
  return absl::OkStatus();
}

absl::StatusOr<TensorInfo> ParseTensor(const std::string& name, const nlohmann::json& json) {
  if (!json.is_object() || json.size() != 3) {
    return absl::InvalidArgumentError("not exactly dtype, shape and data_offsets");
  }
  TensorInfo tensor;
  tensor.name = name;
  ASSIGN_OR_RETURN(std::string type, JsonString(json, "dtype"));
  ASSIGN_OR_RETURN(tensor.type, ParseType(type));
  ASSIGN_OR_RETURN(tensor.shape, ParseShape(json));
  RETURN_IF_ERROR(ParseOffsets(json, tensor));
  return tensor;
}

bool IsTextMap(const nlohmann::json& json) {
  return json.is_object() && std::all_of(json.begin(), json.end(),
                                         [](const nlohmann::json& v) { return v.is_string(); });
}

// Sorted by place; every byte of the data belongs to exactly one tensor.
absl::Status CheckLayout(std::vector<TensorInfo>& tensors, uint64_t data_bytes) {
  std::sort(tensors.begin(), tensors.end(),
            [](const TensorInfo& a, const TensorInfo& b) { return a.begin_bytes < b.begin_bytes; });
  uint64_t at = 0;
  for (const TensorInfo& t : tensors) {
    if (t.begin_bytes != at) {
      return Bad(absl::StrCat("tensor ", t.name, t.begin_bytes < at ? " overlaps" : " leaves a gap",
                              " at byte ", at));
    }
    at = t.end_bytes;
  }
  if (at == data_bytes) return absl::OkStatus();
  return Bad(absl::StrCat("the tensors have ", at, " bytes, the file has ", data_bytes,
                          at > data_bytes ? " (truncated?)" : " (something follows them)"));
}

void Widen(std::span<const char> bf16, std::span<float> out) {
  for (size_t i = 0; i < out.size(); ++i) {
    uint16_t bits;
    std::memcpy(&bits, bf16.data() + 2 * i, sizeof bits);
    out[i] = std::bit_cast<float>(uint32_t{bits} << 16);
  }
}

}  // namespace

uint64_t TensorInfo::elements() const {
  uint64_t n = 1;
  for (uint64_t size : shape) n *= size;
  return n;
}

std::string MakeSafetensorsHeader(const ParameterTable& table) {
  nlohmann::ordered_json json;
  json["__metadata__"] = {{"format", "pt"}};
  for (const Parameter& p : table.parameters) {
    json[p.name] = {{"dtype", "F32"},
                    {"shape", p.shape},
                    {"data_offsets", {4 * p.offset, 4 * (p.offset + p.elements)}}};
  }
  std::string text = json.dump();
  while ((kLengthBytes + text.size()) % kSafetensorsAlignment != 0) text.push_back(' ');
  ByteWriter out;
  out.U64(text.size());
  out.Raw(text.data(), text.size());
  return out.Take();
}

absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(const std::string& head,
                                                         uint64_t file_bytes) {
  ByteReader reader(head);
  const uint64_t length = reader.U64();
  if (!reader.ok() || file_bytes < kLengthBytes) return Bad("shorter than 8 bytes");
  if (length > kMaxSafetensorsHeaderBytes) return Bad("the header is larger than it may be");
  if (length > file_bytes - kLengthBytes || length > head.size() - kLengthBytes) {
    return Bad("shorter than its header");
  }
  ASSIGN_OR_RETURN(nlohmann::json json,
                   ParseStrictJson(head.substr(kLengthBytes, length), "safetensors header"));
  SafetensorsHeader header;
  header.data_bytes_at = kLengthBytes + length;
  for (const auto& [name, value] : json.items()) {
    if (name == "__metadata__") {
      if (!IsTextMap(value)) return Bad("__metadata__ is not a map of texts");
      continue;
    }
    absl::StatusOr<TensorInfo> tensor = ParseTensor(name, value);
    if (!tensor.ok()) {
      return Bad(absl::StrCat("tensor ", name, ": ", std::string(tensor.status().message())));
    }
    header.tensors.push_back(*std::move(tensor));
  }
  RETURN_IF_ERROR(CheckLayout(header.tensors, file_bytes - header.data_bytes_at));
  return header;
}

absl::StatusOr<SafetensorsHeader> ReadSafetensorsHeader(Storage& storage, const std::string& path) {
  ASSIGN_OR_RETURN(uint64_t file_bytes, storage.Size(path));
  ASSIGN_OR_RETURN(std::string head, storage.Read(path, 0, kLengthBytes));
  ByteReader reader(head);
  const uint64_t length = std::min(reader.U64(), kMaxSafetensorsHeaderBytes);
  ASSIGN_OR_RETURN(head, storage.Read(path, 0, kLengthBytes + length));
  absl::StatusOr<SafetensorsHeader> header = ParseSafetensorsHeader(head, file_bytes);
  if (header.ok()) return header;
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": ", std::string(header.status().message())));
}

absl::Status ReadTensor(Storage& storage, const std::string& path, const SafetensorsHeader& header,
                        const TensorInfo& tensor, uint64_t first, std::span<float> out) {
  if (first > tensor.elements() || out.size() > tensor.elements() - first) {
    return absl::OutOfRangeError(path + ": tensor " + tensor.name + " has fewer elements");
  }
  const uint64_t width = ElementBytes(tensor.type);
  const uint64_t start = header.data_bytes_at + tensor.begin_bytes + first * width;
  for (uint64_t done = 0; done < out.size();) {
    const uint64_t count = std::min<uint64_t>(out.size() - done, kReadBytes / width);
    ASSIGN_OR_RETURN(std::string bytes, storage.Read(path, start + done * width, count * width));
    if (bytes.size() != count * width) return absl::InvalidArgumentError(path + ": truncated");
    if (tensor.type == TensorType::kF32) {
      std::memcpy(out.data() + done, bytes.data(), bytes.size());
    } else {
      Widen(bytes, out.subspan(done, count));
    }
    done += count;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::map<std::string, std::string>> ParseSafetensorsIndex(const std::string& text) {
  if (text.size() > kMaxSafetensorsHeaderBytes) return Bad("the index is larger than it may be");
  ASSIGN_OR_RETURN(nlohmann::json json, ParseStrictJson(text, "safetensors index"));
  auto it = json.find("weight_map");
  if (it == json.end() || !IsTextMap(*it)) return Bad("the index has no weight_map");
  std::map<std::string, std::string> files;
  for (const auto& [tensor, file] : it->items()) {
    std::string name = file.get<std::string>();
    const bool plain = name.find_first_of(std::string("/\\\0", 3)) == std::string::npos;
    if (!plain || name[0] == '.' || !absl::EndsWith(name, ".safetensors")) {
      return Bad("the index names " + nlohmann::json(name).dump() + ", which is no file here");
    }
    files[tensor] = std::move(name);
  }
  return files;
}

}  // namespace longhaul
