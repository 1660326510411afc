// The Llama model of an ordinary run, trained by predictive coding: the states are the residual
// stream between layers, the interior of a layer is exact. Parameters, tokens, rounds and
// checkpoints are those of LlamaTrainer; only where gradients come from differs.
//
// Thread rule: as LlamaTrainer. Memory: PcnMemoryBytes.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "model/llama.h"
#include "proto/run_config.h"
#include "worker/train/train_options.h"
#include "worker/trainer.h"

namespace longhaul {

// Beside what LlamaTrainer holds: a second gradient, one-hot targets, states and their errors.
uint64_t PcnMemoryBytes(const LlamaShape& shape, const TrainOptions& options);

struct PcnEvents {
  uint64_t diverged = 0;         // micro-batches that were not used
  uint64_t rate_reductions = 0;  // by the spectral guard
  double rate_times_lambda = 0;  // at its latest look
};

class PcnTrainer final : public Trainer {
 public:
  // Errors: ValidateTrainOptions, RuleOptionsFrom; ResourceExhausted or Internal from LibTorch.
  static absl::StatusOr<std::unique_ptr<PcnTrainer>> Make(const LlamaShape& shape,
                                                          const TrainOptions& options,
                                                          const PcnSection& pcn,
                                                          const std::string& device);
  ~PcnTrainer() override;

  uint64_t parameters() const override;
  void SetParameters(uint64_t offset, std::span<const float> values) override;
  void GetParameters(uint64_t offset, std::span<float> out) const override;
  void ResetInnerState() override;
  std::string SaveInnerState() const override;
  absl::Status LoadInnerState(std::string_view bytes) override;
  // As LlamaTrainer's; the loss is that of the forward pass. Micro-batches whose inference diverged
  // are left out, counted and logged; a gradient that is not finite changes nothing.
  absl::StatusOr<StepOutput> Step(const StepInput& input) override;
  // Both make a LlamaTrainer for the call.
  absl::StatusOr<StepOutput> Evaluate(std::span<const float> values,
                                      std::span<const uint16_t> tokens) override;
  absl::StatusOr<std::vector<uint16_t>> Sample(std::span<const float> values,
                                               std::span<const uint16_t> prompt, uint32_t count,
                                               uint64_t seed) override;
  const PcnEvents& events() const;

 private:
  class State;
  explicit PcnTrainer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace longhaul
