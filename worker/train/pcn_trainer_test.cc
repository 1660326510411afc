#include "worker/train/pcn_trainer.h"

#include <gtest/gtest.h>

#include <cmath>

#include "common/rng.h"
#include "model/parameter_table.h"
#include "worker/pcn_options.h"
#include "worker/train/llama_trainer.h"

namespace longhaul {
namespace {

LlamaShape TinyShape(bool tied) {
  LlamaShape s;
  s.vocab_size = 11;
  s.hidden_size = 16;
  s.intermediate_size = 24;
  s.num_hidden_layers = 2;
  s.num_attention_heads = 4;
  s.num_key_value_heads = 2;
  s.tie_word_embeddings = tied;
  return s;
}

TrainOptions TinyOptions() {
  TrainOptions o;
  o.sequence_length = 8;
  o.sample_tokens = 16;
  o.micro_batch_size = 3;
  o.optimizer.learning_rate = 0.01;
  o.optimizer.warmup_steps = 0;
  o.optimizer.schedule = LearningRateSchedule::kConstant;
  return o;
}

const std::vector<uint64_t> kPositions = {3, 4};

std::vector<uint16_t> Tokens() {
  Rng rng(2);
  std::vector<uint16_t> tokens(32);
  for (uint16_t& t : tokens) t = static_cast<uint16_t>(rng.Below(11));
  return tokens;
}

std::vector<float> Parameters(const Trainer& trainer) {
  std::vector<float> values(trainer.parameters());
  trainer.GetParameters(0, values);
  return values;
}

std::unique_ptr<PcnTrainer> MakeTrainer(const PcnSection& pcn, bool tied = false) {
  auto trainer = PcnTrainer::Make(TinyShape(tied), TinyOptions(), pcn, "cpu");
  EXPECT_TRUE(trainer.ok()) << trainer.status();
  (*trainer)->SetParameters(0, InitialParameters(MakeParameterTable(TinyShape(tied)), 1));
  return *std::move(trainer);
}

// Exact credit is what LlamaTrainer computes, tied weights too.
TEST(PcnTrainer, ExactRulesFollowLlamaTrainer) {
  for (bool tied : {false, true}) {
    for (const PcnSection& pcn : {PcnSection{.rule = "backprop"}, PcnSection{.rule = "zil"},
                                  PcnSection{.rule = "fpa", .sweeps = 3, .rate = 1}}) {
      auto trainer = MakeTrainer(pcn, tied);
      auto twin = LlamaTrainer::Make(TinyShape(tied), TinyOptions(), "cpu");
      ASSERT_TRUE(twin.ok());
      (*twin)->SetParameters(0, Parameters(*trainer));
      const std::vector<uint16_t> tokens = Tokens();
      for (uint64_t step = 0; step < 5; ++step) {
        const auto a = trainer->Step({step, kPositions, tokens});
        const auto b = (*twin)->Step({step, kPositions, tokens});
        ASSERT_TRUE(a.ok()) << a.status();
        EXPECT_NEAR(a->loss, b->loss, 1e-4);
        EXPECT_EQ(a->targets, b->targets);
      }
      const std::vector<float> ours = Parameters(*trainer), theirs = Parameters(**twin);
      double difference = 0, size = 0;
      for (size_t i = 0; i < ours.size(); ++i) {
        difference += std::pow(ours[i] - theirs[i], 2);
        size += std::pow(theirs[i], 2);
      }
      EXPECT_LT(std::sqrt(difference / size), 1e-3) << pcn.rule << tied;
    }
  }
}

TEST(PcnTrainer, EveryRuleLearns) {
  const std::vector<PcnSection> rules = {
      {.rule = "spc", .sweeps = 4, .rate = 0.02, .output_weight = 0.1},
      {.rule = "spc", .sweeps = 4, .rate = 0.02, .nudge = -0.1},
      {.rule = "epc", .sweeps = 2, .rate = 0.001},
      {.rule = "pcalm", .sweeps = 6, .rate = 0.02},
      {.rule = "ipc", .sweeps = 3, .rate = 0.02, .output_weight = 0.1}};
  for (const PcnSection& pcn : rules) {
    auto trainer = MakeTrainer(pcn);
    const std::vector<uint16_t> tokens = Tokens();
    const double first = trainer->Step({0, kPositions, tokens})->loss;
    double last = first;
    for (uint64_t i = 1; i < 60; ++i) last = trainer->Step({i, kPositions, tokens})->loss;
    EXPECT_NEAR(first, std::log(11.0), 0.1) << pcn.rule;
    EXPECT_LT(last, 0.8 * first) << pcn.rule;
    const auto evaluated = trainer->Evaluate(Parameters(*trainer), tokens);
    ASSERT_TRUE(evaluated.ok());
    EXPECT_LT(evaluated->loss, 0.8 * first) << pcn.rule << " " << last;
    EXPECT_EQ(trainer->Sample(Parameters(*trainer), {}, 5, 1)->size(), 5u);
  }
}

TEST(PcnTrainer, TooLargeARateIsReducedAndTold) {
  auto trainer = MakeTrainer({.rule = "spc", .sweeps = 8, .rate = 1000});
  const std::vector<uint16_t> tokens = Tokens();
  for (uint64_t i = 0; i < 40; ++i) ASSERT_TRUE(trainer->Step({i, kPositions, tokens}).ok());
  EXPECT_GT(trainer->events().rate_times_lambda, 2);
  EXPECT_GT(trainer->events().rate_reductions, 0u);
  for (float v : Parameters(*trainer)) ASSERT_TRUE(std::isfinite(v));
}

TEST(PcnTrainer, RefusesByName) {
  auto refused = [](const PcnSection& o) {
    return std::string(RuleOptionsFrom(o).status().message());
  };
  EXPECT_NE(refused({.rule = "hebb"}).find("hebb"), std::string::npos);
  EXPECT_NE(refused({.rule = "spc", .sweeps = 0}).find("sweeps"), std::string::npos);
  EXPECT_NE(refused({.rule = "zil", .nudge = 0.5}).find("nudge"), std::string::npos);
  EXPECT_EQ(refused({.rule = "ipc", .sweeps = 8}), "");
  EXPECT_GT(PcnMemoryBytes(TinyShape(false), TinyOptions()), 0u);
  auto trainer = MakeTrainer({});
  const std::vector<uint16_t> foreign(16, 11);
  EXPECT_FALSE(trainer->Step({0, kPositions, foreign}).ok());
  EXPECT_FALSE(trainer->Step({0, kPositions, std::vector<uint16_t>(5)}).ok());
}

}  // namespace
}  // namespace longhaul
