#include "pcn/rules/layer.h"

#include <ATen/ops/gelu.h>
#include <ATen/ops/gelu_backward.h>
#include <ATen/ops/hardtanh.h>
#include <ATen/ops/hardtanh_backward.h>
#include <ATen/ops/leaky_relu.h>
#include <ATen/ops/leaky_relu_backward.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/tanh_backward.h>
#include <ATen/ops/threshold_backward.h>

namespace longhaul::pcn {

at::Tensor Activate(Activation activation, const at::Tensor& x) {
  switch (activation) {
    case Activation::kIdentity:
      return x;
    case Activation::kRelu:
      return at::relu(x);
    case Activation::kLeakyRelu:
      return at::leaky_relu(x, kLeakySlope);
    case Activation::kTanh:
      return at::tanh(x);
    case Activation::kGelu:
      return at::gelu(x);
    case Activation::kHardTanh:
      return at::hardtanh(x);
  }
  return x;
}

at::Tensor ActivationCredit(Activation activation, const at::Tensor& error, const at::Tensor& x,
                            const at::Tensor& y) {
  switch (activation) {
    case Activation::kIdentity:
      return error;
    case Activation::kRelu:
      return at::threshold_backward(error, y, 0);
    case Activation::kLeakyRelu:
      return at::leaky_relu_backward(error, x, kLeakySlope, /*self_is_result=*/false);
    case Activation::kTanh:
      return at::tanh_backward(error, y);
    case Activation::kGelu:
      return at::gelu_backward(error, x);
    case Activation::kHardTanh:
      return at::hardtanh_backward(error, x, -1, 1);
  }
  return error;
}

}  // namespace longhaul::pcn
