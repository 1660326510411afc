// The inner optimizer of one worker: from a gradient to a change of the flat parameter vector.
//
// Thread rule: the trainer thread. Its methods throw what LibTorch throws.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "model/parameter_table.h"
#include "worker/train/train_options.h"

namespace longhaul {

class InnerOptimizer {
 public:
  virtual ~InnerOptimizer() = default;
  // parameters ← one step with these (clipped) gradients; both flat, in the table's order.
  virtual void Step(const at::Tensor& parameters, const at::Tensor& gradients,
                    double learning_rate) = 0;
  // Forgets moments and step count.
  virtual void Reset() = 0;
};

// AdamW (Loshchilov and Hutter 2019): bias-corrected float32 moments, decay lr · weight_decay on
// 2-D tensors before the step. Holds two vectors as long as the model, on the device of `like`.
std::unique_ptr<InnerOptimizer> MakeAdamW(const ParameterTable& table,
                                          const OptimizerOptions& options, const at::Tensor& like);

}  // namespace longhaul
