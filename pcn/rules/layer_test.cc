// Every layer's credit against central differences, and the whole chain against the autograd
// engine.
#include "pcn/rules/layer.h"

#include <ATen/ops/leaky_relu.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include "pcn/rules/convolution.h"
#include "pcn/rules/dense.h"
#include "pcn/rules/test_networks.h"
#include "pcn/rules/transformer.h"

namespace longhaul::pcn {
namespace {

// Checks d(error . f)/dx along random directions, for the input and each parameter.
void CheckLayer(std::shared_ptr<const Layer> layer, const at::Tensor& in, bool input_moves = true) {
  const Network network = *Network::Make({layer});
  const Weights weights = network.View(
      network.InitialParameters(3, at::kDouble).add(RandomTensor({network.parameters()}, 4, 0.2)));
  Tape tape;
  const at::Tensor mu = layer->Predict(weights.of_layer[0], in, &tape);
  EXPECT_TRUE(mu.equal(layer->Predict(weights.of_layer[0], in, nullptr)));
  const at::Tensor error = RandomTensor(mu.sizes(), 5);
  const Weights gradient = network.View(at::zeros_like(weights.flat));
  const at::Tensor credit =
      layer->Credit(weights.of_layer[0], tape, error, true, gradient.of_layer[0]);
  auto value = [&](const at::Tensor& x) {
    return layer->Predict(weights.of_layer[0], x, nullptr).mul(error).sum().item<double>();
  };
  constexpr double kStep = 1e-6;
  if (input_moves) {
    const at::Tensor direction = RandomTensor(in.sizes(), 6);
    const double measured =
        (value(in.add(direction, kStep)) - value(in.sub(direction, kStep))) / (2 * kStep);
    EXPECT_NEAR(measured, credit.mul(direction).sum().item<double>(), 1e-6);
  } else {
    EXPECT_FALSE(credit.defined());
  }
  for (size_t i = 0; i < weights.of_layer[0].size(); ++i) {
    const at::Tensor w = weights.of_layer[0][i], before = w.clone();
    const at::Tensor direction = RandomTensor(w.sizes(), 7 + i);
    w.add_(direction, kStep);
    const double up = value(in);
    w.copy_(before).sub_(direction, kStep);
    const double down = value(in);
    w.copy_(before);
    const double predicted = gradient.of_layer[0][i].mul(direction).sum().item<double>();
    EXPECT_NEAR((up - down) / (2 * kStep), predicted, 1e-6) << i;
    EXPECT_NE(predicted, 0) << i;
  }
}

TEST(Layer, DenseCreditOfEveryActivation) {
  for (Activation a : {Activation::kIdentity, Activation::kRelu, Activation::kLeakyRelu,
                       Activation::kTanh, Activation::kGelu, Activation::kHardTanh}) {
    for (bool inside : {false, true}) {
      SCOPED_TRACE(testing::Message() << static_cast<int>(a) << inside);
      CheckLayer(std::make_shared<Dense>(DenseOptions{.in = 5,
                                                      .out = 5,
                                                      .activation = a,
                                                      .activation_inside = inside,
                                                      .scale = 0.7,
                                                      .skip = true}),
                 RandomTensor({3, 5}, 1));
    }
  }
  CheckLayer(std::make_shared<Dense>(DenseOptions{.in = 6, .out = 4, .bias = false}),
             RandomTensor({3, 2, 3}, 1));  // rows of any shape
}

TEST(Layer, ConvolutionCredit) {
  ConvolutionOptions options{.in_channels = 2, .out_channels = 3, .height = 4, .width = 6};
  options.activation = Activation::kTanh;
  CheckLayer(std::make_shared<Convolution>(options), RandomTensor({2, 48}, 1));
  options.pool = true;
  CheckLayer(std::make_shared<Convolution>(options), RandomTensor({2, 2, 4, 6}, 1));
  options.pool = false;
  options.out_channels = 2;
  options.skip = true;
  CheckLayer(std::make_shared<Convolution>(options), RandomTensor({2, 2, 4, 6}, 1));
}

TEST(Layer, TransformerCredit) {
  CheckLayer(std::make_shared<TransformerBlock>(
                 TransformerBlockOptions{.width = 8, .heads = 2, .positions = 3, .hidden = 12}),
             RandomTensor({6, 8}, 1));
}

TEST(Layer, EmbeddingCredit) {
  CheckLayer(
      std::make_shared<Embedding>(EmbeddingOptions{.vocabulary = 5, .positions = 3, .width = 4}),
      RandomTensor({2, 3}, 1).mul(2.5).add(2.5).to(at::kLong), /*input_moves=*/false);
}

// What follows a token must not reach it.
TEST(Layer, AttentionIsCausal) {
  const TransformerBlock block({.width = 8, .heads = 2, .positions = 4, .hidden = 8});
  const Network network = *Network::Make({std::make_shared<TransformerBlock>(block)});
  const Weights weights = network.View(network.InitialParameters(1, at::kDouble));
  const at::Tensor x = RandomTensor({4, 8}, 2), other = x.clone();
  other.select(0, 3).add_(1);
  const at::Tensor a = network.Predict(weights, x), b = network.Predict(weights, other);
  EXPECT_TRUE(a.narrow(0, 0, 3).equal(b.narrow(0, 0, 3)));
  EXPECT_FALSE(a.equal(b));
}

// The engine's own gradient of the mean loss, for a chain of tanh layers.
std::vector<at::Tensor> EngineGradient(const Problem& p) {
  std::vector<at::Tensor> leaves;
  for (const auto& layer : p.weights.of_layer) {
    for (const at::Tensor& w : layer) leaves.push_back(w.clone().set_requires_grad(true));
  }
  at::Tensor h = p.input;
  for (size_t l = 0; l < p.network.depth(); ++l) {
    h = at::linear(h, leaves[2 * l], leaves[2 * l + 1]);
    if (l + 1 < p.network.depth()) h = at::tanh(h);
  }
  const at::Tensor loss =
      h.sub(p.target).square().sum().mul(0.5 / static_cast<double>(p.input.size(0)));
  loss.backward();
  std::vector<at::Tensor> gradients;
  for (const at::Tensor& leaf : leaves) gradients.push_back(leaf.grad());
  return gradients;
}

TEST(Network, ExactCreditIsTheEnginesGradient) {
  const Problem p(MakeMlp({6, 8, 7, 5, 3}, Activation::kTanh), 4, 1);
  AnchoredCredit credit(p.network, p.weights, p.input, p.output());
  const Weights gradient = p.network.View(at::zeros_like(p.weights.flat));
  credit.SolveWithGradient(0.25, gradient);
  const std::vector<at::Tensor> engine = EngineGradient(p);
  for (size_t l = 0; l < p.network.depth(); ++l) {
    for (size_t i = 0; i < 2; ++i) {
      EXPECT_LT(RelativeDifference(gradient.of_layer[l][i], engine[2 * l + i]), 1e-14);
    }
  }
}

TEST(Network, RefusesWhatDoesNotMatch) {
  EXPECT_FALSE(Network::Make({}).ok());
  EXPECT_FALSE(Network::Make({nullptr}).ok());
  const auto layer = std::make_shared<Dense>(DenseOptions{.in = 4, .out = 4});
  const Network tied = *Network::Make({layer, layer, layer});
  EXPECT_TRUE(tied.Cut(std::vector<size_t>{0}).ok());
  const absl::Status refused = tied.Cut(std::vector<size_t>{0, 1}).status();
  EXPECT_NE(std::string(refused.message()).find("tied"), std::string::npos);
  const Network mlp = MakeMlp({3, 4, 4, 2}, Activation::kTanh);
  for (const std::vector<size_t>& bad : {std::vector<size_t>{}, {1}, {0, 0}, {0, 3}, {0, 2, 1}}) {
    EXPECT_EQ(mlp.Cut(bad).status().code(), absl::StatusCode::kInvalidArgument);
  }
  const auto blocks = mlp.Cut(std::vector<size_t>{0, 2});
  ASSERT_TRUE(blocks.ok());
  EXPECT_EQ((*blocks)[0].parameters() + (*blocks)[1].parameters(), mlp.parameters());
}

TEST(Energy, LabelsOutsideAreRefused) {
  EXPECT_FALSE(OneHot(std::vector<int64_t>{0, 3}, 3, at::kFloat).ok());
  EXPECT_FALSE(OneHot(std::vector<int64_t>{-1}, 3, at::kFloat).ok());
  const at::Tensor rows = *OneHot(std::vector<int64_t>{2, kNoLabel}, 3, at::kDouble);
  EXPECT_EQ(rows.sum().item<double>(), 1);
  // A row without a label has no loss and no error.
  const at::Tensor error = OutputError(OutputLoss::kCrossEntropy, RandomTensor({2, 3}, 1), rows);
  EXPECT_EQ(Norm(error.select(0, 1)), 0);
  EXPECT_GT(Norm(error.select(0, 0)), 0);
}

}  // namespace
}  // namespace longhaul::pcn
