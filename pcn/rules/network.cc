#include "pcn/rules/network.h"

#include <ATen/ops/empty.h>

#include <cmath>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/rng.h"
#include "common/status_macros.h"

namespace longhaul::pcn {
namespace {

double Uniform(uint64_t draw) { return (static_cast<double>(draw >> 11) + 0.5) * 0x1p-53; }

// Box and Muller 1958.
double Normal(uint64_t seed, uint64_t tensor, uint64_t element) {
  const double radius = std::sqrt(-2 * std::log(Uniform(Draw(seed, {tensor, element, 0}))));
  return radius * std::cos(2 * M_PI * Uniform(Draw(seed, {tensor, element, 1})));
}

int64_t Elements(const ParameterSpec& spec) {
  int64_t product = 1;
  for (int64_t n : spec.shape) product *= n;
  return product;
}

}  // namespace

Network::Network(Layers layers) : layers_(std::move(layers)) {
  std::map<const Layer*, size_t> seen;
  for (const auto& layer : layers_) {
    const auto [at, is_new] = seen.emplace(layer.get(), tensors_.size());
    first_tensor_.push_back(at->second);
    if (!is_new) continue;
    for (ParameterSpec& spec : layer->Parameters()) {
      const int64_t elements = Elements(spec);
      tensors_.push_back({std::move(spec), parameters_, elements});
      parameters_ += elements;
    }
  }
}

absl::StatusOr<Network> Network::Make(Layers layers) {
  if (layers.empty()) return absl::InvalidArgumentError("a network without layers");
  for (const auto& layer : layers) {
    if (layer == nullptr) return absl::InvalidArgumentError("a network with a missing layer");
  }
  return Network(std::move(layers));
}

int64_t Network::LayerParameters(size_t l) const {
  int64_t sum = 0;
  for (const ParameterSpec& spec : layers_[l]->Parameters()) sum += Elements(spec);
  return sum;
}

at::Tensor Network::InitialParameters(uint64_t seed, at::ScalarType type) const {
  const at::Tensor flat = at::empty({parameters_}, at::kDouble);
  double* values = flat.mutable_data_ptr<double>();
  for (size_t t = 0; t < tensors_.size(); ++t) {
    const Tensor& tensor = tensors_[t];
    for (int64_t i = 0; i < tensor.elements; ++i) {
      const double noise = tensor.spec.deviation == 0 ? 0 : Normal(seed, t, i);
      values[tensor.offset + i] = tensor.spec.centre + tensor.spec.deviation * noise;
    }
  }
  return flat.to(type);
}

Weights Network::View(const at::Tensor& flat) const {
  LONGHAUL_CHECK(flat.numel() == parameters_, "wrong number of parameters");
  Weights weights{flat, {}};
  for (size_t l = 0; l < layers_.size(); ++l) {
    std::vector<at::Tensor> views;
    const size_t count = layers_[l]->Parameters().size();
    for (size_t t = first_tensor_[l]; t < first_tensor_[l] + count; ++t) {
      views.push_back(
          flat.narrow(0, tensors_[t].offset, tensors_[t].elements).view(tensors_[t].spec.shape));
    }
    weights.of_layer.push_back(std::move(views));
  }
  return weights;
}

at::Tensor Network::Predict(const Weights& weights, const at::Tensor& in) const {
  at::Tensor state = in;
  for (size_t l = 0; l < depth(); ++l) {
    state = layers_[l]->Predict(weights.of_layer[l], state, nullptr);
  }
  return state;
}

absl::StatusOr<std::vector<Network>> Network::Cut(std::span<const size_t> first_layers) const {
  if (first_layers.empty() || first_layers[0] != 0) {
    return absl::InvalidArgumentError("the first block must begin at layer 0");
  }
  std::vector<Network> blocks;
  std::set<const Layer*> elsewhere;
  for (size_t b = 0; b < first_layers.size(); ++b) {
    const size_t first = first_layers[b];
    const size_t end = b + 1 < first_layers.size() ? first_layers[b + 1] : depth();
    if (first >= end || end > depth()) {
      return absl::InvalidArgumentError(
          absl::StrCat("block ", b, " would be layers ", first, " to ", end, " of ", depth()));
    }
    Layers part(layers_.begin() + static_cast<int64_t>(first),
                layers_.begin() + static_cast<int64_t>(end));
    for (const auto& layer : part) {
      if (elsewhere.count(layer.get()) > 0 && !layer->Parameters().empty()) {
        return absl::InvalidArgumentError(absl::StrCat(
            "block ", b, " shares weights with an earlier block: tied weights cannot be cut"));
      }
    }
    for (const auto& layer : part) elsewhere.insert(layer.get());
    ASSIGN_OR_RETURN(Network block, Make(std::move(part)));
    blocks.push_back(std::move(block));
  }
  return blocks;
}

}  // namespace longhaul::pcn
