#include "pcn/rules/builders.h"

#include <array>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "pcn/rules/convolution.h"
#include "pcn/rules/dense.h"
#include "pcn/rules/transformer.h"

namespace longhaul::pcn {
namespace {

constexpr int64_t kMlpFactor = 4;  // inner width of a transformer block's MLP

Network Chain(Network::Layers layers) {
  absl::StatusOr<Network> network = Network::Make(std::move(layers));
  LONGHAUL_CHECK(network.ok(), "a network needs layers");
  return *std::move(network);
}

Network Mlp(const std::vector<int64_t>& sizes, Activation activation, bool bias, bool skips) {
  Network::Layers layers;
  for (size_t l = 0; l + 1 < sizes.size(); ++l) {
    const bool is_output = l + 2 == sizes.size();
    DenseOptions options{.in = sizes[l], .out = sizes[l + 1], .bias = bias};
    if (!is_output) options.activation = activation;
    options.skip = skips && l > 0 && !is_output && sizes[l] == sizes[l + 1];
    layers.push_back(std::make_shared<Dense>(options));
  }
  return Chain(std::move(layers));
}

}  // namespace

absl::StatusOr<Activation> ParseActivation(const std::string& name) {
  constexpr std::array<std::pair<const char*, Activation>, 6> kNames = {
      {{"identity", Activation::kIdentity},
       {"relu", Activation::kRelu},
       {"leaky_relu", Activation::kLeakyRelu},
       {"tanh", Activation::kTanh},
       {"gelu", Activation::kGelu},
       {"hard_tanh", Activation::kHardTanh}}};
  std::string all;
  for (const auto& [known, activation] : kNames) {
    if (name == known) return activation;
    all += std::string(all.empty() ? "" : ", ") + known;
  }
  return absl::InvalidArgumentError(absl::StrCat("no activation '", name, "'; there are ", all));
}

Network MakeMlp(const std::vector<int64_t>& sizes, Activation activation, bool bias) {
  return Mlp(sizes, activation, bias, false);
}

Network MakeResidualMlp(const std::vector<int64_t>& sizes, Activation activation) {
  return Mlp(sizes, activation, true, true);
}

Network MakeMuPcMlp(int64_t inputs, int64_t width, int64_t hidden_layers, int64_t outputs,
                    Activation activation) {
  const double n = static_cast<double>(width);
  const double residual = 1 / std::sqrt(n * static_cast<double>(hidden_layers));
  auto layer = [&](int64_t in, int64_t out, Activation phi, double scale, bool skip) {
    return std::make_shared<Dense>(DenseOptions{.in = in,
                                                .out = out,
                                                .activation = phi,
                                                .activation_inside = true,
                                                .bias = false,
                                                .scale = scale,
                                                .skip = skip,
                                                .deviation = 1});
  };
  Network::Layers layers = {layer(inputs, width, Activation::kIdentity,
                                  1 / std::sqrt(static_cast<double>(inputs)), false)};
  for (int64_t l = 1; l < hidden_layers; ++l) {
    layers.push_back(layer(width, width, activation, residual, true));
  }
  layers.push_back(layer(width, outputs, activation, 1 / n, false));
  return Chain(std::move(layers));
}

Network MakeConvolutionNet(int64_t channels, int64_t height, int64_t width,
                           const std::vector<int64_t>& filters, int64_t outputs,
                           Activation activation) {
  Network::Layers layers;
  for (int64_t count : filters) {
    layers.push_back(std::make_shared<Convolution>(ConvolutionOptions{.in_channels = channels,
                                                                      .out_channels = count,
                                                                      .height = height,
                                                                      .width = width,
                                                                      .activation = activation,
                                                                      .pool = true}));
    channels = count;
    height /= 2;
    width /= 2;
  }
  layers.push_back(
      std::make_shared<Dense>(DenseOptions{.in = channels * height * width, .out = outputs}));
  return Chain(std::move(layers));
}

Network MakeTokenTransformer(int64_t vocabulary, int64_t positions, int64_t width, int64_t heads,
                             int64_t blocks) {
  Network::Layers layers = {std::make_shared<Embedding>(
      EmbeddingOptions{.vocabulary = vocabulary, .positions = positions, .width = width})};
  const TransformerBlockOptions options{
      .width = width,
      .heads = heads,
      .positions = positions,
      .hidden = kMlpFactor * width,
      .residual_deviation = 0.02 / std::sqrt(2.0 * static_cast<double>(blocks))};
  for (int64_t b = 0; b < blocks; ++b) {
    layers.push_back(std::make_shared<TransformerBlock>(options));
  }
  layers.push_back(std::make_shared<Dense>(DenseOptions{.in = width, .out = vocabulary}));
  return Chain(std::move(layers));
}

}  // namespace longhaul::pcn
