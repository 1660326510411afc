#include "compression/cpu.h"

namespace longhaul {

CpuLevel BestCpuLevel() {
#ifdef LONGHAUL_X86
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
    return CpuLevel::kAvx512;
  }
  if (__builtin_cpu_supports("avx2")) return CpuLevel::kAvx2;
#endif
  return CpuLevel::kPortable;
}

}  // namespace longhaul
