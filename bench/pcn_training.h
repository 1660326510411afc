// What the predictive-coding suites share: folds of an image set, and training on them.
//
// Thread rule: one thread per object.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bench/suite.h"
#include "pcn/rules/adam.h"
#include "pcn/rules/digits.h"
#include "pcn/rules/rule.h"

namespace longhaul {

struct PcnPlan {
  bool quick = false;
  uint32_t threads = 2;
  std::string images;  // folder; empty: generated digits only
};

// Training and test images of one fold, as tensors.
struct Fold {
  at::Tensor train, test;    // (images, pixels)
  at::Tensor train_targets;  // one-hot
  std::vector<int64_t> train_labels, test_labels;
};
inline constexpr int64_t kFolds = 5;
// Image i is in the test part of fold i mod kFolds.
Fold MakeFold(const pcn::ImageSet& set, int64_t fold);
// The same with these training images only.
Fold Subset(const Fold& fold, const std::vector<int64_t>& images);

// Batch number `step` of an endless, reshuffled stream over the training part.
pcn::Batch DrawBatch(const Fold& fold, int64_t rows, uint64_t seed, uint64_t step);
// Share of test images whose largest output is their label.
double Accuracy(const pcn::Network& network, const pcn::Weights& weights, const Fold& fold);

// Batches under one rule, on the fused path where it fits.
class PcnTraining {
 public:
  struct Options {
    pcn::RuleOptions rule;
    pcn::OutputLoss loss = pcn::OutputLoss::kSquared;
    double learning_rate = 3e-4;
    double weight_decay = 1e-4;
    int64_t rows = 128;
    uint64_t updates = 0;  // weight updates that the schedule ends at; 0: constant rate
    uint32_t threads = 1;
    uint64_t seed = 1;
  };
  PcnTraining(const pcn::Network& network, const Options& options);
  ~PcnTraining();
  // One batch of the stream; weight updates that it made.
  uint32_t Step(const Fold& fold);
  const pcn::Weights& weights() const { return weights_; }
  uint64_t updates() const { return updates_; }
  uint64_t diverged() const { return diverged_; }  // batches
  double loss() const { return loss_; }            // of the latest batch

 private:
  const pcn::Network network_;
  const Options options_;
  const pcn::Weights weights_, gradient_;
  pcn::Adam adam_;
  std::function<pcn::BatchReport(const pcn::Batch&, const std::function<void()>&)> run_;
  uint64_t batches_ = 0, updates_ = 0, diverged_ = 0;
  double loss_ = 0;
};

// Mean, and the half width of its one-sided 95 % bound (Student's t), of paired differences.
struct PairedBound {
  double mean = 0, half_width = 0;
};
PairedBound BoundOf(const std::vector<double>& differences);
double Mean(const std::vector<double>& values);

Result PcnResult(const std::string& name, const std::string& unit, double value,
                 const std::string& note = "");
Result PcnGoal(Result result, Relation relation, double target);
Result PcnGate(Result result, Relation relation, double target);

// ---- the suites ----
std::vector<Result> RunPcnOracles(const PcnPlan& plan);
std::vector<Result> RunPcnAccuracy(const PcnPlan& plan);
std::vector<Result> RunPcnRelay(const PcnPlan& plan);
std::vector<Result> RunPcnDrift(const PcnPlan& plan);
std::vector<Result> RunPcnSpeed(const PcnPlan& plan);

}  // namespace longhaul
