// A convolution with activation and pooling, with closed-form credit.
//
// Thread rule: as Layer.
#pragma once

#include "pcn/rules/layer.h"

namespace longhaul::pcn {

struct ConvolutionOptions {
  int64_t in_channels = 0, out_channels = 0;
  int64_t height = 0, width = 0;  // of the input
  int64_t kernel = 3;             // odd; padded so that the size stays
  Activation activation = Activation::kLeakyRelu;
  bool pool = false;  // the maximum of each 2 x 2; needs even height and width
  bool skip = false;  // mu += s; needs equal channels and no pooling
};

// The input may have any shape whose rows hold in_channels * height * width elements; mu is
// (rows, out_channels, height, width), or half of that height and width with `pool`.
class Convolution final : public Layer {
 public:
  explicit Convolution(const ConvolutionOptions& options);
  std::vector<ParameterSpec> Parameters() const override;
  at::Tensor Predict(LayerWeights weights, const at::Tensor& in, Tape* tape) const override;
  at::Tensor Credit(LayerWeights weights, const Tape& tape, const at::Tensor& error,
                    bool want_input, LayerWeights gradient) const override;

 private:
  ConvolutionOptions options_;
};

}  // namespace longhaul::pcn
