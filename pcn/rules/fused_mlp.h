// The fast path for chains of dense layers on a CPU: no graph, no allocation per batch, the first
// prediction computed once (the input does not move), elementwise work in one pass, the batch split
// over threads with one BLAS thread each. Its twin is CreditRule, whose gradients it computes up to
// float32 rounding.
//
// Thread rule: one thread owns it and makes every call, also Make; it sets LibTorch's intra-op
// threads to 1. Memory: about 6 floats per row and unit, and one gradient per thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "pcn/rules/rule.h"

namespace longhaul::pcn {

class FusedMlp {
 public:
  // InvalidArgument, naming the reason, for a rule other than backprop, zil, fpa (at rate 1, with
  // sweeps for every layer), spc and ipc; for a layer that is not dense, has its activation inside,
  // a scale, a skip, or an activation that is not identity, ReLU or leaky ReLU; and for Validate's.
  static absl::StatusOr<std::unique_ptr<FusedMlp>> Make(const Network& network,
                                                        const RuleOptions& options, OutputLoss loss,
                                                        uint32_t threads);
  ~FusedMlp();

  // As CreditRule::RunBatch; float32, contiguous.
  BatchReport RunBatch(const Weights& weights, const Batch& batch, const Weights& gradient,
                       const std::function<void()>& step);

 private:
  class State;
  explicit FusedMlp(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace longhaul::pcn
