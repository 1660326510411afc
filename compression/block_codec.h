// Uniform quantisers over blocks of 64 consecutive values (the last block may be shorter), 8, 4 or
// 2 bits per value.
//
// A block is its scale s (bfloat16, little-endian) and then its codes q in two's complement, the
// first value in the lowest bits; unused bits of the last byte are zero. With qmax = 127, 7, 1:
//   s = bf16(min(absmax, kMaxMagnitude) / qmax),  q = clamp(round(v / s), -qmax, qmax),  v' = q * s
// with ties to even. A scale below kMinBlockScale becomes 0, and so do its codes: no product or
// quotient is ever subnormal, so flush-to-zero modes cannot change a bit.
//
// Refused by the decoder: a wrong length, a scale that is not finite, negative, between 0 and
// kMinBlockScale, or so large that |v'| would pass kMaxMagnitude; q = -qmax - 1; a code other than
// 0 under scale 0; unused bits that are not zero.
#pragma once

#include <memory>

#include "compression/codec.h"
#include "compression/cpu.h"

namespace longhaul {

inline constexpr size_t kBlockValues = 64;
inline constexpr float kMinBlockScale = 0x1p-100f;

const Codec& Int8Codec();
const Codec& Int4Codec();
const Codec& Int2Codec();

// One of the three at a CPU level; null for other ids.
std::unique_ptr<const Codec> MakeBlockCodec(CodecId id, CpuLevel cpu);

}  // namespace longhaul
