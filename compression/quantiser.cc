#include "compression/quantiser.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "compression/bf16.h"
#include "compression/codec.h"

#ifdef LONGHAUL_X86
#include <emmintrin.h>
#endif

namespace longhaul {
namespace {

constexpr float kRounding = 1.0f / 3;

// All ones or all zeros: written so, the loops below have no branches and become vector code.
LONGHAUL_INLINE int32_t Mask(bool condition) { return -static_cast<int32_t>(condition); }

LONGHAUL_INLINE float Scaled(uint32_t magnitude_bits, float per_step, float most) {
  const float scaled = std::bit_cast<float>(magnitude_bits) * per_step;
  return scaled < most ? scaled : most;
}

float MostScaled(float per_step) {
  return std::min(static_cast<float>(kMaxLevel), kSaturation * per_step);
}

struct QuantiseKernel {
  LONGHAUL_INLINE uint32_t operator()(const float* __restrict values, size_t n, uint32_t threshold,
                                      float per_step, float most, uint8_t* __restrict symbols,
                                      CentroidSums* sums) const {
    int32_t sum1 = 0, sum2 = 0, sum3 = 0, more = 0;
    uint32_t largest = 0;
    for (size_t i = 0; i < n; ++i) {
      const auto bits = std::bit_cast<uint32_t>(values[i]);
      const uint32_t magnitude = bits & kFloatMagnitudeMask;
      largest = largest > magnitude ? largest : magnitude;
      const float scaled = Scaled(magnitude, per_step, most);
      auto level = static_cast<int32_t>(scaled + kRounding);
      level = level < 1 ? 1 : level;
      level &= Mask(magnitude >= threshold);
      const int32_t above = static_cast<int32_t>(scaled * 256.0f) - 256 * level;
      sum1 += above & Mask(level == 1);
      sum2 += above & Mask(level == 2);
      sum3 += above & Mask(level == 3);
      more += above & Mask(level > 3);
      // A float has the exponent and the bits below it ready: that is TokenOf for large levels.
      const auto as_float = std::bit_cast<uint32_t>(static_cast<float>(level));
      constexpr int32_t kShift = ((127 + 4) << 2) - kDirectLevels;
      const int32_t large = static_cast<int32_t>(as_float >> 21) - kShift;
      const int32_t token = level ^ ((level ^ large) & Mask(level > 15));
      symbols[i] =
          static_cast<uint8_t>(2 * token - (static_cast<int32_t>(bits >> 31) & Mask(token != 0)));
    }
    (*sums)[0] += sum1;
    (*sums)[1] += sum2;
    (*sums)[2] += sum3;
    (*sums)[3] += more;
    return largest;
  }
};

struct LookUpKernel {
  LONGHAUL_INLINE void operator()(const uint8_t* __restrict symbols, size_t n,
                                  const float* __restrict table, float* __restrict out) const {
    for (size_t i = 0; i < n; ++i) out[i] = table[symbols[i]];
  }
};

struct CountKernel {
  LONGHAUL_INLINE size_t operator()(const uint8_t* symbols, size_t n) const {
    size_t count = 0;
    while (n > 0) {
      // So few that a byte holds their number.
      const size_t part = n < 255 ? n : 255;
      uint8_t some = 0;
      for (size_t i = 0; i < part; ++i) some = static_cast<uint8_t>(some + (symbols[i] != 0));
      count += some;
      symbols += part;
      n -= part;
    }
    return count;
  }
};

// Which of 64 bytes are not zero, the first one lowest.
#ifdef LONGHAUL_X86
inline uint64_t NonZeroMask(const uint8_t* bytes) {
  uint64_t zero = 0;
  for (int i = 0; i < 4; ++i) {
    const __m128i part = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes + 16 * i));
    const int mask = _mm_movemask_epi8(_mm_cmpeq_epi8(part, _mm_setzero_si128()));
    zero |= uint64_t{static_cast<uint16_t>(mask)} << (16 * i);
  }
  return ~zero;
}
#else
inline uint64_t NonZeroMask(const uint8_t* bytes) {
  uint64_t mask = 0;
  for (int i = 0; i < 64; ++i) mask |= uint64_t{bytes[i] != 0} << i;
  return mask;
}
#endif

}  // namespace

uint32_t Quantise(CpuLevel cpu, std::span<const float> values, const QuantiserSettings& settings,
                  uint8_t* symbols, CentroidSums& sums) {
  const float per_step = 1.0f / settings.step;
  return RunAt(cpu, QuantiseKernel(), values.data(), values.size(), settings.threshold_bits,
               per_step, MostScaled(per_step), symbols, &sums);
}

uint32_t LevelOf(float value, float step) {
  const uint32_t magnitude = std::bit_cast<uint32_t>(value) & kFloatMagnitudeMask;
  const float per_step = 1.0f / step;
  return std::max(
      1u, static_cast<uint32_t>(Scaled(magnitude, per_step, MostScaled(per_step)) + kRounding));
}

std::array<uint32_t, kSymbols> CountSymbols(std::span<const uint8_t> symbols) {
  // Several tables, so that equal neighbours need not wait for each other.
  constexpr size_t kTables = 8;
  std::array<std::array<uint32_t, 256>, kTables> part{};
  size_t i = 0;
  for (; i + 8 <= symbols.size(); i += 8) {
    uint64_t eight;
    std::memcpy(&eight, symbols.data() + i, 8);
    for (size_t j = 0; j < kTables; ++j) ++part[j][(eight >> (8 * j)) & 255];
  }
  for (; i < symbols.size(); ++i) ++part[0][symbols[i]];
  std::array<uint32_t, kSymbols> counts{};
  for (size_t s = 0; s < kSymbols; ++s) {
    for (const auto& table : part) counts[s] += table[s];
  }
  return counts;
}

size_t CountNonZero(CpuLevel cpu, std::span<const uint8_t> symbols) {
  return RunAt(cpu, CountKernel(), symbols.data(), symbols.size());
}

NonZero CollectNonZero(std::span<const uint8_t> symbols, size_t count) {
  NonZero found;
  found.positions.resize(count);
  found.symbols.resize(count);
  size_t at = 0, i = 0;
  for (; i + 64 <= symbols.size(); i += 64) {
    for (uint64_t mask = NonZeroMask(&symbols[i]); mask != 0; mask &= mask - 1) {
      const size_t position = i + static_cast<size_t>(std::countr_zero(mask));
      found.positions[at] = static_cast<uint32_t>(position);
      found.symbols[at++] = symbols[position];
    }
  }
  for (; i < symbols.size(); ++i) {
    if (symbols[i] == 0) continue;
    found.positions[at] = static_cast<uint32_t>(i);
    found.symbols[at++] = symbols[i];
  }
  return found;
}

void LookUp(CpuLevel cpu, std::span<const uint8_t> symbols,
            const std::array<float, kSymbols>& table, float* out) {
  RunAt(cpu, LookUpKernel(), symbols.data(), symbols.size(), table.data(), out);
}

}  // namespace longhaul
