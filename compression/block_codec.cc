#include "compression/block_codec.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <type_traits>

#include "compression/bf16.h"
#include "compression/cpu.h"

namespace longhaul {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr size_t kScaleBytes = 2;
// Adding it rounds a float32 of magnitude below 2^22 to an integer, ties to even, and leaves that
// integer in the lowest bits.
constexpr float kRounder = 12582912.0f;  // 1.5 * 2^23
constexpr uint16_t kMinScale = ToBf16(kMinBlockScale);

// The format of `kBits` bits per value, and its loops over whole blocks.
template <int kBits>
struct Format {
  static constexpr int kQMax = (1 << (kBits - 1)) - 1;
  static constexpr int kPerByte = 8 / kBits;
  using Word = std::conditional_t<kPerByte == 1, uint8_t,
                                  std::conditional_t<kPerByte == 2, uint16_t, uint32_t>>;
  static constexpr size_t kFullCodeBytes = kBlockValues / kPerByte;
  static constexpr size_t kFullBytes = kScaleBytes + kFullCodeBytes;
  static constexpr uint16_t kMaxScale = ToBf16(kMaxMagnitude / kQMax);
  static_assert(FromBf16(kMaxScale) * kQMax <= kMaxMagnitude);
  static constexpr size_t CodeBytes(size_t values) { return (values * kBits + 7) / 8; }
  static constexpr size_t Bytes(size_t values) {
    const size_t rest = values % kBlockValues;
    return values / kBlockValues * kFullBytes + (rest == 0 ? 0 : kScaleBytes + CodeBytes(rest));
  }

  // False when a value is not finite.
  LONGHAUL_INLINE static bool EncodeBlock(const float* __restrict block, uint8_t* __restrict out) {
    uint32_t most = 0;
    for (size_t i = 0; i < kBlockValues; ++i) {
      const uint32_t bits = std::bit_cast<uint32_t>(block[i]) & kFloatMagnitudeMask;
      most = most > bits ? most : bits;
    }
    if (most >= kFloatInfinityBits) return false;
    const float absmax = std::bit_cast<float>(most);
    uint16_t half =
        ToBf16((absmax < kMaxMagnitude ? absmax : kMaxMagnitude) / static_cast<float>(kQMax));
    if (half < kMinScale) half = 0;
    std::memcpy(out, &half, kScaleBytes);
    if (half == 0) {
      std::memset(out + kScaleBytes, 0, kFullCodeBytes);
    } else {
      Quantise(block, FromBf16(half), out + kScaleBytes);
    }
    return true;
  }

  LONGHAUL_INLINE static void Quantise(const float* __restrict block, float scale,
                                       uint8_t* __restrict out) {
    constexpr float kMost = kQMax;
    std::array<uint8_t, kBlockValues> codes;
    for (size_t i = 0; i < kBlockValues; ++i) {
      float x = block[i] / scale;
      x = x < kMost ? x : kMost;
      x = x > -kMost ? x : -kMost;
      codes[i] = static_cast<uint8_t>(std::bit_cast<uint32_t>(x + kRounder) & ((1u << kBits) - 1));
    }
    // A word holds the codes of one byte, a code in each of its bytes.
    const auto words = std::bit_cast<std::array<Word, kFullCodeBytes>>(codes);
    for (size_t i = 0; i < kFullCodeBytes; ++i) {
      uint32_t byte = words[i];
      for (int j = 1; j < kPerByte; ++j) byte |= uint32_t{words[i]} >> (j * (8 - kBits));
      out[i] = static_cast<uint8_t>(byte);
    }
  }

  LONGHAUL_INLINE static bool Valid(const uint8_t* block) {
    uint16_t half;
    std::memcpy(&half, block, kScaleBytes);
    // All codes of a byte at once: -qmax - 1 is a sign bit alone.
    constexpr unsigned kSigns = kBits == 8 ? 0x80 : kBits == 4 ? 0x88 : 0xaa, kRest = 255 - kSigns;
    uint8_t any = 0, lone = 0;
    for (size_t i = kScaleBytes; i < kFullBytes; ++i) {
      any |= block[i];
      lone |= static_cast<uint8_t>(block[i] & kSigns & ~((block[i] & kRest) + kRest));
    }
    return half <= kMaxScale && lone == 0 && (half == 0 ? any == 0 : half >= kMinScale);
  }

