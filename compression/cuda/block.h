// The block codecs (compression/block_codec.h) as kernels: 8, 4 or 2 bits per value, blocks of 64.
#pragma once

#include <cstdint>

#include "compression/bf16.h"
#include "compression/block_codec.h"
#include "compression/cuda/grid.h"
#include "compression/cuda/input.h"
#include "compression/cuda/output.h"

namespace longhaul::cuda {

template <int kBits>
struct BlockFormat {
  static constexpr int kQMax = (1 << (kBits - 1)) - 1;
  static constexpr uint32_t kPerByte = 8 / kBits;
  static constexpr uint32_t kScaleBytes = 2;
  static constexpr uint32_t kFullCodeBytes = kBlockValues / kPerByte;
  static constexpr uint32_t kFullBytes = kScaleBytes + kFullCodeBytes;
  static constexpr uint16_t kMinScale = ToBf16(kMinBlockScale);
  static constexpr uint16_t kMaxScale = ToBf16(kMaxMagnitude / kQMax);

  LONGHAUL_SHARED static uint32_t CodeBytes(uint32_t values) { return (values * kBits + 7) / 8; }
  LONGHAUL_SHARED static uint64_t Bytes(uint64_t values) {
    const auto rest = static_cast<uint32_t>(values % kBlockValues);
    return values / kBlockValues * kFullBytes + (rest == 0 ? 0 : kScaleBytes + CodeBytes(rest));
  }

  // Of a block whose largest magnitude is finite.
  LONGHAUL_SHARED static uint16_t Scale(uint32_t largest_bits) {
    const float most = std::bit_cast<float>(largest_bits);
    const uint16_t half =
        ToBf16((most < kMaxMagnitude ? most : kMaxMagnitude) / static_cast<float>(kQMax));
    return half < kMinScale ? uint16_t{0} : half;
  }
  LONGHAUL_SHARED static uint32_t Code(float value, uint16_t scale) {
    if (scale == 0) return 0;
    constexpr float kMost = kQMax;
    constexpr float kRounder = 12582912.0f;  // 1.5 · 2^23: rounds, ties to even
    float x = value / FromBf16(scale);
    x = x < kMost ? x : kMost;
    x = x > -kMost ? x : -kMost;
    return std::bit_cast<uint32_t>(x + kRounder) & ((1u << kBits) - 1);
  }
  LONGHAUL_SHARED static int32_t Signed(uint32_t byte, uint32_t i) {
    return static_cast<int32_t>(byte << (32 - kBits * (i + 1))) >> (32 - kBits);
  }
  LONGHAUL_SHARED static uint16_t ScaleOf(const uint8_t* block) {
    return static_cast<uint16_t>(block[0] | block[1] << 8);
  }
  // Whether a block of `values` values is what an encoder writes.
  LONGHAUL_SHARED static bool Valid(const uint8_t* block, uint32_t values) {
    const uint16_t scale = ScaleOf(block);
    if (scale > kMaxScale || (scale != 0 && scale < kMinScale)) return false;
    for (uint32_t i = 0; i < CodeBytes(values) * kPerByte; ++i) {
      const int32_t q = Signed(block[kScaleBytes + i / kPerByte], i % kPerByte);
      if (q < -kQMax || (q != 0 && (scale == 0 || i >= values))) return false;
    }
    return true;
  }
};

// Codes kPerBlock · 64 values of a fragment. Chunks hold whole blocks of 64, so the code of the
// fragment is that of its chunks one after the other.
template <int kBits>
struct BlockEncodeKernel {
  using Format = BlockFormat<kBits>;
  static constexpr uint32_t kThreads = 256;
  static constexpr uint32_t kPerBlock = 16;
  static constexpr uint32_t kValues = kPerBlock * kBlockValues;
  struct Shared {
    float values[kValues];
    uint32_t largest[kPerBlock];
    uint16_t scale[kPerBlock];
  };
  Input input;
  uint64_t elements;
  uint8_t* out;
  uint32_t* not_finite;  // becomes 1

