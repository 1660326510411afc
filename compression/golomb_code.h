// Inside of Golomb's code: what its users on the processor and in kernels (compression/cuda) share.
// A Writer has Put(bits, count), a Reader has Peek(), Skip(count), Get(count) and overrun(), as in
// compression/bit_stream.h.
//
// Pure; any thread.
#pragma once

#include <cstdint>

#include "compression/host_device.h"
#include "compression/integer_log.h"

namespace longhaul {

// Golomb's parameter M and what follows from it: a gap is M's multiple in unary, then the remainder
// in truncated binary.
struct GapCode {
  uint32_t m;
  uint32_t reciprocal;  // floor(2^32 / m), for the division
  int bits;             // of a long remainder
  uint32_t short_ones;  // remainders below it take a bit less

  LONGHAUL_SHARED uint32_t Quotient(uint32_t gap) const {
    const auto q = static_cast<uint32_t>((uint64_t{gap} * reciprocal) >> 32);
    return q + (gap - q * m >= m ? 1 : 0);
  }
};

// M = 0.6931 · (mean gap), at least 1.
LONGHAUL_SHARED inline GapCode GapCodeFor(uint64_t count, uint64_t n) {
  const uint64_t scaled = (n - count) * 45426 / count + 32768;
  GapCode p;
  p.m = static_cast<uint32_t>(Most<uint64_t>(1, scaled >> 16));
  p.reciprocal = static_cast<uint32_t>((uint64_t{1} << 32) / Most(2u, p.m));
  if (p.m == 1) p.reciprocal = UINT32_MAX;
  p.bits = BitWidth(p.m - 1);
  p.short_ones = (1u << p.bits) - p.m;
  return p;
}

template <class Writer>
LONGHAUL_SHARED void PutGap(uint32_t gap, const GapCode& p, Writer& out) {
  uint32_t q = p.Quotient(gap);
  const uint32_t r = gap - q * p.m;
  constexpr uint32_t kMost = 24;
  for (; q >= kMost; q -= kMost) out.Put((1u << kMost) - 1, kMost);
  out.Put((uint64_t{1} << q) - 1, static_cast<int>(q + 1));
  if (p.bits == 0) return;
  if (r < p.short_ones) {
    out.Put(r, p.bits - 1);
  } else {
    // The low bits first, so that the reader can decide by them.
    const uint32_t code = r + p.short_ones;
    out.Put((code >> 1) | (uint64_t{code & 1} << (p.bits - 1)), p.bits);
  }
}

// `limit`: larger gaps cannot be.
template <class Reader>
LONGHAUL_SHARED uint32_t GetGap(const GapCode& p, uint32_t limit, Reader& in) {
  uint64_t window = in.Peek();
  uint32_t q = 0;
  int ones = TrailingZeros(~window);
  while (ones >= 32) {
    q += 32;
    in.Skip(32);
    if (uint64_t{q} * p.m > limit || in.overrun()) return limit + 1;
    window = in.Peek();
    ones = TrailingZeros(~window);
  }
  q += static_cast<uint32_t>(ones);
  window >>= ones + 1;
  int used = ones + 1;
  uint32_t r = 0;
  if (p.bits > 0) {
    const auto low = static_cast<uint32_t>(window & ((1u << (p.bits - 1)) - 1));
    const auto last = static_cast<uint32_t>((window >> (p.bits - 1)) & 1);
    const bool is_short = low < p.short_ones;
    r = is_short ? low : 2 * low + last - p.short_ones;
    used += is_short ? p.bits - 1 : p.bits;
  }
  in.Skip(used);
  const uint64_t gap = uint64_t{q} * p.m + r;
  return gap > limit ? limit + 1 : static_cast<uint32_t>(gap);
}

// What PutPositions takes for `count` of `n` positions spread at random, in units of 2^-16 bit.
LONGHAUL_SHARED inline uint64_t PositionsCost(uint64_t count, uint64_t n) {
  if (count == 0 || count >= n) return 0;
  const uint64_t entropy = NLogN(n) - NLogN(count) - NLogN(n - count);
  // Golomb's code never takes less than a bit for a position, and about 1/32 above the entropy.
  return Most(entropy, count * kOneBit) + count * (kOneBit / 32);
}

// A number in Elias's gamma code of n + 1: small ones are short. At most 2^32 - 2.
template <class Writer>
LONGHAUL_SHARED void PutNumber(uint32_t n, Writer& out) {
  const int width = BitWidth(uint64_t{n} + 1) - 1;
  out.Put(uint64_t{1} << width, width + 1);
  out.Put((uint64_t{n} + 1) & ((uint64_t{1} << width) - 1), width);
}
template <class Reader>
LONGHAUL_SHARED uint32_t GetNumber(Reader& in) {
  const int width = TrailingZeros(in.Peek());
  if (width >= 32) {
    in.Skip(INT32_MAX);  // nothing writes it
    return 0;
  }
  in.Skip(width + 1);
  return static_cast<uint32_t>(((uint64_t{1} << width) | in.Get(width)) - 1);
}

}  // namespace longhaul