  LONGHAUL_INLINE static void DecodeBlock(const uint8_t* __restrict block, float* __restrict out) {
    uint16_t half;
    std::memcpy(&half, block, kScaleBytes);
    const float scale = FromBf16(half);
    for (size_t i = 0; i < kFullCodeBytes; ++i) {
      const auto byte = static_cast<uint32_t>(block[kScaleBytes + i]) << 24;
      for (int j = 0; j < kPerByte; ++j) {
        const auto at_top = static_cast<int32_t>(byte << (8 - kBits * (j + 1)));
        out[i * kPerByte + static_cast<size_t>(j)] =
            static_cast<float>(at_top >> (32 - kBits)) * scale;
      }
    }
  }
};

// Far enough ahead that memory keeps up with the arithmetic.
constexpr size_t kBlocksAhead = 8;
LONGHAUL_INLINE void PrefetchBlock(const float* block) {
  constexpr size_t kLineValues = 16;
  for (size_t i = 0; i < kBlockValues; i += kLineValues) __builtin_prefetch(block + i);
}

template <int kBits>
struct EncodeKernel {
  LONGHAUL_INLINE bool operator()(const float* in, size_t blocks, uint8_t* out) const {
    for (size_t b = 0; b < blocks; ++b) {
      PrefetchBlock(in + std::min(b + kBlocksAhead, blocks - 1) * kBlockValues);
      if (!Format<kBits>::EncodeBlock(in + b * kBlockValues, out + b * Format<kBits>::kFullBytes)) {
        return false;
      }
    }
    return true;
  }
};
template <int kBits>
struct ValidKernel {
  LONGHAUL_INLINE bool operator()(const uint8_t* in, size_t blocks) const {
    bool valid = true;
    for (size_t b = 0; b < blocks; ++b) {
      valid = Format<kBits>::Valid(in + b * Format<kBits>::kFullBytes) && valid;
    }
    return valid;
  }
};
template <int kBits>
struct DecodeKernel {
  LONGHAUL_INLINE void operator()(const uint8_t* in, size_t blocks, float* out) const {
    for (size_t b = 0; b < blocks; ++b) {
      Format<kBits>::DecodeBlock(in + b * Format<kBits>::kFullBytes, out + b * kBlockValues);
    }
  }
};

template <int kBits, CodecId kId>
class Block final : public Codec {
 public:
  explicit Block(CpuLevel cpu) : cpu_(cpu) {}
  CodecId id() const override { return kId; }
  size_t EncodedBytes(size_t elements) const override { return Format::Bytes(elements); }

  std::optional<size_t> EncodeChunk(const CodecPlan&, uint64_t, std::span<const float> in,
                                    std::span<std::byte> out) const override {
    if (out.size() < EncodedBytes(in.size())) return std::nullopt;
    const size_t full = in.size() / kBlockValues;
    auto* to = reinterpret_cast<uint8_t*>(out.data());
    if (!RunAt(cpu_, EncodeKernel<kBits>(), in.data(), full, to)) return std::nullopt;
    const std::span<const float> rest = in.subspan(full * kBlockValues);
    if (!rest.empty()) {
      std::array<float, kBlockValues> padded{};
      std::copy(rest.begin(), rest.end(), padded.begin());
      std::array<uint8_t, Format::kFullBytes> block;
      if (!Format::EncodeBlock(padded.data(), block.data())) return std::nullopt;
      std::memcpy(to + full * Format::kFullBytes, block.data(),
                  kScaleBytes + Format::CodeBytes(rest.size()));
    }
    return EncodedBytes(in.size());
  }

  bool DecodeChunk(uint64_t, std::span<const std::byte> in, std::span<float> out) const override {
    if (in.size() != EncodedBytes(out.size())) return false;
    const size_t full = out.size() / kBlockValues;
    const size_t rest = out.size() % kBlockValues;
    const auto* from = reinterpret_cast<const uint8_t*>(in.data());
    if (!RunAt(cpu_, ValidKernel<kBits>(), from, full)) return false;
    // The last, shorter block is completed with zero codes, and what it has of them must be zero.
    std::array<uint8_t, Format::kFullBytes> last{};
    std::array<float, kBlockValues> values;
    if (rest != 0) {
      std::memcpy(last.data(), from + full * Format::kFullBytes,
                  kScaleBytes + Format::CodeBytes(rest));
      if (!Format::Valid(last.data()) || !EndsAfter(rest, last)) return false;
      Format::DecodeBlock(last.data(), values.data());
    }
    RunAt(cpu_, DecodeKernel<kBits>(), from, full, out.data());
    std::copy_n(values.begin(), rest, out.begin() + static_cast<ptrdiff_t>(full * kBlockValues));
    return true;
  }

 private:
  using Format = longhaul::Format<kBits>;

  static bool EndsAfter(size_t values, std::span<const uint8_t> block) {
    const size_t bits = values * kBits;
    return block[kScaleBytes + (bits - 1) / 8] >> ((bits - 1) % 8 + 1) == 0;
  }

  const CpuLevel cpu_;
};

}  // namespace

const Codec& Int8Codec() {
  static const Block<8, CodecId::kInt8> codec(BestCpuLevel());
  return codec;
}
const Codec& Int4Codec() {
  static const Block<4, CodecId::kInt4> codec(BestCpuLevel());
  return codec;
}
const Codec& Int2Codec() {
  static const Block<2, CodecId::kInt2> codec(BestCpuLevel());
  return codec;
}

std::unique_ptr<const Codec> MakeBlockCodec(CodecId id, CpuLevel cpu) {
  switch (id) {
    case CodecId::kInt8:
      return std::make_unique<Block<8, CodecId::kInt8>>(cpu);
    case CodecId::kInt4:
      return std::make_unique<Block<4, CodecId::kInt4>>(cpu);
    case CodecId::kInt2:
      return std::make_unique<Block<2, CodecId::kInt2>>(cpu);
    default:
      return nullptr;
  }
}

}  // namespace longhaul
