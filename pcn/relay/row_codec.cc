#include "pcn/relay/row_codec.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "common/rng.h"

namespace longhaul::pcn {
namespace {

constexpr float kInt8Steps = 127;

void PutBits(Bytes& out, uint32_t bits, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i) out.push_back(static_cast<uint8_t>(bits >> (8 * i)));
}

uint32_t GetBits(const uint8_t* in, size_t bytes) {
  uint32_t bits = 0;
  for (size_t i = 0; i < bytes; ++i) bits |= static_cast<uint32_t>(in[i]) << (8 * i);
  return bits;
}

float GetFloat(const uint8_t* in) { return std::bit_cast<float>(GetBits(in, 4)); }

// Nearest, ties to even; the largest finite values stay finite.
uint32_t Bf16Bits(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return std::min(rounded & 0x7fffu, 0x7f7fu) | (rounded & 0x8000u);
}

// floor(x + u): u = 1/2 rounds to nearest, a draw from [0, 1) without bias.
void PutInt8Row(Bytes& out, std::span<const float> row, Rounding rounding, uint64_t seed,
                uint64_t row_number) {
  float largest = 0;
  for (float v : row) largest = std::max(largest, std::abs(v));
  const float scale = largest / kInt8Steps;
  PutBits(out, std::bit_cast<uint32_t>(scale), 4);
  for (size_t i = 0; i < row.size(); ++i) {
    const float x = scale > 0 ? row[i] / scale : 0;
    const float u = rounding == Rounding::kNearest
                        ? 0.5f
                        : static_cast<float>(Draw(seed, {row_number, i}) >> 40) * 0x1p-24f;
    const float step = std::clamp(std::floor(x + u), -kInt8Steps, kInt8Steps);
    out.push_back(static_cast<uint8_t>(static_cast<int8_t>(step)));
  }
}

size_t RowBytes(RowCodec codec, size_t columns) {
  switch (codec) {
    case RowCodec::kFloat32:
      return 4 * columns;
    case RowCodec::kBf16:
      return 2 * columns;
    case RowCodec::kInt8:
      return 4 + columns;
  }
  return 0;
}

}  // namespace

size_t EncodedRowBytes(RowCodec codec, uint32_t rows, uint32_t columns) {
  return kRowHeaderBytes + size_t{rows} * RowBytes(codec, columns);
}

std::optional<RowCodec> ParseRowCodec(const std::string& name) {
  if (name == "float32") return RowCodec::kFloat32;
  if (name == "bf16") return RowCodec::kBf16;
  if (name == "int8") return RowCodec::kInt8;
  return std::nullopt;
}

std::optional<Bytes> EncodeRows(RowCodec codec, std::span<const float> values, uint32_t rows,
                                uint32_t columns, Rounding rounding, uint64_t seed) {
  if (values.size() != size_t{rows} * columns) return std::nullopt;
  for (float v : values) {
    if (!std::isfinite(v)) return std::nullopt;
  }
  Bytes out;
  out.reserve(EncodedRowBytes(codec, rows, columns));
  PutBits(out, static_cast<uint32_t>(codec), 4);
  PutBits(out, rows, 4);
  PutBits(out, columns, 4);
  if (codec == RowCodec::kInt8) {
    for (size_t r = 0; r < rows; ++r) {
      PutInt8Row(out, values.subspan(r * columns, columns), rounding, seed, r);
    }
  } else if (codec == RowCodec::kBf16) {
    for (float v : values) PutBits(out, Bf16Bits(v), 2);
  } else {
    for (float v : values) PutBits(out, std::bit_cast<uint32_t>(v), 4);
  }
  return out;
}

std::optional<DecodedRows> DecodeRows(std::span<const uint8_t> bytes, uint64_t max_elements) {
  if (bytes.size() < kRowHeaderBytes) return std::nullopt;
  const uint32_t code = GetBits(&bytes[0], 4);
  if (code < 1 || code > 3) return std::nullopt;
  const auto codec = static_cast<RowCodec>(code);
  DecodedRows out{GetBits(&bytes[4], 4), GetBits(&bytes[8], 4), {}};
  const uint64_t elements = uint64_t{out.rows} * out.columns;
  if (elements > max_elements || bytes.size() != EncodedRowBytes(codec, out.rows, out.columns)) {
    return std::nullopt;
  }
  out.values.reserve(elements);
  const uint8_t* at = bytes.data() + kRowHeaderBytes;
  for (uint32_t r = 0; r < out.rows; ++r) {
    const float scale = codec == RowCodec::kInt8 ? GetFloat(at) : 1;
    if (codec == RowCodec::kInt8) at += 4;
    for (uint32_t c = 0; c < out.columns; ++c) {
      if (codec == RowCodec::kInt8) {
        out.values.push_back(scale * static_cast<float>(static_cast<int8_t>(*at++)));
      } else if (codec == RowCodec::kBf16) {
        out.values.push_back(std::bit_cast<float>(GetBits(at, 2) << 16));
        at += 2;
      } else {
        out.values.push_back(GetFloat(at));
        at += 4;
      }
      if (!std::isfinite(out.values.back())) return std::nullopt;
    }
  }
  return out;
}

}  // namespace longhaul::pcn
