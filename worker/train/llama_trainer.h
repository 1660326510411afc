// A Llama model on LibTorch behind the Trainer interface. No LibTorch header is needed to use it.
// On CUDA the products of matrices are in bf16 (autocast); parameters, gradients, moments, norms
// and losses are float32 everywhere.
//
// Thread rule: one thread makes every call, also the first (LibTorch's thread settings belong to
// it; so does what Make does to the process's allocator: freed memory is kept). Memory:
// sharding/plan/memory.h. Evaluate, Sample and Logits hold a second set of parameters on
// the device while they run and change nothing that training uses.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "model/llama.h"
#include "worker/site/gradient_trainer.h"
#include "worker/train/train_options.h"

namespace longhaul {

inline constexpr int64_t kIgnoredTarget = -100;

class LlamaTrainer final : public GradientTrainer {
 public:
  // `device` is a name that ResolveDevice gave. Parameters are 0 until SetParameters. Errors:
  // ValidateTrainOptions; ResourceExhausted or Internal when LibTorch cannot allocate.
  static absl::StatusOr<std::unique_ptr<LlamaTrainer>> Make(const LlamaShape& shape,
                                                            const TrainOptions& options,
                                                            const std::string& device);
  ~LlamaTrainer() override;

  uint64_t parameters() const override;
  void SetParameters(uint64_t offset, std::span<const float> values) override;
  void GetParameters(uint64_t offset, std::span<float> out) const override;
  void ResetInnerState() override;

  // The inner optimizer's state as bytes, and back (InnerOptimizer::Load).
  std::string SaveInnerState() const override;
  absl::Status LoadInnerState(std::string_view bytes) override;
  // The moments in it as one vector, without the step count: what workers may average.
  uint64_t MomentElements() const;
  void GetMoments(std::span<float> out) const;
  void SetMoments(std::span<const float> values);

  // Each sample is cut into sequences; a token's target is the next one, the last token of a sample
  // has none. When loss or gradient norm is not finite, parameters and moments stay as they are.
  // InvalidArgument for a wrong number of tokens or one outside the vocabulary.
  absl::StatusOr<StepOutput> Step(const StepInput& input) override;
  absl::StatusOr<StepOutput> Evaluate(std::span<const float> values,
                                      std::span<const uint16_t> tokens) override;
  // From the distribution at temperature 0.8; the last sequence_length − 1 tokens are the context.
  // An empty prompt stands for a line end (token 10, or 0 in a smaller vocabulary).
  absl::StatusOr<std::vector<uint16_t>> Sample(std::span<const float> values,
                                               std::span<const uint16_t> prompt, uint32_t count,
                                               uint64_t seed) override;

  // As one of several ranks.
  uint64_t Targets(const StepInput& input) const override;
  absl::StatusOr<double> Backward(const StepInput& input, uint64_t all_targets,
                                  DeviceGroup& sums) override;
  absl::Status Update(uint64_t step) override;

  // What Step does after cutting: rows of sequence_length inputs and targets (kIgnoredTarget:
  // none).
  absl::StatusOr<StepOutput> StepOnBatch(uint64_t step, std::span<const int64_t> inputs,
                                         std::span<const int64_t> targets);
  // Mean loss and its gradient, before clipping, at the current parameters; nothing is updated.
  // `gradient` has parameters() elements.
  absl::StatusOr<StepOutput> LossAndGradient(std::span<const int64_t> inputs,
                                             std::span<const int64_t> targets,
                                             std::span<float> gradient);
  // Clips and applies this gradient as if step `step` had found it; parameters() elements.
  // InvalidArgument, and nothing changes, when its norm is not finite.
  absl::Status ApplyGradient(uint64_t step, std::span<const float> gradient);
  // Mean loss of `values` (not of θ) on such rows.
  absl::StatusOr<StepOutput> EvaluateOnBatch(std::span<const float> values,
                                             std::span<const int64_t> inputs,
                                             std::span<const int64_t> targets);
  // Norm of the latest step's gradient before clipping.
  double gradient_norm() const;
  // tokens.size() rows of vocab_size logits for one sequence of at most sequence_length tokens.
  absl::StatusOr<std::vector<float>> Logits(std::span<const float> values,
                                            std::span<const uint16_t> tokens);

 private:
  struct State;
  explicit LlamaTrainer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

absl::StatusOr<std::unique_ptr<GradientTrainer>> MakeLlamaTrainer(const LlamaShape& shape,
                                                                  const TrainOptions& options,
                                                                  const std::string& device);

}  // namespace longhaul
