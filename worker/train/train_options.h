// How one worker trains: batch, inner optimizer, learning-rate schedule. Plain values; any thread.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "model/llama.h"
#include "proto/run_config.h"

namespace longhaul {

enum class LearningRateSchedule { kCosine, kConstant };

struct OptimizerOptions {
  std::string name = "adamw";    // or "muon"
  double learning_rate = 0.003;  // full rate, after the warm-up; of Muon: of its matrices
  LearningRateSchedule schedule = LearningRateSchedule::kCosine;
  uint64_t warmup_steps = 50;
  uint64_t total_steps = 1000;  // of the whole run; the cosine ends there
  double weight_decay = 0.1;    // decoupled; 2-D tensors only
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double max_grad_norm = 1.0;          // 0: no clipping
  double adamw_learning_rate = 0.003;  // of what Muon leaves to AdamW
  double muon_momentum = 0.95;
};

struct TrainOptions {
  OptimizerOptions optimizer;
  uint32_t micro_batch_size = 8;  // sequences per forward pass; a step makes as many as it needs
  uint32_t sequence_length = 128;
  uint32_t sample_tokens = kSampleTokens;  // a multiple of sequence_length
  uint32_t threads = 1;
};

// What the run's file says, on a worker with this many threads.
TrainOptions TrainOptionsFrom(const RunConfig& config, uint32_t threads);

// InvalidArgument with the name of the option and the reason.
absl::Status ValidateTrainOptions(const LlamaShape& shape, const TrainOptions& options);

// Share of the full learning rates at inner step t of the whole run, from 0, whatever the rounds:
// (t + 1) / warmup during the warm-up, then a cosine from 1 to 1/10 at total_steps and 1/10 after
// it (Loshchilov and Hutter 2017, without restarts), or 1.
double ScheduleFactor(const OptimizerOptions& options, uint64_t step);

}  // namespace longhaul
