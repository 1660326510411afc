// The outer optimizer: Nesterov momentum on the pseudo-gradient (DiLoCo, Douillard et al. 2023,
// algorithm 1; SGD is momentum 0):
//   b <- momentum * b + delta;   parameters <- parameters - lr * (delta + momentum * b)
// in float32, every operation rounded to nearest even, no contraction: every replica gets the same
// bits. `lr` and `momentum` are the float32 values of the commit record.
//
// Pure functions; spans of one call have the same size. They may be called piecewise.
#pragma once

#include <span>

namespace longhaul {

// In place.
void NesterovStep(std::span<const float> delta, float lr, float momentum,
                  std::span<float> parameters, std::span<float> b);

// Leaves the inputs alone. The outputs must not overlap the inputs.
void NesterovStepTo(std::span<const float> delta, float lr, float momentum,
                    std::span<const float> parameters, std::span<const float> b,
                    std::span<float> new_parameters, std::span<float> new_b);

}  // namespace longhaul
