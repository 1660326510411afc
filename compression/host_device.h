// Functions that plain code and kernels (compression/cuda) share: written once, compiled for both.
//
// nvcc silently miscompiles some of GCC's bit builtins on 64-bit numbers in device code, so shared
// functions count bits by the ones below.
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

#ifdef __CUDACC__
#define LONGHAUL_SHARED __host__ __device__
#else
#define LONGHAUL_SHARED
#endif

namespace longhaul {

// Bits up to the highest one that is set; 0 for 0.
LONGHAUL_SHARED constexpr int BitWidth(uint64_t n) {
#ifdef __CUDA_ARCH__
  if (!std::is_constant_evaluated()) return 64 - __clzll(static_cast<long long>(n));
#endif
  return static_cast<int>(std::bit_width(n));
}

// Zeros below the lowest bit that is set; 64 for 0.
LONGHAUL_SHARED constexpr int TrailingZeros(uint64_t n) {
#ifdef __CUDA_ARCH__
  if (!std::is_constant_evaluated()) return n == 0 ? 64 : __ffsll(static_cast<long long>(n)) - 1;
#endif
  return std::countr_zero(n);
}

template <class T>
LONGHAUL_SHARED constexpr T Least(T a, T b) {
  return b < a ? b : a;
}
template <class T>
LONGHAUL_SHARED constexpr T Most(T a, T b) {
  return a < b ? b : a;
}

}  // namespace longhaul
