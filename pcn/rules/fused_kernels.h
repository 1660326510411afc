// The elementwise passes of the fused path, each over memory once. `slope` is what an activation
// does to negative values: 1 identity, 0 ReLU, 0.01 leaky ReLU.
//
// Thread rule: pure functions. Arrays do not overlap unless they are the same.
#pragma once

#include <cstdint>

namespace longhaul::pcn {

// y <- phi(x)
void ActivateInto(const float* x, float* y, int64_t n, float slope);
// z <- z * phi'(.), from the sign of phi's result y.
void GateBySign(float* z, const float* y, int64_t n, float slope);
// e <- h - phi(a), gated <- e * phi'(a)
void ErrorAndGate(const float* a, const float* h, float* e, float* gated, int64_t n, float slope);
// v <- momentum * v + pulled - e, h <- h + rate * v
void StepStates(const float* pulled, const float* e, float* v, float* h, int64_t n, float rate,
                float momentum);
double SumOfSquares(const float* x, int64_t n);
// out[c] <- sum over rows of x[r, c]
void ColumnSums(const float* x, int64_t rows, int64_t columns, float* out);
// out[i] <- scale * (sum over parts of part[i]), for i in [begin, end)
void AddParts(const float* const* parts, uint32_t count, float* out, int64_t begin, int64_t end,
              float scale);

}  // namespace longhaul::pcn
