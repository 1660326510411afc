#include "worker/train/layers.h"

#include <ATen/ops/empty_like.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/silu.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <vector>

namespace longhaul {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

struct RmsNormFunction : Function<RmsNormFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& w,
                            double epsilon) {
    const at::Tensor norm = at::linalg_vector_norm(x, 2, at::IntArrayRef{-1}, /*keepdim=*/true);
    const double size = static_cast<double>(x.size(-1));
    const at::Tensor scale = norm.square_().div_(size).add_(epsilon).rsqrt_();
    context->save_for_backward({x, w, scale});
    return x.mul(scale).mul_(w);
  }

  // With s the scale and g the incoming gradient: dw = Σ_tokens g x s,
  // dx = s (g w − x s² mean(g w x)).
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &w = saved[1], &scale = saved[2], &g = gradients[0];
    const at::Tensor normed = x.mul(scale);
    const at::Tensor gx = g.mul(normed);
    const at::Tensor dw = gx.sum(0);
    const at::Tensor mean = gx.mv(w).div_(static_cast<double>(x.size(-1))).unsqueeze_(-1);
    at::Tensor dx = g.mul(w).addcmul_(normed, mean, -1).mul_(scale);
    return {dx, dw, at::Tensor()};
  }
};

at::Tensor Turn(const at::Tensor& x, const at::Tensor& cosine, const at::Tensor& sine,
                double direction) {
  const int64_t half = x.size(-1) / 2;
  const at::Tensor a = x.narrow(-1, 0, half), b = x.narrow(-1, half, half);
  at::Tensor out = at::empty_like(x, at::MemoryFormat::Contiguous);
  at::Tensor first = out.narrow(-1, 0, half), second = out.narrow(-1, half, half);
  at::mul_out(first, a, cosine).addcmul_(b, sine, -direction);
  at::mul_out(second, b, cosine).addcmul_(a, sine, direction);
  return out;
}

struct RotateFunction : Function<RotateFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& cosine,
                            const at::Tensor& sine) {
    context->save_for_backward({cosine, sine});
    return Turn(x, cosine, sine, 1.0);
  }
  // The transposed rotation.
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    return {Turn(gradients[0], saved[0], saved[1], -1.0), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& w, double epsilon) {
  return RmsNormFunction::apply(x, w, epsilon);
}

RotaryTable MakeRotaryTable(int64_t positions, int64_t head_size, double theta) {
  const int64_t half = head_size / 2;
  std::vector<float> cosine, sine;
  for (int64_t t = 0; t < positions; ++t) {
    for (int64_t i = 0; i < half; ++i) {
      const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(head_size);
      const double angle = static_cast<double>(t) * std::pow(theta, exponent);
      cosine.push_back(static_cast<float>(std::cos(angle)));
      sine.push_back(static_cast<float>(std::sin(angle)));
    }
  }
  auto tensor = [&](std::vector<float>& v) {
    return at::from_blob(v.data(), {positions, 1, half}, at::kFloat).clone();
  };
  return {tensor(cosine), tensor(sine)};
}

at::Tensor Rotate(const at::Tensor& x, const RotaryTable& table) {
  return RotateFunction::apply(x, table.cosine, table.sine);
}

at::Tensor SwiGlu(const at::Tensor& gate, const at::Tensor& up) { return at::silu(gate).mul(up); }

}  // namespace longhaul
