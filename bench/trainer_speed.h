// Longhaul's trainer and a bare LibTorch loop side by side in one process: the same Llama model,
// the same first parameters, the same batch of 8 x 128 tokens again and again.
//
// Thread rule: one thread makes every call.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "model/llama.h"

namespace longhaul {

inline constexpr uint32_t kBenchBatch = 8;  // sequences
inline constexpr uint32_t kBenchLength = 128;

class TrainerSpeed {
 public:
  // A few steps of one loop, timed as a whole.
  struct Window {
    double tokens_per_second = 0;
    double loss = 0;  // of the last step, nats per token
  };

  // Unimplemented in a build without LibTorch; Internal when LibTorch fails.
  static absl::StatusOr<std::unique_ptr<TrainerSpeed>> Make(const LlamaShape& shape,
                                                            uint32_t threads);
  virtual ~TrainerSpeed() = default;
  virtual absl::StatusOr<Window> Longhaul(uint32_t steps) = 0;
  virtual absl::StatusOr<Window> Bare(uint32_t steps) = 0;
};

}  // namespace longhaul
