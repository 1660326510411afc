// The inner optimizer of one worker: from a gradient to a change of the flat parameter vector. Its
// state stays with the worker from round to round.
//
// Thread rule: the trainer thread. Methods without a status throw what LibTorch throws.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "model/parameter_table.h"
#include "worker/train/train_options.h"

namespace longhaul {

class InnerOptimizer {
 public:
  virtual ~InnerOptimizer() = default;
  // parameters ← one step with these (clipped) gradients; both flat, in the table's order.
  // `schedule`: ScheduleFactor, the share of the full learning rates.
  virtual void Step(const at::Tensor& parameters, const at::Tensor& gradients, double schedule) = 0;
  // All that one step leaves to the next, float32; they share the optimizer's memory.
  virtual std::vector<at::Tensor> State() const = 0;

  // Forgets moments and step count.
  void Reset();
  // The state as bytes, and back: only from an optimizer of the same kind for the same model.
  std::string Save() const;
  // InvalidArgument, and nothing changes, when the bytes are of another kind or size, or hold a
  // number that is not finite.
  absl::Status Load(std::string_view bytes);

 protected:
  explicit InnerOptimizer(std::string name) : name_(std::move(name)) {}

 private:
  const std::string name_;
};

// "adamw" or "muon" (ValidateTrainOptions), on the device of `like`, a vector as long as the model.
//
// AdamW (Loshchilov and Hutter 2019): bias-corrected float32 moments, decay lr · weight_decay on
// 2-D tensors before the step. Two vectors as long as the model.
//
// Muon (Jordan et al. 2024) on the matrices inside the blocks, AdamW at adamw_learning_rate on
// embedding, head and norms. One vector as long as the matrices, two as long as the rest:
//   B ← m B + G;  O = NewtonSchulz(G + m B);
//   W ← (1 − lr · weight_decay) W − lr √max(1, rows / columns) O
// Query, key, value, gate and up are tensors of their own here; each is orthogonalised alone.
std::unique_ptr<InnerOptimizer> MakeInnerOptimizer(const ParameterTable& table,
                                                   const OptimizerOptions& options,
                                                   const at::Tensor& like);

// Five steps of X ← aX + (bA + cA²)X, A = XXᵀ, (a, b, c) = (3.4445, −4.7750, 2.0315), from
// X = matrix / (‖matrix‖ + 1e-7), in float32: singular values end near 1 (Jordan et al. 2024).
// `matrices`: (n, rows, columns), each by itself. Returns a new tensor.
at::Tensor NewtonSchulz(const at::Tensor& matrices);

}  // namespace longhaul
