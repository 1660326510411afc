// The optimizer of predictive networks outside of ordinary runs (Relay, benches): AdamW on one flat
// vector (Loshchilov and Hutter 2019).
//
// Thread rule: one thread. It throws what LibTorch throws.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace longhaul::pcn {

struct AdamOptions {
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  double weight_decay = 0;  // decoupled, on every element
};

class Adam {
 public:
  // Holds two vectors as long as `like`.
  Adam(const AdamOptions& options, const at::Tensor& like);
  // parameters <- one step down `gradient`, in place; both contiguous.
  void Step(const at::Tensor& parameters, const at::Tensor& gradient, double learning_rate);
  // The state as one vector, for snapshots: first moments, second moments, steps.
  at::Tensor State() const;
  void SetState(const at::Tensor& state);

 private:
  AdamOptions options_;
  at::Tensor first_, second_, step_;
};

// 10 % linear warm-up from 1 to 1.1, then a cosine to 0.1 at `total`: the schedule of the published
// benchmark that docs/PCN.md compares with. A factor for the learning rate.
double WarmCosine(uint64_t step, uint64_t total);

}  // namespace longhaul::pcn
