#include "compression/block_codec.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "compression/bf16.h"

namespace longhaul {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr size_t kScaleBytes = 2;
// Adding it rounds a float32 of magnitude below 2^22 to an integer, ties to even, and leaves that
// integer in the lowest bits.
constexpr float kRounder = 12582912.0f;  // 1.5 * 2^23

uint32_t MaxMagnitudeBits(const float* block) {
  uint32_t most = 0;
  for (size_t i = 0; i < kBlockValues; ++i) {
    most = std::max(most, std::bit_cast<uint32_t>(block[i]) & kFloatMagnitudeMask);
  }
  return most;
}

void Quantise(const float* block, float scale, float qmax, int8_t* codes) {
  for (size_t i = 0; i < kBlockValues; ++i) {
    float x = block[i] / scale;
    x = x < qmax ? x : qmax;
    x = x > -qmax ? x : -qmax;
    codes[i] = static_cast<int8_t>(std::bit_cast<uint32_t>(x + kRounder));
  }
}

// Packs 64 codes of kBits bits, first code lowest; and back, with the sign extended.
template <int kBits>
void Pack(const int8_t* codes, uint8_t* out) {
  constexpr int kPerByte = 8 / kBits;
  constexpr unsigned kMask = (1u << kBits) - 1;
  for (size_t i = 0; i < kBlockValues / kPerByte; ++i) {
    unsigned byte = 0;
    for (int j = 0; j < kPerByte; ++j) {
      byte |= (static_cast<unsigned>(codes[i * kPerByte + j]) & kMask) << (j * kBits);
    }
    out[i] = static_cast<uint8_t>(byte);
  }
}
template <int kBits>
void Unpack(const uint8_t* in, int8_t* codes) {
  constexpr int kPerByte = 8 / kBits;
  for (size_t i = 0; i < kBlockValues / kPerByte; ++i) {
    for (int j = 0; j < kPerByte; ++j) {
      const auto at_top =
          static_cast<int8_t>(static_cast<unsigned>(in[i]) << (8 - kBits * (j + 1)));
      codes[i * kPerByte + j] = static_cast<int8_t>(at_top >> (8 - kBits));
    }
  }
}

template <int kBits, CodecId kId>
class Block final : public Codec {
 public:
  CodecId id() const override { return kId; }

  size_t EncodedBytes(size_t elements) const override {
    const size_t rest = elements % kBlockValues;
    return elements / kBlockValues * kFullBytes + (rest == 0 ? 0 : kScaleBytes + CodeBytes(rest));
  }

  std::optional<size_t> EncodeChunk(const CodecPlan&, uint64_t, std::span<const float> in,
                                    std::span<std::byte> out) const override {
    if (out.size() < EncodedBytes(in.size())) return std::nullopt;
    const size_t full = in.size() / kBlockValues;
    auto* to = reinterpret_cast<uint8_t*>(out.data());
    for (size_t b = 0; b < full; ++b) {
      if (!EncodeBlock(in.data() + b * kBlockValues, to + b * kFullBytes)) return std::nullopt;
    }
    const std::span<const float> rest = in.subspan(full * kBlockValues);
    if (rest.empty()) return EncodedBytes(in.size());
    std::array<float, kBlockValues> padded{};
    std::copy(rest.begin(), rest.end(), padded.begin());
    std::array<uint8_t, kFullBytes> block;
    if (!EncodeBlock(padded.data(), block.data())) return std::nullopt;
    std::memcpy(to + full * kFullBytes, block.data(), kScaleBytes + CodeBytes(rest.size()));
    return EncodedBytes(in.size());
  }

