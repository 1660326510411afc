// Logarithms for the rate search, in integers: libm's differ in the last bit between machines, and
// every machine (and device) must find the same step. Values are in units of 2^-16 bit.
#pragma once

#include <array>
#include <cstdint>

#include "compression/host_device.h"

namespace longhaul {

inline constexpr int kLogFraction = 16;
inline constexpr uint64_t kOneBit = uint64_t{1} << kLogFraction;

namespace integer_log_internal {

inline constexpr int kTableBits = 10;

// log2(1 + i / 2^kTableBits) by repeated squaring, a bit at a time.
constexpr uint32_t LogOfMantissa(uint64_t i) {
  uint64_t x = (i << (30 - kTableBits)) + (uint64_t{1} << 30);  // in [1, 2], 30 bits of fraction
  uint32_t log = 0;
  if (x >> 31) return 1u << kLogFraction;
  for (int bit = 0; bit <= kLogFraction; ++bit) {
    x = (x * x) >> 30;
    log <<= 1;
    if (x >> 31) {
      log |= 1;
      x >>= 1;
    }
  }
  return (log + 1) >> 1;  // one bit more was computed, to round
}

constexpr auto MakeTable() {
  std::array<uint32_t, (1 << kTableBits) + 1> table{};
  for (uint64_t i = 0; i < table.size(); ++i) table[i] = LogOfMantissa(i);
  return table;
}
inline constexpr auto kTable = MakeTable();
#ifdef __CUDACC__
static __device__ const std::array<uint32_t, (1 << kTableBits) + 1> kDeviceTable = MakeTable();
#endif

LONGHAUL_SHARED constexpr uint32_t TableAt(uint64_t i) {
#ifdef __CUDA_ARCH__
  return kDeviceTable[i];
#else
  return kTable[i];
#endif
}

}  // namespace integer_log_internal

// log2(n) · 2^16 for n >= 1, within 1.5 units.
LONGHAUL_SHARED constexpr uint64_t Log2(uint64_t n) {
  using integer_log_internal::kTableBits, integer_log_internal::TableAt;
  const int whole = BitWidth(n) - 1;
  // The 16 + kTableBits bits below the leading one.
  const uint64_t below = whole >= 26 ? (n >> (whole - 26)) : (n << (26 - whole));
  const uint64_t mantissa = below & ((uint64_t{1} << 26) - 1);
  const uint64_t i = mantissa >> (26 - kTableBits);
  const uint64_t rest = mantissa & ((uint64_t{1} << (26 - kTableBits)) - 1);
  const uint64_t low = TableAt(i), high = TableAt(i + 1);
  return (static_cast<uint64_t>(whole) << kLogFraction) + low +
         (((high - low) * rest) >> (26 - kTableBits));
}

// n log2(n), with 0 for n = 0: the building block of entropies.
LONGHAUL_SHARED constexpr uint64_t NLogN(uint64_t n) { return n == 0 ? 0 : n * Log2(n); }

}  // namespace longhaul
