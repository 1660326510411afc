// Safetensors files (https://huggingface.co/docs/safetensors): 8 bytes header length, a JSON
// header, then the tensors' bytes. Written in float32; read in F32 and BF16.
//
// Thread rule: free functions on a Storage, see there.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/storage.h"
#include "model/parameter_table.h"

namespace longhaul {

inline constexpr uint64_t kMaxSafetensorsHeaderBytes = 4 << 20;
inline constexpr uint32_t kMaxSafetensorsDimensions = 8;
inline constexpr uint64_t kSafetensorsAlignment = 64;  // of the first tensor byte, when we write

enum class TensorType { kF32, kBf16 };

struct TensorInfo {
  std::string name;
  TensorType type = TensorType::kF32;
  std::vector<uint64_t> shape;
  uint64_t begin_bytes = 0;  // from the first tensor byte
  uint64_t end_bytes = 0;
  uint64_t elements() const;
};

struct SafetensorsHeader {
  std::vector<TensorInfo> tensors;  // in order of begin_bytes: no gap, no overlap
  uint64_t data_bytes_at = 0;       // where the tensor bytes start in the file
};

// The header (length, JSON, padding) of a file that holds the table's tensors in float32 and in
// flat order, so that the flat vector's bytes follow it as they are.
std::string MakeSafetensorsHeader(const ParameterTable& table);

// `head` is the file's beginning up to the last header byte at least, `file_bytes` its size.
// InvalidArgument with the reason for: a file too short for its header, a header over the limit or
// not strict JSON, an unknown type, a size that overflows or disagrees with shape × type, tensors
// that overlap, leave a gap or end before the file ends, a name given twice.
absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(const std::string& head,
                                                         uint64_t file_bytes);
absl::StatusOr<SafetensorsHeader> ReadSafetensorsHeader(Storage& storage, const std::string& path);

// Elements [first, first + out.size()) of a tensor as float32. InvalidArgument when the file has
// become shorter.
absl::Status ReadTensor(Storage& storage, const std::string& path, const SafetensorsHeader& header,
                        const TensorInfo& tensor, uint64_t first, std::span<float> out);

// The "weight_map" of a model.safetensors.index.json: tensor name → file name. InvalidArgument for
// a file name that is not a plain *.safetensors name (nothing outside the folder is ever opened).
absl::StatusOr<std::map<std::string, std::string>> ParseSafetensorsIndex(const std::string& text);

}  // namespace longhaul
