// Which instructions a kernel may use. A kernel is one plain loop; RunAt compiles it once per level
// and calls the one asked for. (Not target_clones: its choice is made by the loader, so no test
// could force a path.) Every level gives the same bits.
//
// Pure; any thread.
#pragma once

namespace longhaul {

enum class CpuLevel { kPortable, kAvx2, kAvx512 };

// The best level that this machine has.
CpuLevel BestCpuLevel();

#define LONGHAUL_INLINE __attribute__((always_inline)) inline

#if defined(__x86_64__)
#define LONGHAUL_X86 1
#define LONGHAUL_AVX2 __attribute__((target("avx2")))
#define LONGHAUL_AVX512 __attribute__((target("avx2,avx512f,avx512bw,avx512vl,avx512dq")))

template <class Kernel, class... Args>
LONGHAUL_AVX2 auto RunAvx2(Kernel kernel, Args... args) {
  return kernel(args...);
}
template <class Kernel, class... Args>
LONGHAUL_AVX512 auto RunAvx512(Kernel kernel, Args... args) {
  return kernel(args...);
}
#endif

// Calls `kernel(args...)`, a function object whose operator() and all below it are LONGHAUL_INLINE.
template <class Kernel, class... Args>
auto RunAt(CpuLevel level, Kernel kernel, Args... args) {
#ifdef LONGHAUL_X86
  if (level == CpuLevel::kAvx512) return RunAvx512(kernel, args...);
  if (level == CpuLevel::kAvx2) return RunAvx2(kernel, args...);
#endif
  return kernel(args...);
}

}  // namespace longhaul
