// The pieces of a Llama block that LibTorch has no single differentiable operator for. Any device.
//
// Thread rule: as for LibTorch's operators. They throw what LibTorch throws.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace longhaul {

// y = x · w / √(mean(x²) + ε) over the last dimension (Zhang and Sennrich 2019). x: (tokens, d),
// contiguous; w: (d).
at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& w, double epsilon);

// Rotary positions, half-split form (Su et al. 2021, as in Llama): elements i and i + h/2 of a head
// turn by position · θ^(−2i/h). x: (batch, positions, heads, h).
struct RotaryTable {
  at::Tensor cosine;  // (positions, 1, h / 2)
  at::Tensor sine;
};
RotaryTable MakeRotaryTable(int64_t positions, int64_t head_size, double theta);
at::Tensor Rotate(const at::Tensor& x, const RotaryTable& table);

// silu(gate) · up (Shazeer 2020).
at::Tensor SwiGlu(const at::Tensor& gate, const at::Tensor& up);

}  // namespace longhaul
