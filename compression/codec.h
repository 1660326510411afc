// Codecs: a span of float32 in, bytes out, and back. Stateless, deterministic, same bits on every
// CPU. std only.
//
// Every decoder first validates (length, canonical form, finite scales), then writes: damaged bytes
// give `false` and touch nothing. What a decoder yields is exactly what error feedback subtracts.
// Decoded magnitudes are below 8 (kMaxMagnitude): encoders saturate there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace longhaul {

// On the wire; the decoded bits of an id never change.
enum class CodecId : uint32_t { kFloat32 = 1, kBf16 = 2, kInt8 = 3, kInt4 = 4, kInt2 = 5 };

inline constexpr float kMaxMagnitude = 7.9375f;  // < 8, exact in bf16

class Codec {
 public:
  virtual ~Codec() = default;
  virtual CodecId id() const = 0;
  // Exact number of bytes that Encode writes for `elements` values.
  virtual size_t EncodedBytes(size_t elements) const = 0;
  // `out.size()` must be EncodedBytes(in.size()). False when a value is not finite; `out` is then
  // unspecified.
  virtual bool Encode(std::span<const float> in, std::span<std::byte> out) const = 0;
  // False when `in` is not a canonical encoding of `out.size()` values; `out` is then untouched.
  virtual bool Decode(std::span<const std::byte> in, std::span<float> out) const = 0;
};

// Static objects that live for ever. Null for an unknown id.
const Codec* FindCodec(CodecId id);
// "float32", "bf16", "int8", "int4", "int2".
std::optional<CodecId> CodecByName(std::string_view name);
std::string_view CodecName(CodecId id);  // "" for an unknown id

}  // namespace longhaul
