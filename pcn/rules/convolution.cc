#include "pcn/rules/convolution.h"

#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/max_pool2d_with_indices.h>
#include <ATen/ops/max_pool2d_with_indices_backward.h>

#include <array>
#include <cmath>
#include <tuple>

#include "common/check.h"

namespace longhaul::pcn {
namespace {

constexpr int64_t kPool = 2;

}  // namespace

Convolution::Convolution(const ConvolutionOptions& options) : options_(options) {
  LONGHAUL_CHECK(options.in_channels > 0 && options.out_channels > 0 && options.height > 0 &&
                     options.width > 0,
                 "a convolution without features");
  LONGHAUL_CHECK(options.kernel % 2 == 1, "a kernel must be odd");
  LONGHAUL_CHECK(!options.pool || (options.height % kPool == 0 && options.width % kPool == 0),
                 "pooling needs even sizes");
  LONGHAUL_CHECK(!options.skip || (!options.pool && options.in_channels == options.out_channels),
                 "a skip between unequal shapes");
}

std::vector<ParameterSpec> Convolution::Parameters() const {
  const int64_t k = options_.kernel;
  const double fan_in = static_cast<double>(options_.in_channels * k * k);
  const double deviation = 1 / std::sqrt(3 * fan_in);
  return {{"weight", {options_.out_channels, options_.in_channels, k, k}, deviation},
          {"bias", {options_.out_channels}, deviation}};
}

// Tape: the input as it came, the convolution's result, its activation, the pool's indices.
at::Tensor Convolution::Predict(LayerWeights weights, const at::Tensor& in, Tape* tape) const {
  const int64_t pad = options_.kernel / 2;
  const at::Tensor x = in.reshape({-1, options_.in_channels, options_.height, options_.width});
  const at::Tensor a = at::convolution(x, weights[0], weights[1], {1, 1}, {pad, pad}, {1, 1},
                                       /*transposed=*/false, {0, 0}, /*groups=*/1);
  const at::Tensor y = Activate(options_.activation, a);
  at::Tensor mu = options_.skip ? y.add(x) : y, indices;
  if (options_.pool) std::tie(mu, indices) = at::max_pool2d_with_indices(y, kPool);
  if (tape != nullptr) tape->saved = {in, a, y, indices};
  return mu;
}

at::Tensor Convolution::Credit(LayerWeights weights, const Tape& tape, const at::Tensor& error,
                               bool want_input, LayerWeights gradient) const {
  const int64_t pad = options_.kernel / 2;
  const at::Tensor &in = tape.saved[0], &a = tape.saved[1], &y = tape.saved[2];
  const at::Tensor x = in.reshape({-1, options_.in_channels, options_.height, options_.width});
  at::Tensor z = error;
  if (options_.pool) {
    z = at::max_pool2d_with_indices_backward(z, y, kPool, kPool, 0, 1, false, tape.saved[3]);
  }
  z = ActivationCredit(options_.activation, z, a, y);
  const bool want_gradient = !gradient.empty();
  auto [credit, weight, bias] = at::convolution_backward(
      z, x, weights[0], weights[1].sizes(), {1, 1}, {pad, pad}, {1, 1}, /*transposed=*/false,
      {0, 0}, /*groups=*/1, std::array<bool, 3>{want_input, want_gradient, want_gradient});
  if (want_gradient) {
    gradient[0].add_(weight);
    gradient[1].add_(bias);
  }
  if (!want_input) return {};
  if (options_.skip) credit = credit.add(error);
  return credit.reshape(in.sizes());
}

}  // namespace longhaul::pcn
