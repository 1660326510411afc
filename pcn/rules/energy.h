// The output side of the energy
//
//     E(s, theta) = sum over hidden l of 1/2 |s_l - mu_l|^2 + weight * loss(mu_top, target)
//
// per row (a sample, or a token of one). Targets are (rows, classes): one-hot rows, other
// distributions, real values, or rows of zeros, which have no loss under cross-entropy.
//
// Thread rule: free functions; any thread. They throw what LibTorch throws.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "pcn/rules/rule_options.h"

namespace longhaul::pcn {

// The output error -dloss/dmu, row by row: target - mu, or target - softmax(mu) * sum(target).
at::Tensor OutputError(OutputLoss loss, const at::Tensor& mu, const at::Tensor& target);
// Summed over rows.
double LossSum(OutputLoss loss, const at::Tensor& mu, const at::Tensor& target);

// A row of zeros where the label is kNoLabel. InvalidArgument for any other label outside
// [0, classes).
inline constexpr int64_t kNoLabel = -100;
absl::StatusOr<at::Tensor> OneHot(std::span<const int64_t> labels, int64_t classes,
                                  at::ScalarType type);

}  // namespace longhaul::pcn
