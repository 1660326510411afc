// A trainer without a neural network: every sample pulls θ towards a point that depends on its
// position alone, so that a contribution is a pure function of θ̄ and the lease. For crash, chaos,
// fleet and network tests; needs no LibTorch.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "worker/trainer.h"

namespace longhaul {

struct ToyOptions {
  uint64_t parameters = 1000;
  float learning_rate = 0.05f;
  uint64_t seed = 7;
  // Called once a step, to take as long as a real step would; may be empty.
  std::function<void()> wait;
};

// θ_i ← θ_i + lr · (target_i(p) − θ_i) for each position p in order; target_i(p) in [−1, 1) from
// the run's seed. Loss: mean of (target_i − θ_i)² before the update.
std::unique_ptr<Trainer> MakeToyTrainer(const ToyOptions& options);

}  // namespace longhaul
