#include "pcn/rules/image_task.h"

#include <ATen/ops/from_blob.h>

#include <numeric>

#include "common/check.h"
#include "common/rng.h"
#include "pcn/rules/energy.h"

namespace longhaul::pcn {
namespace {

at::Tensor Indices(const std::vector<int64_t>& values) {
  return at::from_blob(const_cast<int64_t*>(values.data()), {static_cast<int64_t>(values.size())},
                       at::kLong);
}

// Place `at` of the stream's pass number `pass` over n images: an affine permutation.
int64_t Shuffled(int64_t n, uint64_t seed, uint64_t pass, uint64_t at) {
  const auto count = static_cast<uint64_t>(n);
  uint64_t factor = Draw(seed, {pass, 0}) % count | 1;
  while (std::gcd(factor, count) != 1) factor += 2;
  return static_cast<int64_t>((factor * at + Draw(seed, {pass, 1}) % count) % count);
}

}  // namespace

Fold MakeFold(const ImageSet& set, int64_t fold) {
  std::vector<int64_t> train, test;
  Fold made;
  for (int64_t i = 0; i < set.size(); ++i) {
    const bool is_test = i % kFolds == fold;
    (is_test ? test : train).push_back(i);
    (is_test ? made.test_labels : made.train_labels).push_back(set.labels[i]);
  }
  const at::Tensor all =
      at::from_blob(const_cast<float*>(set.values.data()), {set.size(), set.pixels}, at::kFloat);
  made.train = all.index_select(0, Indices(train));
  made.test = all.index_select(0, Indices(test));
  auto targets = OneHot(made.train_labels, set.classes, at::kFloat);
  LONGHAUL_CHECK(targets.ok(), "labels of a checked image set");
  made.train_targets = *targets;
  return made;
}

Fold Subset(const Fold& fold, const std::vector<int64_t>& images) {
  Fold part = fold;
  part.train = fold.train.index_select(0, Indices(images));
  part.train_targets = fold.train_targets.index_select(0, Indices(images));
  part.train_labels.clear();
  for (int64_t i : images) part.train_labels.push_back(fold.train_labels[i]);
  return part;
}

Batch DrawBatch(const Fold& fold, int64_t rows, uint64_t seed, uint64_t step) {
  const int64_t images = fold.train.size(0);
  std::vector<int64_t> chosen;
  for (int64_t r = 0; r < rows; ++r) {
    const uint64_t place = step * static_cast<uint64_t>(rows) + static_cast<uint64_t>(r);
    const auto n = static_cast<uint64_t>(images);
    chosen.push_back(Shuffled(images, seed, place / n, place % n));
  }
  const at::Tensor indices = Indices(chosen);
  return {fold.train.index_select(0, indices), fold.train_targets.index_select(0, indices), 0};
}

double Accuracy(const Network& network, const Weights& weights, const Fold& fold) {
  const at::Tensor best = network.Predict(weights, fold.test).argmax(1);
  const double right = best.eq(Indices(fold.test_labels)).sum().item<double>();
  return right / static_cast<double>(fold.test_labels.size());
}

}  // namespace longhaul::pcn
