// A Llama model trained with LibTorch alone, written the plain way: a leaf tensor per parameter,
// ATen's operators and their own gradients, clipping by the global norm, ATen's fused AdamW. It
// shares nothing with worker/train: what Longhaul's trainer costs or saves is measured against it.
//
// Thread rule: one thread makes every call. It throws what LibTorch throws.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "model/llama.h"

namespace longhaul {

struct BareRates {
  double learning_rate, beta1, beta2, epsilon, weight_decay, max_grad_norm;
};

class BareLlama {
 public:
  // `parameters`: flat, in the order of MakeParameterTable(shape). `inputs` and `targets`: batch
  // rows of `length` tokens; a target of -100 counts for nothing.
  BareLlama(const LlamaShape& shape, std::span<const float> parameters, const BareRates& rates,
            std::span<const int64_t> inputs, std::span<const int64_t> targets, int64_t length);
  ~BareLlama();

  // One training step on the batch; the mean loss before it, in nats per token.
  double Step();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace longhaul
