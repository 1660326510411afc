#include "worker/train/adamw.h"

#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/zeros.h>

namespace longhaul {
namespace {

class AdamW : public InnerOptimizer {
 public:
  AdamW(const ParameterTable& table, const OptimizerOptions& options, const at::Tensor& like)
      : InnerOptimizer("adamw"),
        group_(table, options, options.learning_rate, like, [](const Parameter&) { return true; }) {
  }
  void Step(const at::Tensor& parameters, const at::Tensor& gradients, double schedule) override {
    group_.Step(parameters, gradients, schedule);
  }
  std::vector<at::Tensor> State() const override { return group_.State(); }

 private:
  const AdamWGroup group_;
};

}  // namespace

AdamWGroup::AdamWGroup(const ParameterTable& table, const OptimizerOptions& options, double rate,
                       const at::Tensor& like, const std::function<bool(const Parameter&)>& takes)
    : options_(options), rate_(rate), step_(at::zeros({}, like.options())) {
  for (const Parameter& p : table.parameters) {
    if (takes(p)) Add(p);
  }
  const int64_t elements =
      segments_.empty() ? 0 : segments_.back().state_offset + segments_.back().elements;
  first_ = at::zeros({elements}, like.options());
  second_ = at::zeros({elements}, like.options());
}

void AdamWGroup::Add(const Parameter& p) {
  const auto offset = static_cast<int64_t>(p.offset);
  const bool decays = p.shape.size() == 2;
  const Segment none{};
  const Segment& last = segments_.empty() ? none : segments_.back();
  const int64_t state_end = last.state_offset + last.elements;
  if (segments_.empty() || last.decays != decays || last.offset + last.elements != offset) {
    segments_.push_back({offset, 0, state_end, decays});
  }
  segments_.back().elements += static_cast<int64_t>(p.elements);
}

void AdamWGroup::Step(const at::Tensor& parameters, const at::Tensor& gradients,
                      double schedule) const {
  step_.add_(1);
  for (const Segment& s : segments_) {
    auto part = [&](const at::Tensor& t) { return t.narrow(0, s.offset, s.elements); };
    auto state = [&](const at::Tensor& t) { return t.narrow(0, s.state_offset, s.elements); };
    at::_fused_adamw_({part(parameters)}, {part(gradients)}, {state(first_)}, {state(second_)}, {},
                      {step_}, rate_ * schedule, options_.beta1, options_.beta2,
                      s.decays ? options_.weight_decay : 0.0, options_.epsilon,
                      /*amsgrad=*/false, /*maximize=*/false);
  }
}

std::unique_ptr<InnerOptimizer> MakeAdamW(const ParameterTable& table,
                                          const OptimizerOptions& options, const at::Tensor& like) {
  return std::make_unique<AdamW>(table, options, like);
}

}  // namespace longhaul
