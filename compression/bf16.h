// bfloat16 by integer arithmetic alone: no rounding mode and no flush-to-zero setting can change
// these bits.
#pragma once

#include <bit>
#include <cstdint>

#include "compression/host_device.h"

namespace longhaul {

inline constexpr uint32_t kFloatMagnitudeMask = 0x7fffffffu;
inline constexpr uint32_t kFloatInfinityBits = 0x7f800000u;

// Nearest, ties to even. `bits` are a finite float32's.
LONGHAUL_SHARED constexpr uint16_t Bf16FromFloatBits(uint32_t bits) {
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
LONGHAUL_SHARED constexpr uint16_t ToBf16(float finite) {
  return Bf16FromFloatBits(std::bit_cast<uint32_t>(finite));
}
LONGHAUL_SHARED constexpr float FromBf16(uint16_t half) {
  return std::bit_cast<float>(static_cast<uint32_t>(half) << 16);
}

}  // namespace longhaul
