// AdamW on some of the parameters: the inner optimizer "adamw", and the part of Muon that is not
// for matrices. See inner_optimizer.h, also for the thread rule.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "worker/train/inner_optimizer.h"

namespace longhaul {

class AdamWGroup {
 public:
  // For the parameters that `takes` accepts; `rate` is their full learning rate.
  AdamWGroup(const ParameterTable& table, const OptimizerOptions& options, double rate,
             const at::Tensor& like, const std::function<bool(const Parameter&)>& takes);
  void Step(const at::Tensor& parameters, const at::Tensor& gradients, double schedule) const;
  std::vector<at::Tensor> State() const { return {first_, second_, step_}; }

 private:
  // Neighbouring tensors that share a decay; the canonical order leaves three.
  struct Segment {
    int64_t offset, elements;
    int64_t state_offset;  // in the moments, which have no gaps
    bool decays;
  };
  void Add(const Parameter& p);

  const OptimizerOptions options_;
  const double rate_;
  std::vector<Segment> segments_;
  at::Tensor first_, second_;  // moments
  at::Tensor step_;            // steps since Reset, for the bias correction
};

std::unique_ptr<InnerOptimizer> MakeAdamW(const ParameterTable& table,
                                          const OptimizerOptions& options, const at::Tensor& like);

}  // namespace longhaul
