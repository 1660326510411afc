#include "pcn/rules/rule.h"

#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include <cmath>

#include "pcn/rules/adam.h"
#include "pcn/rules/spectrum.h"
#include "pcn/rules/test_networks.h"

namespace longhaul::pcn {
namespace {

const std::vector<int64_t> kSizes = {6, 8, 7, 5, 3};

// The gradient that one batch gives under `options`; no weight moves.
at::Tensor GradientUnder(const Problem& p, const RuleOptions& options, int batches = 1,
                         BatchReport* report = nullptr) {
  CreditRule rule = *CreditRule::Make(options, p.loss);
  const Weights gradient = p.network.View(at::zeros_like(p.weights.flat));
  for (int i = 0; i < batches; ++i) {
    const BatchReport last =
        rule.RunBatch(p.network, p.weights, {p.input, p.target}, gradient, [] {});
    if (report != nullptr) *report = last;
  }
  return gradient.flat.clone();
}

at::Tensor Backprop(const Problem& p) {
  return FullGradient(p, p.Backprop(), 1 / static_cast<double>(p.input.size(0)));
}

TEST(CreditRule, ExactRulesAreBackprop) {
  for (OutputLoss loss : {OutputLoss::kSquared, OutputLoss::kCrossEntropy}) {
    const Problem p(MakeMlp(kSizes, Activation::kTanh), 4, 1, loss);
    const at::Tensor exact = Backprop(p);
    for (const RuleOptions& o :
         {RuleOptions{.rule = Rule::kBackprop}, RuleOptions{.rule = Rule::kZil},
          RuleOptions{.rule = Rule::kFpa, .sweeps = 3, .rate = 1},
          RuleOptions{.rule = Rule::kFpa, .sweeps = 200, .rate = 0.5},
          RuleOptions{.rule = Rule::kEpc, .sweeps = 1, .rate = 0.01},
          RuleOptions{.rule = Rule::kZil, .output_weight = 0.3}}) {
      // ePC's output error has been moved by the errors below: a little off.
      const double tolerance = o.rule == Rule::kEpc ? 0.05 : 1e-12;
      EXPECT_LT(RelativeDifference(GradientUnder(p, o), exact), tolerance) << RuleName(o.rule);
    }
    EXPECT_GT(
        RelativeDifference(GradientUnder(p, {.rule = Rule::kFpa, .sweeps = 2, .rate = 1}), exact),
        0.01);
  }
}

TEST(CreditRule, NormalisedCreditDoesNotDependOnWeightOrNudge) {
  const Problem p(MakeMlp(kSizes, Activation::kTanh), 4, 2);
  const RuleOptions plain{.rule = Rule::kSpc, .sweeps = 400, .rate = 0.2, .output_weight = 1e-4};
  RuleOptions nudged = plain;
  nudged.output_weight = 1;
  nudged.nudge = NudgeSign::kPositive;
  nudged.nudge_of = NudgeOf::kCost;
  nudged.beta = 1e-4;
  EXPECT_LT(RelativeDifference(GradientUnder(p, nudged), GradientUnder(p, plain)), 1e-12);
  EXPECT_LT(RelativeDifference(GradientUnder(p, plain), Backprop(p)), 1e-2);
  RuleOptions raw = plain;
  raw.normalise_credit = false;
  EXPECT_NEAR(Norm(GradientUnder(p, raw)) / Norm(GradientUnder(p, plain)), 1e-4, 1e-10);
}

TEST(CreditRule, CentredNudgeAlternates) {
  const Problem p(MakeMlp(kSizes, Activation::kTanh), 4, 3);
  RuleOptions o{.rule = Rule::kSpc, .sweeps = 20, .rate = 0.2, .beta = 0.3};
  o.nudge = NudgeSign::kPositive;
  const at::Tensor positive = GradientUnder(p, o);
  o.nudge = NudgeSign::kNegative;
  const at::Tensor negative = GradientUnder(p, o);
  o.nudge = NudgeSign::kCentred;
  EXPECT_TRUE(GradientUnder(p, o, 1).equal(positive));
  EXPECT_TRUE(GradientUnder(p, o, 2).equal(negative));
  EXPECT_FALSE(positive.equal(negative));
}

// PC-ALM in a linear network ends at backprop's credit, from any weights.
TEST(CreditRule, MultipliersReachBackpropInALinearNet) {
  const Problem p(MakeMlp(kSizes, Activation::kIdentity), 4, 4);
  const at::Tensor exact = Backprop(p);
  const RuleOptions o{.rule = Rule::kPcAlm, .sweeps = 4000, .rate = 0.25, .multiplier_rate = 0.5};
  EXPECT_LT(RelativeDifference(GradientUnder(p, o), exact), 1e-6);
  const RuleOptions spc{.rule = Rule::kSpc, .sweeps = 4000, .rate = 0.25};
  EXPECT_GT(RelativeDifference(GradientUnder(p, spc), exact), 0.1);
}

// Stopped after two sweeps per layer it is near backprop where plain states are not.
TEST(CreditRule, MultipliersHelpDeepNets) {
  const Problem p(MakeMlp({8, 8, 8, 8, 8, 8, 8, 8, 8, 4}, Activation::kTanh), 8, 5);
  const at::Tensor exact = Backprop(p);
  const RuleOptions alm{.rule = Rule::kPcAlm, .sweeps = 18, .rate = 0.45};
  const RuleOptions spc{.rule = Rule::kSpc, .sweeps = 18, .rate = 0.45};
  EXPECT_GT(Cosine(GradientUnder(p, alm), exact), 0.9);
  EXPECT_GT(Cosine(GradientUnder(p, alm), exact), Cosine(GradientUnder(p, spc), exact));
}

TEST(CreditRule, IncrementalStepsAtEverySweep) {
  const Problem p(MakeMlp(kSizes, Activation::kTanh), 4, 6);
  const RuleOptions o{.rule = Rule::kIpc, .sweeps = 6, .rate = 0.3};
  CreditRule rule = *CreditRule::Make(o, p.loss);
  const Weights gradient = p.network.View(at::zeros_like(p.weights.flat));
  int steps = 0;
  double first = 0, last = 0;
  for (int i = 0; i < 200; ++i) {
    const BatchReport report =
        rule.RunBatch(p.network, p.weights, {p.input, p.target}, gradient, [&] {
          ++steps;
          p.weights.flat.sub_(gradient.flat, 0.05);
        });
    if (i == 0) first = report.loss;
    last = report.loss;
  }
  EXPECT_EQ(steps, 200 * 6);
  EXPECT_EQ(UpdatesPerBatch(o), 6u);
  EXPECT_LT(last, 0.3 * first);
}

// Every rule trains a residual, a convolutional and a token network.
void CheckTrains(Network network, const at::Tensor& input, const std::vector<int64_t>& labels,
                 int64_t classes) {
  const std::vector<RuleOptions> rules = {{.rule = Rule::kZil},
                                          {.rule = Rule::kSpc, .sweeps = 4, .rate = 0.1},
                                          {.rule = Rule::kEpc, .sweeps = 3, .rate = 0.05},
                                          {.rule = Rule::kPcAlm, .sweeps = 6, .rate = 0.1},
                                          {.rule = Rule::kIpc, .sweeps = 4, .rate = 0.2},
                                          {.rule = Rule::kSpc,
                                           .sweeps = 4,
                                           .rate = 0.1,
                                           .nudge = NudgeSign::kCentred,
                                           .nudge_of = NudgeOf::kCost}};
  const at::Tensor target = *OneHot(labels, classes, at::kDouble);
  for (const RuleOptions& o : rules) {
    SCOPED_TRACE(RuleName(o.rule));
    const Weights weights = network.View(network.InitialParameters(1, at::kDouble));
    const Weights gradient = network.View(at::zeros_like(weights.flat));
    CreditRule rule = *CreditRule::Make(o, OutputLoss::kCrossEntropy);
    Adam adam({}, weights.flat);
    double first = 0, last = 0;
    for (int i = 0; i < 25; ++i) {
      const BatchReport report = rule.RunBatch(network, weights, {input, target}, gradient, [&] {
        adam.Step(weights.flat, gradient.flat, 5e-3);
      });
      EXPECT_FALSE(report.diverged);
      if (i == 0) first = report.loss;
      last = report.loss;
    }
    EXPECT_LT(last, 0.8 * first);
  }
}

TEST(CreditRule, TrainsEveryKindOfNetwork) {
  const std::vector<int64_t> labels = {0, 1, 2, 1};
  CheckTrains(MakeResidualMlp({6, 12, 12, 12, 3}, Activation::kTanh), RandomTensor({4, 6}, 1),
              labels, 3);
  CheckTrains(MakeConvolutionNet(1, 4, 4, {6}, 3, Activation::kLeakyRelu),
              RandomTensor({4, 16}, 1, 2), labels, 3);
  CheckTrains(MakeTokenTransformer(5, 4, 8, 2, 2),
              RandomTensor({2, 4}, 1).mul(2.5).add(2.5).to(at::kLong), {1, 2, 3, 4, 4, 2, 0, 1}, 5);
}

TEST(CreditRule, DivergingInferenceIsReported) {
  const Problem p(MakeMlp(kSizes, Activation::kIdentity), 4, 7);
  p.weights.flat.mul_(10);
  CreditRule rule = *CreditRule::Make({.rule = Rule::kSpc, .sweeps = 10, .rate = 0.5}, p.loss);
  const Weights gradient = p.network.View(at::zeros_like(p.weights.flat));
  bool stepped = false;
  const Batch batch{p.input, p.target};
  EXPECT_TRUE(
      rule.RunBatch(p.network, p.weights, batch, gradient, [&] { stepped = true; }).diverged);
  EXPECT_FALSE(stepped);
  SpectralGuard guard({.iterations = 60});
  const SpectralGuard::Look look =
      guard.Check(0, p.network, p.weights, p.input, p.output(), rule.rate());
  EXPECT_TRUE(look.looked && look.event);
  EXPECT_GT(look.product, 2);
  rule.ScaleRate(look.rate_scale);
  EXPECT_NEAR(rule.rate() * look.lambda_max, 0.5, 1e-9);
  EXPECT_FALSE(
      rule.RunBatch(p.network, p.weights, batch, gradient, [&] { stepped = true; }).diverged);
  EXPECT_TRUE(stepped);
  EXPECT_FALSE(guard.Check(1, p.network, p.weights, p.input, p.output(), 1).looked);
}

TEST(CreditRule, RefusesWhatDoesNotFit) {
  const OutputLoss squared = OutputLoss::kSquared, entropy = OutputLoss::kCrossEntropy;
  EXPECT_FALSE(ParseRule("backporp").ok());
  EXPECT_EQ(*ParseRule("pcalm"), Rule::kPcAlm);
  auto refused = [](const RuleOptions& o, OutputLoss loss) {
    return std::string(Validate(o, loss).message());
  };
  RuleOptions o{.rule = Rule::kSpc, .sweeps = 0};
  EXPECT_NE(refused(o, squared).find("rule spc: sweeps"), std::string::npos);
  o = {.rule = Rule::kSpc, .sweeps = 5, .rate = -1};
  EXPECT_NE(refused(o, squared).find("rate"), std::string::npos);
  o = {.rule = Rule::kEpc, .sweeps = 5, .rate = 1.5};
  EXPECT_NE(refused(o, squared).find("at most 1"), std::string::npos);
  o = {.rule = Rule::kSpc, .sweeps = 5, .nudge = NudgeSign::kNegative};
  EXPECT_EQ(refused(o, squared), "");
  EXPECT_NE(refused(o, entropy).find("squared"), std::string::npos);
  o = {.rule = Rule::kZil, .nudge = NudgeSign::kNegative};
  EXPECT_NE(refused(o, squared).find("nudge"), std::string::npos);
  o = {.rule = Rule::kEpc, .momentum = 0.5};
  EXPECT_NE(refused(o, squared).find("momentum"), std::string::npos);
  o = {.rule = Rule::kSpc, .rate = std::nan("")};
  EXPECT_FALSE(CreditRule::Make(o, squared).ok());
}

// The depth-mu parametrisation keeps the size of the forward pass, whatever the depth.
TEST(Builders, MuPcKeepsItsScale) {
  for (int64_t layers : {4, 30}) {
    const Network network = MakeMuPcMlp(64, 64, layers, 10, Activation::kRelu);
    const Weights weights = network.View(network.InitialParameters(1, at::kDouble));
    at::Tensor state = RandomTensor({8, 64}, 2, std::sqrt(3.0));
    for (size_t l = 0; l + 1 < network.depth(); ++l) {
      state = network.layer(l).Predict(weights.of_layer[l], state, nullptr);
      EXPECT_NEAR(state.square().mean().item<double>(), 1.2, 0.6) << layers << " " << l;
    }
  }
}

TEST(Adam, StateRoundTrips) {
  const at::Tensor a = RandomTensor({5}, 1), gradient = RandomTensor({5}, 2);
  Adam one({}, a);
  one.Step(a, gradient, 0.01);
  const at::Tensor b = a.clone();
  Adam two({}, b);
  two.SetState(one.State());
  one.Step(a, gradient, 0.01);
  two.Step(b, gradient, 0.01);
  EXPECT_TRUE(a.equal(b));
  EXPECT_NEAR(WarmCosine(0, 100), 1, 1e-12);
  EXPECT_NEAR(WarmCosine(10, 100), 1.1, 1e-12);
  EXPECT_NEAR(WarmCosine(100, 100), 0.1, 1e-12);
}

}  // namespace
}  // namespace longhaul::pcn
