#include "compression/codec.h"

#include <array>

#include "compression/block_codec.h"
#include "compression/raw_codec.h"

namespace longhaul {
namespace {

struct Entry {
  CodecId id;
  std::string_view name;
};
constexpr std::array<Entry, 5> kEntries = {{{CodecId::kFloat32, "float32"},
                                            {CodecId::kBf16, "bf16"},
                                            {CodecId::kInt8, "int8"},
                                            {CodecId::kInt4, "int4"},
                                            {CodecId::kInt2, "int2"}}};

}  // namespace

const Codec* FindCodec(CodecId id) {
  switch (id) {
    case CodecId::kFloat32:
      return &Float32Codec();
    case CodecId::kBf16:
      return &Bf16Codec();
    case CodecId::kInt8:
      return &Int8Codec();
    case CodecId::kInt4:
      return &Int4Codec();
    case CodecId::kInt2:
      return &Int2Codec();
  }
  return nullptr;
}

std::optional<CodecId> CodecByName(std::string_view name) {
  for (const Entry& entry : kEntries) {
    if (entry.name == name) return entry.id;
  }
  return std::nullopt;
}

std::string_view CodecName(CodecId id) {
  for (const Entry& entry : kEntries) {
    if (entry.id == id) return entry.name;
  }
  return "";
}

}  // namespace longhaul
