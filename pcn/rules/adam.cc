#include "pcn/rules/adam.h"

#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>

#include "common/check.h"

namespace longhaul::pcn {

Adam::Adam(const AdamOptions& options, const at::Tensor& like)
    : options_(options),
      first_(at::zeros_like(like)),
      second_(at::zeros_like(like)),
      step_(at::zeros({}, at::kFloat)) {}

void Adam::Step(const at::Tensor& parameters, const at::Tensor& gradient, double learning_rate) {
  step_.add_(1);
  at::_fused_adamw_({parameters}, {gradient}, {first_}, {second_}, {}, {step_}, learning_rate,
                    options_.beta1, options_.beta2, options_.weight_decay, options_.epsilon,
                    /*amsgrad=*/false, /*maximize=*/false);
}

at::Tensor Adam::State() const {
  return at::cat({first_, second_, step_.reshape({1}).to(first_.scalar_type())});
}

void Adam::SetState(const at::Tensor& state) {
  const int64_t n = first_.numel();
  LONGHAUL_CHECK(state.numel() == 2 * n + 1, "an optimizer state of another size");
  first_.copy_(state.narrow(0, 0, n));
  second_.copy_(state.narrow(0, n, n));
  step_.copy_(state.select(0, 2 * n));
}

double WarmCosine(uint64_t step, uint64_t total) {
  constexpr double kWarmUp = 0.1, kPeak = 1.1, kEnd = 0.1;
  const double done = static_cast<double>(std::min(step, total)) / static_cast<double>(total);
  if (done < kWarmUp) return 1 + (kPeak - 1) * done / kWarmUp;
  const double fall = (done - kWarmUp) / (1 - kWarmUp);
  return kEnd + (kPeak - kEnd) * 0.5 * (1 + std::cos(M_PI * fall));
}

}  // namespace longhaul::pcn
