// What decoding kernels do with each value.
#pragma once

#include <bit>
#include <cstdint>

#include "compression/cuda/input.h"
#include "compression/host_device.h"

namespace longhaul::cuda {

// Plain values. Each element is put at most once in a launch; kSum and kResidual read what is
// there.
struct Output {
  enum class Kind { kValues, kSum, kResidual };
  Kind kind = Kind::kValues;
  float* values = nullptr;  // kValues: values[i] = v
  uint64_t* sum = nullptr;  // kSum: sum[i] += weight · grid(v), modulo 2^64 (sync/exact_sum.h)
  uint32_t weight = 1;      //
  Input input;              // kResidual: residual[i] = input.At(i) − v, where `residual` is also
  float* residual = nullptr;  // the input's (sync/error_feedback.h, ResidualAfter)

  LONGHAUL_SHARED void Put(uint64_t i, float v) const {
    switch (kind) {
      case Kind::kValues:
        values[i] = v;
        break;
      case Kind::kSum:
        sum[i] += static_cast<uint64_t>(Grid(v)) * weight;
        break;
      case Kind::kResidual:
        residual[i] = input.At(i) - v;
        break;
    }
  }

  // Nearest multiple of 2^-40, ties to even; |v| < 8.
  LONGHAUL_SHARED static int64_t Grid(float v) {
    constexpr double kRounder = 0x1.8p52;
    const double scaled = static_cast<double>(v) * 0x1p40;
    return std::bit_cast<int64_t>(scaled + kRounder) - std::bit_cast<int64_t>(kRounder);
  }
};

}  // namespace longhaul::cuda