  template <class Block>
  LONGHAUL_SHARED void operator()(Block& block, Shared& shared, uint32_t index) const {
    const uint64_t first = uint64_t{index} * kValues;
    block.Each([&](uint32_t t) {
      if (t < kPerBlock) shared.largest[t] = 0;
    });
    block.Each([&](uint32_t t) {
      for (uint32_t i = t; i < kValues; i += kThreads) {
        const float v = first + i < elements ? input.At(first + i) : 0.0f;
        shared.values[i] = v;
        AtomicMax(&shared.largest[i / kBlockValues], MagnitudeBits(v));
      }
    });
    block.Each([&](uint32_t t) {
      if (t >= kPerBlock || first + t * kBlockValues >= elements) return;
      if (shared.largest[t] >= kFloatInfinityBits) {
        AtomicMax(not_finite, 1);
        shared.largest[t] = 0;
      }
      shared.scale[t] = Format::Scale(shared.largest[t]);
      uint8_t* to = out + (first / kBlockValues + t) * Format::kFullBytes;
      to[0] = static_cast<uint8_t>(shared.scale[t]);
      to[1] = static_cast<uint8_t>(shared.scale[t] >> 8);
    });
    block.Each([&](uint32_t t) {
      for (uint32_t b = t; b < kPerBlock * Format::kFullCodeBytes; b += kThreads) {
        PutByte(shared, first, b);
      }
    });
  }

 private:
  LONGHAUL_SHARED void PutByte(const Shared& shared, uint64_t first, uint32_t b) const {
    const uint32_t i = b * Format::kPerByte;
    if (first + i >= elements) return;
    uint32_t byte = 0;
    for (uint32_t j = 0; j < Format::kPerByte; ++j) {
      byte |= Format::Code(shared.values[i + j], shared.scale[i / kBlockValues]) << (j * kBits);
    }
    const uint64_t of_block = first / kBlockValues + i / kBlockValues;
    out[of_block * Format::kFullBytes + Format::kScaleBytes + b % Format::kFullCodeBytes] =
        static_cast<uint8_t>(byte);
  }
};

// Looks at each block of a fragment's code, a thread per block.
template <int kBits>
struct BlockCheckKernel {
  using Format = BlockFormat<kBits>;
  static constexpr uint32_t kThreads = 128;
  struct Shared {};
  const uint8_t* code;
  uint64_t elements;
  uint32_t* damaged;  // becomes 1

  template <class Block>
  LONGHAUL_SHARED void operator()(Block& block, Shared&, uint32_t index) const {
    block.Each([&](uint32_t t) {
      const uint64_t b = uint64_t{index} * kThreads + t;
      if (b * kBlockValues >= elements) return;
      const auto values =
          static_cast<uint32_t>(Least<uint64_t>(kBlockValues, elements - b * kBlockValues));
      if (!Format::Valid(code + b * Format::kFullBytes, values)) AtomicMax(damaged, 1);
    });
  }
};

// Decodes what was found right.
template <int kBits>
struct BlockDecodeKernel {
  using Format = BlockFormat<kBits>;
  static constexpr uint32_t kThreads = 256;
  static constexpr uint32_t kValues = 1024;
  struct Shared {};
  const uint8_t* code;
  uint64_t elements;
  Output output;

  template <class Block>
  LONGHAUL_SHARED void operator()(Block& block, Shared&, uint32_t index) const {
    const uint64_t first = uint64_t{index} * kValues;
    block.Each([&](uint32_t t) {
      for (uint64_t i = first + t; i < Least(first + kValues, elements); i += kThreads) {
        const uint8_t* from = code + i / kBlockValues * Format::kFullBytes;
        const auto at = static_cast<uint32_t>(i % kBlockValues);
        const uint8_t byte = from[Format::kScaleBytes + at / Format::kPerByte];
        output.Put(i, static_cast<float>(Format::Signed(byte, at % Format::kPerByte)) *
                          FromBf16(Format::ScaleOf(from)));
      }
    });
  }
};

}  // namespace longhaul::cuda
