// Ready-made networks.
//
// Thread rule: free functions; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "pcn/rules/network.h"

namespace longhaul::pcn {

// "relu"; InvalidArgument, listing all names, for another.
absl::StatusOr<Activation> ParseActivation(const std::string& name);

// Sizes of input, hidden layers and output. The output layer has no activation.
Network MakeMlp(const std::vector<int64_t>& sizes, Activation activation, bool bias = true);
// The same with a skip around each hidden layer of equal widths.
Network MakeResidualMlp(const std::vector<int64_t>& sizes, Activation activation);
// `hidden_layers` hidden layers in the depth-mu parametrisation (arXiv 2505.13124): unit-variance
// weights without biases, activation inside, multipliers 1/sqrt(inputs), 1/sqrt(width * layers) on
// the residual branch, 1/width at the output.
Network MakeMuPcMlp(int64_t inputs, int64_t width, int64_t hidden_layers, int64_t outputs,
                    Activation activation);
// Convolutions with pooling and a dense output; height and width divisible by 2 per entry.
Network MakeConvolutionNet(int64_t channels, int64_t height, int64_t width,
                           const std::vector<int64_t>& filters, int64_t outputs,
                           Activation activation);
// Embedding, `blocks` transformer blocks, a dense output of `vocabulary` logits.
Network MakeTokenTransformer(int64_t vocabulary, int64_t positions, int64_t width, int64_t heads,
                             int64_t blocks);

}  // namespace longhaul::pcn
