#include "worker/train/llama_trainer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

#include "common/rng.h"
#include "model/parameter_table.h"

namespace longhaul {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::unique_ptr<LlamaTrainer> MakeTrainer(const LlamaShape& shape, const TrainOptions& options) {
  auto trainer = LlamaTrainer::Make(shape, options, "cpu");
  EXPECT_TRUE(trainer.ok()) << trainer.status();
  return *std::move(trainer);
}

// Grouped-query attention, an odd number of layers' worth of everything.
LlamaShape TinyShape(bool tied = false) {
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
  o.micro_batch_size = 8;
  o.optimizer.learning_rate = 0.01;
  o.optimizer.warmup_steps = 0;
  o.optimizer.schedule = LearningRateSchedule::kConstant;
  return o;
}

std::vector<uint16_t> RandomTokens(size_t n, uint32_t vocab, uint64_t seed) {
  Rng rng(seed);
  std::vector<uint16_t> tokens(n);
  for (uint16_t& t : tokens) t = static_cast<uint16_t>(rng.Below(vocab));
  return tokens;
}

// Normal with a deviation that makes every path of the model matter.
std::vector<float> LivelyParameters(const LlamaShape& shape) {
  const ParameterTable table = MakeParameterTable(shape);
  std::vector<float> values(table.elements);
  for (const Parameter& p : table.parameters) {
    for (uint64_t i = 0; i < p.elements; ++i) {
      const bool norm = p.parameter_class == ParameterClass::kNorm;
      values[p.offset + i] =
          static_cast<float>((norm ? 1 : 0) + 0.3 * NormalDraw(5, 5, p.offset, i));
    }
  }
  return values;
}

std::vector<float> Parameters(const LlamaTrainer& trainer) {
  std::vector<float> values(trainer.parameters());
  trainer.GetParameters(0, values);
  return values;
}

StepInput Input(const std::vector<uint64_t>& positions, const std::vector<uint16_t>& tokens,
                uint64_t step = 0) {
  return {step, positions, tokens};
}

// ---- against the independent implementation ----

struct Golden {
  const char* preset;
  const char* optimizer;
  uint32_t sequence_length;
  uint64_t warmup_steps, total_steps;
  double loss[5], gradient_norm[5], distance[5];
};

constexpr Golden kGolden[] = {
    {"llama-130k",
     "adamw",
     32,
     50,
     500,
     {5.538451194763184, 5.527806282043457, 5.511170864105225, 5.504521369934082,
      5.436642169952393},
     {1.935030516497879, 1.9456003923552911, 1.9329444695832074, 2.130080144222263,
      2.300978788925925},
     {0.020726218603014386, 0.05006967180429175, 0.09088159724262679, 0.1436286041375528,
      0.20816017520952182}},
    {"llama-670k",
     "adamw",
     64,
     80,
     800,
     {5.562463283538818, 5.536472797393799, 5.450930595397949, 5.375504016876221, 5.27100944519043},
     {5.011429778704555, 5.678246194692483, 5.904648304469874, 3.999697156794135,
      4.094132083821392},
     {0.030003744452361824, 0.07291301267124675, 0.13371096614669722, 0.20954691460644873,
      0.29883681139441864}},
    {"llama-130k",
     "muon",
     32,
     50,
     500,
     {5.538451194763184, 5.532474040985107, 5.525667667388916, 5.5370965003967285,
      5.4965901374816895},
     {1.935030516497879, 1.9408920584434977, 1.9185045736170614, 2.1039809475406184,
      2.250093540313975},
     {0.010182613266329304, 0.02722636634797883, 0.05227081929932828, 0.08544357110936572,
      0.12699746001818435}},
    {"llama-670k",
     "muon",
     64,
     80,
     800,
     {5.562463283538818, 5.568288326263428, 5.568143844604492, 5.524644374847412,
      5.502830505371094},
     {5.011429778704555, 5.693054781634933, 6.26379122733015, 4.569941237382704, 4.853168815989285},
     {0.009372043810339223, 0.02489134083393285, 0.048316727750807545, 0.07816251408098111,
      0.1158289809327942}},
};

constexpr uint64_t kSeed = 1, kWindows = 2, kWorker = 0;
constexpr int kSequences = 4;

// Windows of T + 1 bytes at hashed places of the training part.
void Window(const std::string& text, uint64_t step, uint32_t length, std::vector<int64_t>& inputs,
            std::vector<int64_t>& targets) {
  const uint64_t training = text.size() * 9 / 10;
  inputs.clear(), targets.clear();
  for (uint64_t j = 0; j < kSequences; ++j) {
    const uint64_t start = Draw(kSeed, {kWindows, kWorker, step, j}) % (training - length);
    for (uint32_t i = 0; i < length; ++i) {
      inputs.push_back(static_cast<unsigned char>(text[start + i]));
      targets.push_back(static_cast<unsigned char>(text[start + i + 1]));
    }
  }
}

TEST(LlamaTrainer, FollowsTheIndependentImplementation) {
  const char* folder = std::getenv("LONGHAUL_TEST_DATA");
  if (folder == nullptr) GTEST_SKIP() << "LONGHAUL_TEST_DATA is not set (tiny Shakespeare)";
  std::ifstream file(std::string(folder) + "/text/tinyshakespeare.txt", std::ios::binary);
  ASSERT_TRUE(file) << folder;
  const std::string text(std::istreambuf_iterator<char>(file), {});
  for (const Golden& g : kGolden) {
    SCOPED_TRACE(std::string(g.preset) + " " + g.optimizer);
    TrainOptions options;
    options.sequence_length = g.sequence_length;
    options.micro_batch_size = kSequences;
    options.optimizer.name = g.optimizer;
    if (options.optimizer.name == "muon") options.optimizer.learning_rate = 0.01;
    options.optimizer.warmup_steps = g.warmup_steps;
    options.optimizer.total_steps = g.total_steps;
    const LlamaShape shape = *PresetShape(g.preset);
    auto trainer = MakeTrainer(shape, options);
    const std::vector<float> initial = InitialParameters(MakeParameterTable(shape), kSeed);
    trainer->SetParameters(0, initial);
    std::vector<int64_t> inputs, targets;
    for (int t = 0; t < 5; ++t) {
      Window(text, t, g.sequence_length, inputs, targets);
      const auto output = trainer->StepOnBatch(t, inputs, targets);
      ASSERT_TRUE(output.ok()) << output.status();
      EXPECT_NEAR(output->loss, g.loss[t], 1e-4) << t;
      EXPECT_NEAR(trainer->gradient_norm() / g.gradient_norm[t], 1, 1e-3) << t;
      const std::vector<float> now = Parameters(*trainer);
      double squares = 0;
      for (size_t i = 0; i < now.size(); ++i) squares += std::pow(now[i] - initial[i], 2);
      EXPECT_NEAR(std::sqrt(squares) / g.distance[t], 1, 1e-3) << t;
    }
  }
}

// ---- gradients ----

// Along a random direction inside each tensor, the gradient predicts the change of the loss.
void CheckGradients(const LlamaShape& shape) {
  TrainOptions options = TinyOptions();
  options.micro_batch_size = 3;
  auto trainer = MakeTrainer(shape, options);
  const std::vector<float> theta = LivelyParameters(shape);
  const std::vector<uint16_t> tokens = RandomTokens(41, shape.vocab_size, 1);
  std::vector<int64_t> inputs(tokens.begin(), tokens.end() - 1);
  std::vector<int64_t> targets(tokens.begin() + 1, tokens.end());
  targets[7] = targets[20] = kIgnoredTarget;
  std::vector<float> gradient(theta.size()), unused(theta.size());
  trainer->SetParameters(0, theta);
  ASSERT_TRUE(trainer->LossAndGradient(inputs, targets, gradient).ok());
  for (const Parameter& p : MakeParameterTable(shape).parameters) {
    std::vector<double> direction(p.elements);
    double predicted = 0, length = 0;
    for (uint64_t i = 0; i < p.elements; ++i) {
      // Half along the gradient, so that the change is well above the rounding of the loss.
      direction[i] = gradient[p.offset + i];
      length += direction[i] * direction[i];
    }
    length = std::sqrt(length);
    ASSERT_GT(length, 1e-4) << p.name << ": no gradient";
    for (uint64_t i = 0; i < p.elements; ++i) {
      direction[i] = direction[i] / length + 0.5 * NormalDraw(8, 8, p.offset, i) /
                                                 std::sqrt(static_cast<double>(p.elements));
      predicted += direction[i] * gradient[p.offset + i];
    }
    auto loss_at = [&](double h) {
      std::vector<float> moved = theta;
      for (uint64_t i = 0; i < p.elements; ++i) {
        moved[p.offset + i] += static_cast<float>(h * direction[i]);
      }
      trainer->SetParameters(0, moved);
      return trainer->LossAndGradient(inputs, targets, unused)->loss;
    };
    constexpr double kStep = 4e-3;  // fourth-order central difference
    const double measured =
        (8 * (loss_at(kStep) - loss_at(-kStep)) - (loss_at(2 * kStep) - loss_at(-2 * kStep))) /
        (12 * kStep);
    EXPECT_NEAR(measured, predicted, 3e-3 * std::abs(predicted) + 2e-4) << p.name;
  }
}

TEST(LlamaTrainer, GradientsOfGroupedQueryAttention) { CheckGradients(TinyShape()); }
TEST(LlamaTrainer, GradientsOfTiedEmbeddings) { CheckGradients(TinyShape(/*tied=*/true)); }

// ---- the Trainer interface ----

TEST(LlamaTrainer, ParametersRoundTripInParts) {
  auto trainer = MakeTrainer(TinyShape(), TinyOptions());
  std::vector<float> theta = LivelyParameters(TinyShape());
  EXPECT_EQ(trainer->parameters(), theta.size());
  trainer->SetParameters(0, theta);
  EXPECT_EQ(Parameters(*trainer), theta);
  std::vector<float> part(5);
  trainer->GetParameters(17, part);
  EXPECT_EQ(part, std::vector<float>(theta.begin() + 17, theta.begin() + 22));
  const std::vector<float> tail = {1, -2, 3};
  trainer->SetParameters(theta.size() - 3, tail);
  std::copy(tail.begin(), tail.end(), theta.end() - 3);
  EXPECT_EQ(Parameters(*trainer), theta);
  EXPECT_DEATH(trainer->SetParameters(theta.size() - 2, tail), "slice outside");
}

TEST(LlamaTrainer, AppliedGradientIsAStep) {
  const std::vector<uint16_t> tokens = RandomTokens(32, 11, 12);
  const std::vector<int64_t> inputs(tokens.begin(), tokens.end());
  std::vector<int64_t> targets(tokens.begin() + 1, tokens.end());
  targets.push_back(kIgnoredTarget);
  auto stepped = MakeTrainer(TinyShape(), TinyOptions());
  auto applied = MakeTrainer(TinyShape(), TinyOptions());
  std::vector<float> gradient(stepped->parameters());
  for (LlamaTrainer* t : {stepped.get(), applied.get()}) {
    t->SetParameters(0, LivelyParameters(TinyShape()));
  }
  ASSERT_TRUE(applied->LossAndGradient(inputs, targets, gradient).ok());
  ASSERT_TRUE(applied->ApplyGradient(0, gradient).ok());
  ASSERT_TRUE(stepped->StepOnBatch(0, inputs, targets).ok());
  EXPECT_EQ(Parameters(*applied), Parameters(*stepped));
  const std::vector<float> before = Parameters(*applied);
  gradient[3] = kNan;
  EXPECT_FALSE(applied->ApplyGradient(1, gradient).ok());
  EXPECT_EQ(Parameters(*applied), before);
}

TEST(LlamaTrainer, MomentsComeAndGo) {
  for (const char* name : {"adamw", "muon"}) {
    TrainOptions options = TinyOptions();
    options.optimizer.name = name;
    const std::vector<uint16_t> tokens = RandomTokens(32, 11, 13);
    auto trainer = MakeTrainer(TinyShape(), options);
    const std::vector<float> theta = LivelyParameters(TinyShape());
    trainer->SetParameters(0, theta);
    std::vector<float> moments(trainer->MomentElements(), 1.0f);
    trainer->GetMoments(moments);
    EXPECT_EQ(moments, std::vector<float>(moments.size())) << "none before the first step";
    ASSERT_TRUE(trainer->Step(Input({0, 1}, tokens)).ok());
    const std::string state = trainer->SaveInnerState();
    const std::vector<float> stepped = Parameters(*trainer);
    trainer->GetMoments(moments);
    EXPECT_NE(moments, std::vector<float>(moments.size()));
    trainer->SetMoments(std::vector<float>(moments.size(), 1.0f));
    EXPECT_NE(trainer->SaveInnerState(), state);
    trainer->SetMoments(moments);
    EXPECT_EQ(trainer->SaveInnerState(), state);
    EXPECT_EQ(Parameters(*trainer), stepped);
  }
}

TEST(LlamaTrainer, LossFallsOnARepeatedBatch) {
  auto trainer = MakeTrainer(TinyShape(), TinyOptions());
  trainer->SetParameters(0, InitialParameters(MakeParameterTable(TinyShape()), 1));
  const std::vector<uint16_t> tokens = RandomTokens(32, 11, 2);
  const double first = trainer->Step(Input({3, 4}, tokens))->loss;
  double last = first;
  for (int i = 1; i < 60; ++i) last = trainer->Step(Input({3, 4}, tokens, i))->loss;
  EXPECT_NEAR(first, std::log(11.0), 0.05);
  EXPECT_LT(last, 0.5 * first);
}

// A sample's last token has no target: what follows it must not matter.
TEST(LlamaTrainer, NeverReadsPastASample) {
  auto trainer = MakeTrainer(TinyShape(), TinyOptions());
  const std::vector<float> theta = LivelyParameters(TinyShape());
  const std::vector<uint16_t> a = RandomTokens(16, 11, 3), b = RandomTokens(16, 11, 4);
  std::vector<uint16_t> both = a;
  both.insert(both.end(), b.begin(), b.end());
  const StepOutput of_a = *trainer->Evaluate(theta, a), of_b = *trainer->Evaluate(theta, b);
  const StepOutput of_both = *trainer->Evaluate(theta, both);
  EXPECT_EQ(of_a.targets, 15u);
  EXPECT_EQ(of_both.targets, 30u);
  EXPECT_NEAR(of_both.loss, (of_a.loss + of_b.loss) / 2, 1e-6);
}

// The mean loss, from the logits of each sequence.
TEST(LlamaTrainer, EvaluateIsTheMeanOverTargets) {
  auto trainer = MakeTrainer(TinyShape(), TinyOptions());
  const std::vector<float> theta = LivelyParameters(TinyShape());
  const std::vector<uint16_t> tokens = RandomTokens(16, 11, 5);
  double sum = 0;
  for (int row = 0; row < 2; ++row) {
    const auto logits = trainer->Logits(theta, std::span(tokens).subspan(row * 8, 8));
    ASSERT_TRUE(logits.ok()) << logits.status();
    for (int i = 0; i < 8 && row * 8 + i + 1 < 16; ++i) {
      double total = 0;
      for (int v = 0; v < 11; ++v) total += std::exp((*logits)[i * 11 + v]);
      sum += std::log(total) - (*logits)[i * 11 + tokens[row * 8 + i + 1]];
    }
  }
  EXPECT_NEAR(trainer->Evaluate(theta, tokens)->loss, sum / 15, 1e-5);
}

TEST(LlamaTrainer, MicroBatchesDoNotChangeTheStep) {
  const std::vector<uint16_t> tokens = RandomTokens(64, 11, 6);
  std::vector<std::vector<float>> gradients;
  std::vector<double> losses;
  for (uint32_t micro : {8u, 4u, 3u}) {  // 3: the last one is smaller
    TrainOptions options = TinyOptions();
    options.micro_batch_size = micro;
    auto trainer = MakeTrainer(TinyShape(), options);
    trainer->SetParameters(0, LivelyParameters(TinyShape()));
    std::vector<int64_t> inputs(tokens.begin(), tokens.end()), targets(inputs);
    targets[0] = targets[1] = kIgnoredTarget;
    gradients.emplace_back(trainer->parameters());
    losses.push_back(trainer->LossAndGradient(inputs, targets, gradients.back())->loss);
    EXPECT_NEAR(losses.back(), losses[0], 1e-5);
    for (size_t i = 0; i < gradients[0].size(); ++i) {
      ASSERT_NEAR(gradients.back()[i], gradients[0][i], 1e-5) << micro << " " << i;
    }
  }
}

TEST(LlamaTrainer, NotFiniteLossIsReportedAndChangesNothing) {
  auto trainer = MakeTrainer(TinyShape(), TinyOptions());
  auto twin = MakeTrainer(TinyShape(), TinyOptions());
  const std::vector<float> good = LivelyParameters(TinyShape());
  const std::vector<uint16_t> tokens = RandomTokens(32, 11, 7);
  for (LlamaTrainer* t : {trainer.get(), twin.get()}) {
    t->SetParameters(0, good);
    ASSERT_TRUE(t->Step(Input({0, 1}, tokens)).ok());
  }
  const std::vector<float> before = Parameters(*trainer);
  std::vector<float> bad = before;
  bad[bad.size() / 2] = kNan;
  trainer->SetParameters(0, bad);
  const auto output = trainer->Step(Input({0, 1}, tokens, 1));
  ASSERT_TRUE(output.ok());
  EXPECT_TRUE(std::isnan(output->loss));
  const std::vector<float> after = Parameters(*trainer);
  for (size_t i = 0; i < after.size(); ++i) {
    if (i == bad.size() / 2) continue;
    ASSERT_EQ(after[i], bad[i]) << i;
  }
  trainer->SetParameters(0, before);  // the moments must have stayed as well
  ASSERT_TRUE(trainer->Step(Input({0, 1}, tokens, 1)).ok());
  ASSERT_TRUE(twin->Step(Input({0, 1}, tokens, 1)).ok());
  EXPECT_EQ(Parameters(*trainer), Parameters(*twin));
}

TEST(LlamaTrainer, ResetForgetsTheMoments) {
  const std::vector<float> theta = LivelyParameters(TinyShape());
  const std::vector<uint16_t> a = RandomTokens(32, 11, 8), b = RandomTokens(32, 11, 9);
  auto trainer = MakeTrainer(TinyShape(), TinyOptions());
  trainer->SetParameters(0, theta);
  ASSERT_TRUE(trainer->Step(Input({0, 1}, b)).ok());
  const std::vector<float> fresh = Parameters(*trainer);
  trainer->SetParameters(0, theta);
  ASSERT_TRUE(trainer->Step(Input({0, 1}, a)).ok());
  trainer->SetParameters(0, theta);
  ASSERT_TRUE(trainer->Step(Input({0, 1}, b)).ok());
  EXPECT_NE(Parameters(*trainer), fresh) << "SetParameters keeps the moments";
  trainer->ResetInnerState();
  trainer->SetParameters(0, theta);
  ASSERT_TRUE(trainer->Step(Input({0, 1}, b)).ok());
  EXPECT_EQ(Parameters(*trainer), fresh);
}

TEST(LlamaTrainer, DecayReachesMatricesOnly) {
  TrainOptions with = TinyOptions(), without = TinyOptions();
  with.optimizer.weight_decay = 0.5;
  without.optimizer.weight_decay = 0;
  const std::vector<float> theta = LivelyParameters(TinyShape());
  const std::vector<uint16_t> tokens = RandomTokens(32, 11, 10);
  std::vector<float> results[2];
  for (int i = 0; i < 2; ++i) {
    auto trainer = MakeTrainer(TinyShape(), i == 0 ? with : without);
    trainer->SetParameters(0, theta);
    ASSERT_TRUE(trainer->Step(Input({0, 1}, tokens)).ok());
    results[i] = Parameters(*trainer);
  }
  for (const Parameter& p : MakeParameterTable(TinyShape()).parameters) {
    const double decay = p.shape.size() == 2 ? 0.5 * 0.01 : 0.0;
    for (uint64_t i = p.offset; i < p.offset + p.elements; ++i) {
      ASSERT_NEAR(results[0][i] - results[1][i], -decay * theta[i], 1e-6) << p.name;
    }
  }
}

TEST(LlamaTrainer, EvaluateAndSampleLeaveTrainingAlone) {
  const std::vector<uint16_t> tokens = RandomTokens(32, 11, 11);
  const std::vector<float> theta = LivelyParameters(TinyShape());
  const std::vector<float> other(theta.size(), 0.1f);
  std::vector<float> results[2];
  for (int disturbed = 0; disturbed < 2; ++disturbed) {
    auto trainer = MakeTrainer(TinyShape(), TinyOptions());
    trainer->SetParameters(0, theta);
    for (int step = 0; step < 3; ++step) {
      ASSERT_TRUE(trainer->Step(Input({0, 1}, tokens, step)).ok());
      if (disturbed == 0) continue;
      ASSERT_TRUE(trainer->Evaluate(other, tokens).ok());
      ASSERT_TRUE(trainer->Sample(other, {}, 3, 1).ok());
    }
    results[disturbed] = Parameters(*trainer);
  }
  EXPECT_EQ(results[0], results[1]);
}

TEST(LlamaTrainer, SamplingIsDeterministicAndSeeded) {
  auto trainer = MakeTrainer(TinyShape(), TinyOptions());
  const std::vector<float> theta = LivelyParameters(TinyShape());
  const std::vector<uint16_t> prompt = {1, 2, 3};
  const auto a = trainer->Sample(theta, prompt, 40, 1);
  ASSERT_TRUE(a.ok()) << a.status();
  EXPECT_EQ(a->size(), 40u);
  EXPECT_EQ(*a, *trainer->Sample(theta, prompt, 40, 1));
  EXPECT_NE(*a, *trainer->Sample(theta, prompt, 40, 2));
  EXPECT_NE(*a, *trainer->Sample(theta, {}, 40, 1));
  for (uint16_t t : *a) EXPECT_LT(t, 11);
}

TEST(LlamaTrainer, RefusesBadInput) {
  auto trainer = MakeTrainer(TinyShape(), TinyOptions());
  const std::vector<float> theta(trainer->parameters());
  const std::vector<uint16_t> short_tokens(15), outside(16, 11);
  EXPECT_EQ(trainer->Step(Input({0}, short_tokens)).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(trainer->Step(Input({}, {})).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(trainer->Step(Input({0}, outside)).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(trainer->Evaluate(theta, outside).ok());
  EXPECT_FALSE(trainer->Sample(theta, outside, 1, 1).ok());
  EXPECT_FALSE(trainer->Logits(theta, std::vector<uint16_t>(9)).ok());
  EXPECT_FALSE(
      trainer->StepOnBatch(0, std::vector<int64_t>(8), std::vector<int64_t>(8, kIgnoredTarget))
          .ok());
  TrainOptions wrong = TinyOptions();
  wrong.sequence_length = 5;
  EXPECT_FALSE(MakeLlamaTrainer(TinyShape(), wrong, "cpu").ok());
  EXPECT_TRUE(MakeLlamaTrainer(TinyShape(), TinyOptions(), "cpu").ok());
}

}  // namespace
}  // namespace longhaul
