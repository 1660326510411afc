// The fused path against its twin.
#include "pcn/rules/fused_mlp.h"

#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include <atomic>

#include "pcn/rules/test_networks.h"
#include "pcn/rules/worker_pool.h"

namespace longhaul::pcn {
namespace {

// Weights after a few batches of plain gradient descent on either path, and the last report.
struct Trained {
  at::Tensor weights;
  BatchReport report;
};

template <class RunBatch>
Trained Train(const Network& network, int64_t rows, OutputLoss loss, RunBatch&& run) {
  const Weights weights = network.View(network.InitialParameters(1, at::kFloat).mul(1.5));
  const Weights gradient = network.View(at::zeros_like(weights.flat));
  Trained trained;
  for (uint64_t i = 0; i < 4; ++i) {
    const int64_t now = i == 2 ? rows - 2 : rows;  // another size in between
    Batch batch{RandomTensor({now, 9}, 10 + i, 1, at::kFloat), {}};
    batch.target = RandomTensor({now, 3}, 20 + i, 1, at::kFloat);
    if (loss == OutputLoss::kCrossEntropy) batch.target = batch.target.abs();
    trained.report = run(weights, batch, gradient, [&] { weights.flat.sub_(gradient.flat, 0.1); });
  }
  trained.weights = weights.flat;
  return trained;
}

std::vector<RuleOptions> FusedRules() {
  RuleOptions nudged{.rule = Rule::kSpc, .sweeps = 4, .rate = 0.1, .nudge = NudgeSign::kNegative};
  RuleOptions centred = nudged;
  centred.nudge = NudgeSign::kCentred;
  RuleOptions cost = nudged;
  cost.nudge_of = NudgeOf::kCost;
  return {{.rule = Rule::kBackprop},
          {.rule = Rule::kZil},
          {.rule = Rule::kFpa, .sweeps = 3, .rate = 1},
          {.rule = Rule::kSpc, .sweeps = 5, .rate = 0.1, .momentum = 0.4},
          {.rule = Rule::kSpc, .sweeps = 5, .rate = 0.1, .output_weight = 0.5},
          {.rule = Rule::kIpc, .sweeps = 3, .rate = 0.2, .momentum = 0.2},
          nudged,
          centred,
          cost};
}

TEST(FusedMlp, ComputesWhatItsTwinDoes) {
  for (Activation activation : {Activation::kLeakyRelu, Activation::kRelu, Activation::kIdentity}) {
    const Network network = MakeMlp({9, 8, 7, 6, 3}, activation, activation != Activation::kRelu);
    for (const RuleOptions& o : FusedRules()) {
      const bool moved = o.nudge != NudgeSign::kNone && o.nudge_of == NudgeOf::kTarget;
      for (OutputLoss loss : {OutputLoss::kSquared, OutputLoss::kCrossEntropy}) {
        if (moved && loss == OutputLoss::kCrossEntropy) continue;
        CreditRule plain = *CreditRule::Make(o, loss);
        const Trained a = Train(network, 8, loss, [&](const auto&... arguments) {
          return plain.RunBatch(network, arguments...);
        });
        for (uint32_t threads : {1u, 3u}) {
          SCOPED_TRACE(testing::Message() << RuleName(o.rule) << " " << threads);
          auto fused = FusedMlp::Make(network, o, loss, threads);
          ASSERT_TRUE(fused.ok()) << fused.status();
          const Trained b = Train(network, 8, loss, [&](const auto&... arguments) {
            return (*fused)->RunBatch(arguments...);
          });
          EXPECT_LT(RelativeDifference(b.weights, a.weights), 2e-6);
          EXPECT_NEAR(b.report.loss, a.report.loss, 1e-5);
          EXPECT_NEAR(b.report.energy_before, a.report.energy_before, 1e-5);
          EXPECT_NEAR(b.report.energy_after, a.report.energy_after, 1e-5);
        }
      }
    }
  }
}

TEST(FusedMlp, RefusesWhatItCannotDo) {
  const Network mlp = MakeMlp({9, 8, 8, 3}, Activation::kRelu);
  const OutputLoss loss = OutputLoss::kSquared;
  auto refused = [&](const Network& network, const RuleOptions& o) {
    return std::string(FusedMlp::Make(network, o, loss, 1).status().message());
  };
  EXPECT_EQ(refused(mlp, {.rule = Rule::kZil}), "");
  EXPECT_NE(refused(mlp, {.rule = Rule::kEpc}).find("rule epc"), std::string::npos);
  EXPECT_NE(refused(mlp, {.rule = Rule::kFpa, .sweeps = 9, .rate = 0.5}).find("rule fpa"),
            std::string::npos);
  EXPECT_NE(refused(mlp, {.rule = Rule::kSpc, .sweeps = 0}).find("sweeps"), std::string::npos);
  EXPECT_NE(refused(MakeMlp({9, 8, 3}, Activation::kGelu), {}).find("ReLU"), std::string::npos);
  EXPECT_NE(refused(MakeResidualMlp({9, 8, 8, 3}, Activation::kRelu), {}).find("skip"),
            std::string::npos);
  EXPECT_NE(refused(MakeConvolutionNet(1, 4, 4, {2}, 3, Activation::kRelu), {}).find("not dense"),
            std::string::npos);
}

TEST(FusedMlp, ReportsDivergence) {
  const Network network = MakeMlp({9, 8, 7, 6, 3}, Activation::kIdentity);
  const Weights weights = network.View(network.InitialParameters(1, at::kFloat).mul(10));
  const Weights gradient = network.View(at::zeros_like(weights.flat));
  auto fused = FusedMlp::Make(network, {.rule = Rule::kSpc, .sweeps = 20, .rate = 0.5},
                              OutputLoss::kSquared, 1);
  ASSERT_TRUE(fused.ok());
  bool stepped = false;
  const Batch batch{RandomTensor({4, 9}, 1, 1, at::kFloat), RandomTensor({4, 3}, 2, 1, at::kFloat)};
  EXPECT_TRUE((*fused)->RunBatch(weights, batch, gradient, [&] { stepped = true; }).diverged);
  EXPECT_FALSE(stepped);
}

TEST(WorkerPool, EveryThreadRunsEachTime) {
  std::atomic<int> prepared = 0, runs = 0;
  WorkerPool pool(3, [&] { ++prepared; });
  for (int i = 0; i < 100; ++i) pool.Run([&](uint32_t id) { runs += 1 << (8 * id); });
  EXPECT_EQ(runs, 100 + (100 << 8) + (100 << 16));
  EXPECT_EQ(prepared, 2);
  EXPECT_THROW(pool.Run([&](uint32_t id) {
    if (id == 0) throw 1;
  }),
               int);
  pool.Run([&](uint32_t) { ++runs; });
}

}  // namespace
}  // namespace longhaul::pcn
