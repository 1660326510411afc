// States and credits as bytes: float32, bfloat16, or int8 with a scale per row.
//
// Thread rule: pure functions. Layout: codec (1 byte), 3 zeros, rows and columns (4 bytes each,
// little-endian), then the values, row after row; an int8 row begins with its float32 scale.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "pcn/relay/message.h"

namespace longhaul::pcn {

enum class RowCodec : uint8_t { kFloat32 = 1, kBf16 = 2, kInt8 = 3 };
enum class Rounding {
  kNearest,
  kStochastic,  // int8 only; unbiased: for credits, which are sent once
};

inline constexpr size_t kRowHeaderBytes = 12;
// With the header.
size_t EncodedRowBytes(RowCodec codec, uint32_t rows, uint32_t columns);
// "float32", "bf16", "int8"; none for another name.
std::optional<RowCodec> ParseRowCodec(const std::string& name);

// `values` has rows * columns elements. None when one is not finite. `seed` draws the stochastic
// rounding: the same seed, the same bytes.
std::optional<Bytes> EncodeRows(RowCodec codec, std::span<const float> values, uint32_t rows,
                                uint32_t columns, Rounding rounding, uint64_t seed);

struct DecodedRows {
  uint32_t rows = 0, columns = 0;
  std::vector<float> values;
};
// None for an unknown codec, another length, more than `max_elements`, or a value that is not
// finite.
std::optional<DecodedRows> DecodeRows(std::span<const uint8_t> bytes, uint64_t max_elements);

}  // namespace longhaul::pcn
