// What a worker trains with. Two bindings: worker/train (Llama-shaped model on LibTorch) and
// worker/toy_trainer (closed form).
//
// Thread rule: one thread, the trainer thread, makes every call. Parameters are one flat float32
// vector in the order of the model's ParameterTable.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace longhaul {

struct StepInput {
  uint64_t step = 0;                    // inner step number for the learning-rate schedule, from 0
  std::span<const uint64_t> positions;  // of the samples
  std::span<const uint16_t>
      tokens;  // positions.size() * kSampleTokens, sample after sample; empty for the toy trainer
};

struct StepOutput {
  double loss = 0;  // mean over the targets, nats per token
  uint64_t targets = 0;
};

class Trainer {
 public:
  virtual ~Trainer() = default;
  virtual uint64_t parameters() const = 0;
  // θ[offset, offset + values.size()) ← values. The inner optimizer's state stays.
  virtual void SetParameters(uint64_t offset, std::span<const float> values) = 0;
  // out ← θ[offset, offset + out.size()).
  virtual void GetParameters(uint64_t offset, std::span<float> out) const = 0;
  // Forgets the inner optimizer's state (moments).
  virtual void ResetInnerState() = 0;
  // The inner optimizer's state as bytes, and back; InvalidArgument when the bytes are not of this
  // trainer. Empty: there is none.
  virtual std::string SaveInnerState() const { return ""; }
  virtual absl::Status LoadInnerState(std::string_view bytes) {
    return bytes.empty() ? absl::OkStatus() : absl::InvalidArgumentError("no inner state is known");
  }
  // One inner step. The loss may be not finite: the caller decides what follows.
  virtual absl::StatusOr<StepOutput> Step(const StepInput& input) = 0;
  // Mean loss of `values` (not of θ) over whole validation samples, `tokens` as in StepInput.
  virtual absl::StatusOr<StepOutput> Evaluate(std::span<const float> values,
                                              std::span<const uint16_t> tokens) = 0;
  // `count` tokens that follow `prompt`, drawn from `values` with a fixed seed.
  virtual absl::StatusOr<std::vector<uint16_t>> Sample(std::span<const float> values,
                                                       std::span<const uint16_t> prompt,
                                                       uint32_t count, uint64_t seed) = 0;
};

}  // namespace longhaul
