#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <vector>

#include "worker/train/inner_optimizer.h"

namespace longhaul {
namespace {

// Neighbouring tensors of the flat vector that share a decay; the canonical order leaves three.
struct Segment {
  int64_t offset, elements;
  bool decays;
};

std::vector<Segment> DecaySegments(const ParameterTable& table) {
  std::vector<Segment> segments;
  for (const Parameter& p : table.parameters) {
    const bool decays = p.shape.size() == 2;
    if (segments.empty() || segments.back().decays != decays) {
      segments.push_back({static_cast<int64_t>(p.offset), 0, decays});
    }
    segments.back().elements += static_cast<int64_t>(p.elements);
  }
  return segments;
}

class AdamW : public InnerOptimizer {
 public:
  AdamW(const ParameterTable& table, const OptimizerOptions& options, const at::Tensor& like)
      : options_(options),
        segments_(DecaySegments(table)),
        first_(at::zeros_like(like)),
        second_(at::zeros_like(like)),
        step_(at::zeros({}, like.options())) {}

  void Step(const at::Tensor& parameters, const at::Tensor& gradients,
            double learning_rate) override {
    step_.add_(1);
    for (const Segment& s : segments_) {
      auto part = [&](const at::Tensor& t) { return t.narrow(0, s.offset, s.elements); };
      at::_fused_adamw_({part(parameters)}, {part(gradients)}, {part(first_)}, {part(second_)}, {},
                        {step_}, learning_rate, options_.beta1, options_.beta2,
                        s.decays ? options_.weight_decay : 0.0, options_.epsilon,
                        /*amsgrad=*/false, /*maximize=*/false);
    }
  }

  void Reset() override {
    first_.zero_();
    second_.zero_();
    step_.zero_();
  }

 private:
  const OptimizerOptions options_;
  const std::vector<Segment> segments_;
  const at::Tensor first_, second_;  // moments
  const at::Tensor step_;            // steps since Reset, for the bias correction
};

}  // namespace

std::unique_ptr<InnerOptimizer> MakeAdamW(const ParameterTable& table,
                                          const OptimizerOptions& options, const at::Tensor& like) {
  return std::make_unique<AdamW>(table, options, like);
}

}  // namespace longhaul
