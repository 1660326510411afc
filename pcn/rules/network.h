// A chain of layers and the layout of its parameters.
//
// Layers are numbered from 0; the state above layer l has the same number. A layer object may stand
// in the chain more than once: its parameters exist once, its gradients add up.
//
// Thread rule: immutable after Make; any number of threads. Holds shared ownership of the layers.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "pcn/rules/layer.h"

namespace longhaul::pcn {

// Views of one flat vector (parameters or gradients), one list per layer.
struct Weights {
  at::Tensor flat;
  std::vector<std::vector<at::Tensor>> of_layer;
};

class Network {
 public:
  using Layers = std::vector<std::shared_ptr<const Layer>>;

  // InvalidArgument for no layer, or a layer that is null.
  static absl::StatusOr<Network> Make(Layers layers);

  size_t depth() const { return layers_.size(); }
  const Layer& layer(size_t l) const { return *layers_[l]; }
  const Layers& layers() const { return layers_; }
  int64_t parameters() const { return parameters_; }
  // Elements of layer l, as if it stood alone.
  int64_t LayerParameters(size_t l) const;

  // Normal values from the project's own draws: the same on every machine up to libm's rounding.
  at::Tensor InitialParameters(uint64_t seed, at::ScalarType type) const;
  // Views in the chain's own order: layer after layer. `flat` has parameters() elements.
  Weights View(const at::Tensor& flat) const;

  // The output for `in`, nothing kept.
  at::Tensor Predict(const Weights& weights, const at::Tensor& in) const;

  // The chain as blocks that begin at `first_layers` (ascending, the first is 0). The blocks'
  // parameters, one after the other, are the chain's. InvalidArgument for a list that does not
  // match the chain, and for a layer with parameters that would stand in two blocks (tied weights).
  absl::StatusOr<std::vector<Network>> Cut(std::span<const size_t> first_layers) const;

 private:
  struct Tensor {
    ParameterSpec spec;
    int64_t offset, elements;
  };

  explicit Network(Layers layers);

  Layers layers_;
  std::vector<Tensor> tensors_;
  std::vector<size_t> first_tensor_;  // of layer l in tensors_
  int64_t parameters_ = 0;
};

}  // namespace longhaul::pcn
