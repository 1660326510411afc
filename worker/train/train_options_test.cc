#include "worker/train/train_options.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>

namespace longhaul {
namespace {

TEST(TrainOptions, LearningRateSchedule) {
  OptimizerOptions o;
  o.warmup_steps = 4;
  o.total_steps = 104;
  EXPECT_DOUBLE_EQ(ScheduleFactor(o, 0), 0.25);
  EXPECT_DOUBLE_EQ(ScheduleFactor(o, 3), 1.0);
  EXPECT_DOUBLE_EQ(ScheduleFactor(o, 4), 1.0);
  EXPECT_NEAR(ScheduleFactor(o, 54), 0.55, 1e-12);
  EXPECT_DOUBLE_EQ(ScheduleFactor(o, 104), 0.1);
  EXPECT_DOUBLE_EQ(ScheduleFactor(o, 1u << 30), 0.1);
  for (uint64_t t = 5; t < 110; ++t) EXPECT_LE(ScheduleFactor(o, t), ScheduleFactor(o, t - 1));
  o.schedule = LearningRateSchedule::kConstant;
  EXPECT_DOUBLE_EQ(ScheduleFactor(o, 0), 0.25);
  EXPECT_DOUBLE_EQ(ScheduleFactor(o, 1000), 1.0);
  o.warmup_steps = 0;
  EXPECT_DOUBLE_EQ(ScheduleFactor(o, 0), 1.0);
  o.schedule = LearningRateSchedule::kCosine;
  o.warmup_steps = 10;
  o.total_steps = 5;  // the run ends in the warm-up
  EXPECT_DOUBLE_EQ(ScheduleFactor(o, 4), 0.5);
  EXPECT_DOUBLE_EQ(ScheduleFactor(o, 10), 0.1);
}

TEST(TrainOptions, FromTheRunsFile) {
  RunConfig config;
  config.run.rounds = 11;
  config.sync.inner_steps = 7;
  config.train.lr_schedule = "constant";
  config.train.adam_beta2 = 0.99;
  config.train.optimizer = "muon";
  config.train.muon_momentum = 0.9;
  config.train.adamw_learning_rate = 0.001;
  config.data.sequence_length = 64;
  const TrainOptions o = TrainOptionsFrom(config, 3);
  EXPECT_EQ(o.optimizer.total_steps, 77u);
  EXPECT_EQ(o.optimizer.schedule, LearningRateSchedule::kConstant);
  EXPECT_EQ(o.optimizer.beta2, 0.99);
  EXPECT_EQ(o.optimizer.name, "muon");
  EXPECT_EQ(o.optimizer.muon_momentum, 0.9);
  EXPECT_EQ(o.optimizer.adamw_learning_rate, 0.001);
  EXPECT_EQ(o.sequence_length, 64u);
  EXPECT_EQ(o.micro_batch_size, 8u);
  EXPECT_EQ(o.threads, 3u);
  EXPECT_TRUE(ValidateTrainOptions(*PresetShape("llama-1m"), o).ok());
}

TEST(TrainOptions, RefusesWithTheName) {
  const LlamaShape shape = *PresetShape("llama-1m");
  const std::pair<const char*, std::function<void(TrainOptions&)>> cases[] = {
      {"sgd", [](TrainOptions& o) { o.optimizer.name = "sgd"; }},
      {"learning_rate", [](TrainOptions& o) { o.optimizer.learning_rate = std::nan(""); }},
      {"adamw_learning_rate", [](TrainOptions& o) { o.optimizer.adamw_learning_rate = -1; }},
      {"muon_momentum", [](TrainOptions& o) { o.optimizer.muon_momentum = 1; }},
      {"weight_decay", [](TrainOptions& o) { o.optimizer.weight_decay = -1; }},
      {"max_grad_norm", [](TrainOptions& o) { o.optimizer.max_grad_norm = HUGE_VAL; }},
      {"adam_epsilon", [](TrainOptions& o) { o.optimizer.epsilon = -1e-8; }},
      {"adam_beta1", [](TrainOptions& o) { o.optimizer.beta1 = 1; }},
      {"adam_beta2", [](TrainOptions& o) { o.optimizer.beta2 = std::nan(""); }},
      {"batch_size", [](TrainOptions& o) { o.micro_batch_size = 0; }},
      {"threads", [](TrainOptions& o) { o.threads = 0; }},
      {"sequence_length", [](TrainOptions& o) { o.sequence_length = 0; }},
      {"sequence_length", [](TrainOptions& o) { o.sequence_length = 100; }},
      {"context is 2048",
       [](TrainOptions& o) { o.sequence_length = 4096, o.sample_tokens = 4096; }},
  };
  for (const auto& [reason, change] : cases) {
    TrainOptions o;
    change(o);
    const absl::Status status = ValidateTrainOptions(shape, o);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << reason;
    EXPECT_NE(std::string(status.message()).find(reason), std::string::npos) << status;
  }
}

}  // namespace
}  // namespace longhaul
