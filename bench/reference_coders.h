// Coders from the literature, to compare with and to check the benchmark itself against recorded
// runs of an independent implementation. They do not write bytes: index and level bits are counted
// as ideal entropies, without packet headers. Matrices are coded tensor by tensor, everything
// one-dimensional is bf16.
//
//   ref-int8, ref-int4   per 64 values s = bf16(absmax / qmax), round half to even
//   ref-2bit             per 256 values sign and one of two Lloyd levels (MuLoCo's rate)
//   ref-sign             per tensor sign and mean magnitude (Bernstein et al. 2018)
//   ref-e3m0             per 256 values sign and a power of two of the largest (Streaming DiLoCo)
//   ref-deadzone:B       |q| = floor(|v| / s + 1/3), the smallest s with at most B bits per value,
//                        reconstruction at bf16 centroids
//   ref-topk:D           share D of each 4096 values, ties to the lowest index, two Lloyd levels
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bench/span_coder.h"

namespace longhaul {

// NotFound for an unknown name, InvalidArgument for a parameter out of range.
absl::StatusOr<std::unique_ptr<SpanCoder>> MakeReferenceCoder(const std::string& name,
                                                              std::vector<TensorSpan> tensors);

}  // namespace longhaul
