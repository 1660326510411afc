#include "worker/train/train_options.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace longhaul {
namespace {

constexpr double kFinalShare = 0.1;
constexpr uint32_t kMaxThreads = 1024;
constexpr uint32_t kMaxMicroBatch = 1 << 16;

absl::Status Bad(const std::string& reason) {
  return absl::InvalidArgumentError("train: " + reason);
}

absl::Status CheckOptimizer(const OptimizerOptions& o) {
  if (o.name != "adamw" && o.name != "muon") {
    return Bad("optimizer \"" + o.name + "\" is unknown; there are adamw and muon");
  }
  auto finite_from = [](double value, double least) {
    return std::isfinite(value) && value >= least;
  };
  if (!finite_from(o.learning_rate, 0)) return Bad("learning_rate must be finite, 0 or more");
  if (!finite_from(o.adamw_learning_rate, 0)) {
    return Bad("adamw_learning_rate must be finite, 0 or more");
  }
  if (!finite_from(o.weight_decay, 0)) return Bad("weight_decay must be finite, 0 or more");
  if (!finite_from(o.max_grad_norm, 0)) return Bad("max_grad_norm must be finite, 0 or more");
  if (!finite_from(o.epsilon, 0)) return Bad("adam_epsilon must be finite, 0 or more");
  if (!(o.muon_momentum >= 0 && o.muon_momentum < 1)) return Bad("muon_momentum must be in [0, 1)");
  if (!(o.beta1 >= 0 && o.beta1 < 1)) return Bad("adam_beta1 must be in [0, 1)");
  if (!(o.beta2 >= 0 && o.beta2 < 1)) return Bad("adam_beta2 must be in [0, 1)");
  return absl::OkStatus();
}

}  // namespace

TrainOptions TrainOptionsFrom(const RunConfig& config, uint32_t threads) {
  TrainOptions o;
  o.optimizer.name = config.train.optimizer;
  o.optimizer.learning_rate = config.train.learning_rate;
  o.optimizer.schedule = config.train.lr_schedule == "constant" ? LearningRateSchedule::kConstant
                                                                : LearningRateSchedule::kCosine;
  o.optimizer.warmup_steps = config.train.warmup_steps;
  o.optimizer.total_steps = uint64_t{config.run.rounds} * config.sync.inner_steps;
  o.optimizer.weight_decay = config.train.weight_decay;
  o.optimizer.beta1 = config.train.adam_beta1;
  o.optimizer.beta2 = config.train.adam_beta2;
  o.optimizer.epsilon = config.train.adam_epsilon;
  o.optimizer.max_grad_norm = config.train.max_grad_norm;
  o.optimizer.adamw_learning_rate = config.train.adamw_learning_rate;
  o.optimizer.muon_momentum = config.train.muon_momentum;
  o.micro_batch_size = config.train.per_device_train_batch_size;
  o.sequence_length = config.data.sequence_length;
  o.threads = threads;
  return o;
}

absl::Status ValidateTrainOptions(const LlamaShape& shape, const TrainOptions& o) {
  RETURN_IF_ERROR(ValidateShape(shape));
  RETURN_IF_ERROR(CheckOptimizer(o.optimizer));
  if (o.micro_batch_size == 0 || o.micro_batch_size > kMaxMicroBatch) {
    return Bad(absl::StrCat("per_device_train_batch_size must be 1 to ", kMaxMicroBatch));
  }
  if (o.threads == 0 || o.threads > kMaxThreads) {
    return Bad(absl::StrCat("threads must be 1 to ", kMaxThreads));
  }
  if (o.sequence_length < 2 || o.sample_tokens % o.sequence_length != 0) {
    return Bad(absl::StrCat("sequence_length is ", o.sequence_length, ", it must divide ",
                            o.sample_tokens, " and be at least 2"));
  }
  if (o.sequence_length > shape.max_position) {
    return Bad(absl::StrCat("sequence_length is ", o.sequence_length, ", the model's context is ",
                            shape.max_position));
  }
  return absl::OkStatus();
}

double ScheduleFactor(const OptimizerOptions& o, uint64_t step) {
  if (step < o.warmup_steps) {
    return static_cast<double>(step + 1) / static_cast<double>(o.warmup_steps);
  }
  if (o.schedule == LearningRateSchedule::kConstant) return 1.0;
  if (step >= o.total_steps) return kFinalShare;
  const double progress = static_cast<double>(step - o.warmup_steps) /
                          static_cast<double>(o.total_steps - o.warmup_steps);
  const double cosine = 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
  return kFinalShare + (1.0 - kFinalShare) * cosine;
}

}  // namespace longhaul