  bool DecodeChunk(uint64_t, std::span<const std::byte> in, std::span<float> out) const override {
    if (in.size() != EncodedBytes(out.size())) return false;
    const size_t full = out.size() / kBlockValues;
    const size_t rest = out.size() % kBlockValues;
    const auto* from = reinterpret_cast<const uint8_t*>(in.data());
    for (size_t b = 0; b < full; ++b) {
      if (!Valid(from + b * kFullBytes)) return false;
    }
    // The last, shorter block is completed with zero codes.
    std::array<uint8_t, kFullBytes> last{};
    if (rest != 0) {
      std::memcpy(last.data(), from + full * kFullBytes, kScaleBytes + CodeBytes(rest));
      if (!Valid(last.data()) || !ZeroFrom(last.data(), rest)) return false;
    }
    for (size_t b = 0; b < full; ++b) {
      DecodeBlock(from + b * kFullBytes, out.data() + b * kBlockValues);
    }
    if (rest != 0) {
      std::array<float, kBlockValues> values;
      DecodeBlock(last.data(), values.data());
      std::copy_n(values.begin(), rest, out.begin() + static_cast<ptrdiff_t>(full * kBlockValues));
    }
    return true;
  }

 private:
  static constexpr int kQMax = (1 << (kBits - 1)) - 1;
  static constexpr size_t CodeBytes(size_t values) { return (values * kBits + 7) / 8; }
  static constexpr size_t kFullBytes = kScaleBytes + kBlockValues * kBits / 8;
  static constexpr uint16_t kMaxScale = ToBf16(kMaxMagnitude / kQMax);
  static_assert(FromBf16(kMaxScale) * kQMax <= kMaxMagnitude);

  static bool EncodeBlock(const float* block, uint8_t* out) {
    const uint32_t most = MaxMagnitudeBits(block);
    if (most >= kFloatInfinityBits) return false;
    const float absmax = std::min(std::bit_cast<float>(most), kMaxMagnitude);
    uint16_t scale = ToBf16(absmax / static_cast<float>(kQMax));
    if (FromBf16(scale) < kMinBlockScale) scale = 0;
    std::memcpy(out, &scale, kScaleBytes);
    if (scale == 0) {
      std::memset(out + kScaleBytes, 0, kFullBytes - kScaleBytes);
      return true;
    }
    std::array<int8_t, kBlockValues> codes;
    Quantise(block, FromBf16(scale), static_cast<float>(kQMax), codes.data());
    Pack<kBits>(codes.data(), out + kScaleBytes);
    return true;
  }

  static bool Valid(const uint8_t* block) {
    uint16_t scale;
    std::memcpy(&scale, block, kScaleBytes);
    if (scale > kMaxScale || (scale != 0 && scale < ToBf16(kMinBlockScale))) return false;
    std::array<int8_t, kBlockValues> codes;
    Unpack<kBits>(block + kScaleBytes, codes.data());
    int8_t least = 0;
    uint8_t any = 0;
    for (int8_t q : codes) {
      least = std::min(least, q);
      any |= static_cast<uint8_t>(q);
    }
    return least >= -kQMax && (scale != 0 || any == 0);
  }

  // Codes from `first` on are padding.
  static bool ZeroFrom(const uint8_t* block, size_t first) {
    std::array<int8_t, kBlockValues> codes;
    Unpack<kBits>(block + kScaleBytes, codes.data());
    return std::all_of(codes.begin() + static_cast<ptrdiff_t>(first), codes.end(),
                       [](int8_t q) { return q == 0; });
  }

  static void DecodeBlock(const uint8_t* block, float* out) {
    uint16_t half;
    std::memcpy(&half, block, kScaleBytes);
    const float scale = FromBf16(half);
    std::array<int8_t, kBlockValues> codes;
    Unpack<kBits>(block + kScaleBytes, codes.data());
    for (size_t i = 0; i < kBlockValues; ++i) out[i] = static_cast<float>(codes[i]) * scale;
  }
};

}  // namespace

const Codec& Int8Codec() {
  static const Block<8, CodecId::kInt8> codec;
  return codec;
}
const Codec& Int4Codec() {
  static const Block<4, CodecId::kInt4> codec;
  return codec;
}
const Codec& Int2Codec() {
  static const Block<2, CodecId::kInt2> codec;
  return codec;
}

}  // namespace longhaul
