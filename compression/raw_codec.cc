#include "compression/raw_codec.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "compression/bf16.h"
#include "compression/cpu.h"

namespace longhaul {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr uint32_t kMaxMagnitudeBits = std::bit_cast<uint32_t>(kMaxMagnitude);

constexpr uint32_t Saturated(uint32_t bits) {
  return (bits & ~kFloatMagnitudeMask) | std::min(bits & kFloatMagnitudeMask, kMaxMagnitudeBits);
}

uint32_t MaxMagnitudeBits(std::span<const float> values) {
  uint32_t most = 0;
  for (float v : values) most = std::max(most, std::bit_cast<uint32_t>(v) & kFloatMagnitudeMask);
  return most;
}

// Writes halves; the bits of the largest magnitude.
struct Bf16Kernel {
  LONGHAUL_INLINE uint32_t operator()(const float* __restrict in, size_t n,
                                      uint8_t* __restrict out) const {
    uint32_t most = 0;
    for (size_t i = 0; i < n; ++i) {
      const auto bits = std::bit_cast<uint32_t>(in[i]);
      const uint32_t magnitude = bits & kFloatMagnitudeMask;
      most = most > magnitude ? most : magnitude;
      const uint32_t cut = magnitude < kMaxMagnitudeBits ? magnitude : kMaxMagnitudeBits;
      const uint16_t half = Bf16FromFloatBits((bits & ~kFloatMagnitudeMask) | cut);
      std::memcpy(out + 2 * i, &half, 2);
    }
    return most;
  }
};

class Float32 final : public Codec {
 public:
  CodecId id() const override { return CodecId::kFloat32; }
  size_t EncodedBytes(size_t elements) const override { return 4 * elements; }

  std::optional<size_t> EncodeChunk(const CodecPlan&, uint64_t, std::span<const float> in,
                                    std::span<std::byte> out) const override {
    if (out.size() < EncodedBytes(in.size())) return std::nullopt;
    if (MaxMagnitudeBits(in) >= kFloatInfinityBits) return std::nullopt;
    for (size_t i = 0; i < in.size(); ++i) {
      const uint32_t bits = Saturated(std::bit_cast<uint32_t>(in[i]));
      std::memcpy(out.data() + 4 * i, &bits, 4);
    }
    return EncodedBytes(in.size());
  }

  bool DecodeChunk(uint64_t, std::span<const std::byte> in, std::span<float> out) const override {
    if (in.size() != EncodedBytes(out.size())) return false;
    uint32_t most = 0;
    for (size_t i = 0; i < out.size(); ++i) {
      uint32_t bits;
      std::memcpy(&bits, in.data() + 4 * i, 4);
      most = std::max(most, bits & kFloatMagnitudeMask);
    }
    if (most > kMaxMagnitudeBits) return false;
    if (!in.empty()) std::memcpy(out.data(), in.data(), in.size());
    return true;
  }
};

class Bf16 final : public Codec {
 public:
  CodecId id() const override { return CodecId::kBf16; }
  size_t EncodedBytes(size_t elements) const override { return 2 * elements; }

  std::optional<size_t> EncodeChunk(const CodecPlan&, uint64_t, std::span<const float> in,
                                    std::span<std::byte> out) const override {
    if (out.size() < EncodedBytes(in.size())) return std::nullopt;
    auto* to = reinterpret_cast<uint8_t*>(out.data());
    const uint32_t most = RunAt(BestCpuLevel(), Bf16Kernel(), in.data(), in.size(), to);
    if (most >= kFloatInfinityBits) return std::nullopt;
    return EncodedBytes(in.size());
  }

  bool DecodeChunk(uint64_t, std::span<const std::byte> in, std::span<float> out) const override {
    if (in.size() != EncodedBytes(out.size())) return false;
    uint16_t most = 0;
    for (size_t i = 0; i < out.size(); ++i) most = std::max<uint16_t>(most, Half(in, i) & 0x7fffu);
    if (most > kMaxMagnitudeBits >> 16) return false;
    for (size_t i = 0; i < out.size(); ++i) out[i] = FromBf16(Half(in, i));
    return true;
  }

 private:
  static uint16_t Half(std::span<const std::byte> in, size_t i) {
    uint16_t half;
    std::memcpy(&half, in.data() + 2 * i, 2);
    return half;
  }
};

}  // namespace

const Codec& Float32Codec() {
  static const Float32 codec;
  return codec;
}
const Codec& Bf16Codec() {
  static const Bf16 codec;
  return codec;
}

}  // namespace longhaul
