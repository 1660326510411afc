#include "pcn/rules/energy.h"

#include <ATen/ops/_log_softmax.h>
#include <ATen/ops/_softmax.h>
#include <ATen/ops/zeros.h>

#include "absl/strings/str_cat.h"

namespace longhaul::pcn {

at::Tensor OutputError(OutputLoss loss, const at::Tensor& mu, const at::Tensor& target) {
  if (loss == OutputLoss::kSquared) return target.sub(mu);
  const at::Tensor share = at::_softmax(mu, -1, /*half_to_float=*/false);
  return target.sub(share.mul(target.sum(-1, /*keepdim=*/true)));
}

double LossSum(OutputLoss loss, const at::Tensor& mu, const at::Tensor& target) {
  if (loss == OutputLoss::kSquared) return 0.5 * target.sub(mu).square().sum().item<double>();
  return -target.mul(at::_log_softmax(mu, -1, /*half_to_float=*/false)).sum().item<double>();
}

absl::StatusOr<at::Tensor> OneHot(std::span<const int64_t> labels, int64_t classes,
                                  at::ScalarType type) {
  at::Tensor rows = at::zeros({static_cast<int64_t>(labels.size()), classes}, at::kFloat);
  float* values = rows.mutable_data_ptr<float>();
  for (size_t i = 0; i < labels.size(); ++i) {
    if (labels[i] == kNoLabel) continue;
    if (labels[i] < 0 || labels[i] >= classes) {
      return absl::InvalidArgumentError(
          absl::StrCat("label ", labels[i], " is outside of ", classes, " classes"));
    }
    values[static_cast<int64_t>(i) * classes + labels[i]] = 1;
  }
  return rows.to(type);
}

}  // namespace longhaul::pcn
