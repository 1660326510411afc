// What the predictive-coding suites share: training on folds of an image set.
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
#include "pcn/rules/image_task.h"
#include "pcn/rules/rule.h"

namespace longhaul {

using pcn::Accuracy;
using pcn::DrawBatch;
using pcn::Fold;
using pcn::kFolds;
using pcn::MakeFold;
using pcn::Subset;

struct PcnPlan {
  bool quick = false;
  uint32_t threads = 2;
  std::string images;  // folder; empty: generated digits only
};

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
    at::Tensor initial;  // parameters; undefined: the network's own
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
std::vector<Result> PcnEnergyOracles();  // a part of them
std::vector<Result> RunPcnAccuracy(const PcnPlan& plan);
std::vector<Result> RunPcnRelay(const PcnPlan& plan);
std::vector<Result> RunPcnDrift(const PcnPlan& plan);
std::vector<Result> RunPcnSpeed(const PcnPlan& plan);

}  // namespace longhaul
