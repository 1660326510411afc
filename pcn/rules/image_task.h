// Image sets as a task: folds, a stream of batches, accuracy. Every machine that has the images has
// the same batches.
//
// Thread rule: plain values and pure functions; any thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "pcn/rules/digits.h"
#include "pcn/rules/network.h"
#include "pcn/rules/rule.h"

namespace longhaul::pcn {

// Training and test images of one fold, as tensors.
struct Fold {
  at::Tensor train, test;    // (images, pixels)
  at::Tensor train_targets;  // one-hot
  std::vector<int64_t> train_labels, test_labels;
};
inline constexpr int64_t kFolds = 5;
// Image i is in the test part of fold i mod kFolds.
Fold MakeFold(const ImageSet& set, int64_t fold);
// The same with these training images only.
Fold Subset(const Fold& fold, const std::vector<int64_t>& images);

// Batch number `step` of an endless, reshuffled stream over the training part.
Batch DrawBatch(const Fold& fold, int64_t rows, uint64_t seed, uint64_t step);
// Share of test images whose largest output is their label.
double Accuracy(const Network& network, const Weights& weights, const Fold& fold);

}  // namespace longhaul::pcn
