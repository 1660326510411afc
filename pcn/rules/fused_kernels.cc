#include "pcn/rules/fused_kernels.h"

#include <algorithm>

// One plain loop each; the compiler makes a version per instruction set.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define LONGHAUL_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define LONGHAUL_CLONES
#endif

namespace longhaul::pcn {

LONGHAUL_CLONES void ActivateInto(const float* __restrict x, float* __restrict y, int64_t n,
                                  float slope) {
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] > 0 ? x[i] : slope * x[i];
}

LONGHAUL_CLONES void GateBySign(float* __restrict z, const float* __restrict y, int64_t n,
                                float slope) {
  for (int64_t i = 0; i < n; ++i) z[i] *= y[i] > 0 ? 1.0f : slope;
}

LONGHAUL_CLONES void ErrorAndGate(const float* __restrict a, const float* __restrict h,
                                  float* __restrict e, float* __restrict gated, int64_t n,
                                  float slope) {
  for (int64_t i = 0; i < n; ++i) {
    const float gate = a[i] > 0 ? 1.0f : slope;
    e[i] = h[i] - gate * a[i];
    gated[i] = e[i] * gate;
  }
}

LONGHAUL_CLONES void StepStates(const float* __restrict pulled, const float* __restrict e,
                                float* __restrict v, float* __restrict h, int64_t n, float rate,
                                float momentum) {
  for (int64_t i = 0; i < n; ++i) {
    v[i] = momentum * v[i] + (pulled[i] - e[i]);
    h[i] += rate * v[i];
  }
}

LONGHAUL_CLONES double SumOfSquares(const float* x, int64_t n) {
  constexpr int64_t kLanes = 16;  // partial sums, so that the order does not hinder vectors
  float part[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int64_t k = 0; k < kLanes; ++k) part[k] += x[i + k] * x[i + k];
  }
  double sum = 0;
  for (float p : part) sum += p;
  for (; i < n; ++i) sum += x[i] * x[i];
  return sum;
}

LONGHAUL_CLONES void ColumnSums(const float* __restrict x, int64_t rows, int64_t columns,
                                float* __restrict out) {
  std::fill(out, out + columns, 0.0f);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) out[c] += x[r * columns + c];
  }
}

LONGHAUL_CLONES void AddParts(const float* const* parts, uint32_t count, float* __restrict out,
                              int64_t begin, int64_t end, float scale) {
  for (int64_t i = begin; i < end; ++i) out[i] = scale * parts[0][i];
  for (uint32_t p = 1; p < count; ++p) {
    const float* part = parts[p];
    for (int64_t i = begin; i < end; ++i) out[i] += scale * part[i];
  }
}

}  // namespace longhaul::pcn
