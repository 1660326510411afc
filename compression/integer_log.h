// Logarithms for the rate search, in integers: libm's differ in the last bit between machines, and
// every machine (and device) must find the same step. Values are in units of 2^-16 bit.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

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

}  // namespace integer_log_internal

// log2(n) · 2^16 for n >= 1, within 1.5 units.
constexpr uint64_t Log2(uint64_t n) {
  using integer_log_internal::kTable, integer_log_internal::kTableBits;
  const int whole = std::bit_width(n) - 1;
  // The 16 + kTableBits bits below the leading one.
  const uint64_t below = whole >= 26 ? (n >> (whole - 26)) : (n << (26 - whole));
  const uint64_t mantissa = below & ((uint64_t{1} << 26) - 1);
  const uint64_t i = mantissa >> (26 - kTableBits);
  const uint64_t rest = mantissa & ((uint64_t{1} << (26 - kTableBits)) - 1);
  const uint64_t low = kTable[i], high = kTable[i + 1];
  return (static_cast<uint64_t>(whole) << kLogFraction) + low +
         (((high - low) * rest) >> (26 - kTableBits));
}

// n log2(n), with 0 for n = 0: the building block of entropies.
constexpr uint64_t NLogN(uint64_t n) { return n == 0 ? 0 : n * Log2(n); }

}  // namespace longhaul
