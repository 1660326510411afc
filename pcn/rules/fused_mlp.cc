#include "pcn/rules/fused_mlp.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_softmax.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/status_macros.h"
#include "pcn/rules/dense.h"
#include "pcn/rules/fused_kernels.h"
#include "pcn/rules/worker_pool.h"

namespace longhaul::pcn {
namespace {

// ---- what fits ----

struct Shape {
  std::vector<int64_t> sizes;  // input, then every layer's output
  std::vector<float> slopes;   // of every layer's activation
  std::vector<bool> biases;
  size_t depth() const { return slopes.size(); }
};

absl::StatusOr<float> Slope(Activation activation) {
  switch (activation) {
    case Activation::kIdentity:
      return 1.0f;
    case Activation::kRelu:
      return 0.0f;
    case Activation::kLeakyRelu:
      return static_cast<float>(kLeakySlope);
    default:
      return absl::InvalidArgumentError("fused path: identity, ReLU and leaky ReLU only");
  }
}

absl::StatusOr<Shape> ShapeOf(const Network& network) {
  Shape shape;
  for (size_t l = 0; l < network.depth(); ++l) {
    const auto* dense = dynamic_cast<const Dense*>(&network.layer(l));
    if (dense == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat("fused path: layer ", l, " is not dense"));
    }
    const DenseOptions& o = dense->options();
    if (o.activation_inside || o.skip || o.scale != 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("fused path: layer ", l, " has a skip, a scale or its activation inside"));
    }
    ASSIGN_OR_RETURN(float slope, Slope(o.activation));
    if (l == 0) shape.sizes.push_back(o.in);
    if (o.in != shape.sizes.back()) {
      return absl::InvalidArgumentError(absl::StrCat("fused path: layer ", l, " does not fit"));
    }
    shape.sizes.push_back(o.out);
    shape.slopes.push_back(slope);
    shape.biases.push_back(o.bias);
  }
  if (shape.slopes.back() != 1) {
    return absl::InvalidArgumentError("fused path: the output layer must have no activation");
  }
  return shape;
}

absl::Status CheckRule(const RuleOptions& o, OutputLoss loss, size_t depth) {
  RETURN_IF_ERROR(Validate(o, loss));
  const bool all_arrive = o.rate == 1 && o.sweeps + 1 >= depth;
  if (o.rule == Rule::kEpc || o.rule == Rule::kPcAlm || (o.rule == Rule::kFpa && !all_arrive)) {
    return absl::InvalidArgumentError(
        absl::StrCat("fused path: not for rule ", RuleName(o.rule), " with these options"));
  }
  return absl::OkStatus();
}

float* Data(const at::Tensor& x) { return x.mutable_data_ptr<float>(); }

// ---- one thread's rows ----

// What the top sees, the same for all rows.
struct Drive {
  OutputLoss loss = OutputLoss::kSquared;
  double weight = 1;
  double target_shift = 1;  // target <- out + shift * (target - out); 1: the target as it is
};

class Rows {
 public:
  Rows(const Shape& shape, const Network& network)
      : shape_(shape), gradient_(network.View(at::zeros({network.parameters()}, at::kFloat))) {}

  // Buffers for `rows` rows; what is there already is kept.
  void Resize(int64_t rows) {
    if (rows == rows_) return;
    rows_ = rows;
    auto buffers = [&] {
      std::vector<at::Tensor> all;
      for (size_t l = 0; l < shape_.depth(); ++l) {
        all.push_back(at::empty({rows, shape_.sizes[l + 1]}, at::kFloat));
      }
      return all;
    };
    a_ = buffers(), h_ = buffers(), e_ = buffers(), z_ = buffers(), v_ = buffers(), g_ = buffers();
  }
  void SetBatch(const Weights& weights, const at::Tensor& in, const at::Tensor& target) {
    weights_ = &weights;
    in_ = in;
    target_ = target;
  }
  int64_t rows() const { return rows_; }
  const Weights& gradient() const { return gradient_; }

  // h <- forward states; the top's error. Returns the loss summed over rows.
  double Forward(const Drive& drive) {
    for (size_t l = 0; l < depth(); ++l) {
      PreActivate(l, a_[l]);
      ActivateInto(Data(a_[l]), Data(h_[l]), Size(l), shape_.slopes[l]);
    }
    const double loss = LossSum(drive.loss, h_[top()], target_);
    if (drive.target_shift != 1) {
      target_ = h_[top()].add(target_.sub(h_[top()]), drive.target_shift);
    }
    TopError(drive, h_[top()]);
    return loss;
  }

  // The exact gradient, each layer once.
  void ExactCredit() {
    for (size_t l = top(); l > 0; --l) {
      LayerGradient(l);
      at::mm_out(z_[l - 1], z_[l], weights_->of_layer[l][0]);
      if (shape_.slopes[l - 1] != 1) {
        GateBySign(Data(z_[l - 1]), Data(h_[l - 1]), Size(l - 1), shape_.slopes[l - 1]);
      }
    }
    LayerGradient(0);
  }

  // After Forward: errors and velocities of 0 below the top.
  void BeginStates() {
    for (size_t l = 0; l < top(); ++l) {
      e_[l].zero_();
      v_[l].zero_();
      z_[l].zero_();
    }
  }
  // Below the layer that credit has reached in sweep t (from 0) nothing moves: that is skipped.
  size_t Reached(uint32_t t) const { return top() > t + 1 ? top() - 1 - t : 0; }
  void SweepStates(size_t first, float rate, float momentum) {
    for (size_t l = first; l < top(); ++l) {
      at::mm_out(g_[l], z_[l + 1], weights_->of_layer[l + 1][0]);
      StepStates(Data(g_[l]), Data(e_[l]), Data(v_[l]), Data(h_[l]), Size(l), rate, momentum);
    }
  }
  // Errors at the present states from layer `first` on; predictions there too when the weights
  // changed, otherwise above it (nothing moved below).
  void Refresh(const Drive& drive, size_t first, bool weights_changed) {
    for (size_t l = first; l < depth(); ++l) {
      if (l > first || weights_changed) PreActivate(l, a_[l]);
      if (l == top()) {
        TopError(drive, a_[l]);
      } else {
        ErrorAndGate(Data(a_[l]), Data(h_[l]), Data(e_[l]), Data(z_[l]), Size(l), shape_.slopes[l]);
      }
    }
  }
  void StatesGradient() {
    for (size_t l = 0; l < depth(); ++l) LayerGradient(l);
  }
  // Of all layers, summed over rows, at the latest errors.
  double Energy(const Drive& drive) {
    double sum = drive.weight * LossSum(drive.loss, a_[top()], target_);
    for (size_t l = 0; l < top(); ++l) sum += 0.5 * SumOfSquares(Data(e_[l]), Size(l));
    return sum;
  }
  double ForwardEnergy(const Drive& drive) const {
    return drive.weight * LossSum(drive.loss, h_[top()], target_);
  }

 private:
  size_t depth() const { return shape_.depth(); }
  size_t top() const { return depth() - 1; }
  int64_t Size(size_t l) const { return rows_ * shape_.sizes[l + 1]; }
  const at::Tensor& Below(size_t l) const { return l == 0 ? in_ : h_[l - 1]; }

  void PreActivate(size_t l, at::Tensor& out) {
    const std::vector<at::Tensor>& w = weights_->of_layer[l];
    if (shape_.biases[l]) {
      at::addmm_out(out, w[1], Below(l), w[0].t());
    } else {
      at::mm_out(out, Below(l), w[0].t());
    }
  }
  // z of the top: what it pulls down.
  void TopError(const Drive& drive, const at::Tensor& out) {
    z_[top()].copy_(OutputError(drive.loss, out, target_));
    if (drive.weight != 1) z_[top()].mul_(drive.weight);
  }
  // gradient <- z^T below, without sign and scale.
  void LayerGradient(size_t l) {
    at::Tensor weight = gradient_.of_layer[l][0];
    at::mm_out(weight, z_[l].t(), Below(l));
    if (shape_.biases[l]) {
      ColumnSums(Data(z_[l]), rows_, shape_.sizes[l + 1], Data(gradient_.of_layer[l][1]));
    }
  }

  const Shape& shape_;
  const Weights gradient_;
  const Weights* weights_ = nullptr;
  at::Tensor in_, target_;
  int64_t rows_ = -1;
  // Per layer: pre-activation, state, error, gated error, velocity, what was pulled down.
  std::vector<at::Tensor> a_, h_, e_, z_, v_, g_;
};

}  // namespace

// ---- all threads ----

class FusedMlp::State {
 public:
  State(Shape shape, const Network& network, const RuleOptions& options, OutputLoss loss,
        uint32_t threads)
      : shape_(std::move(shape)),
        options_(options),
        loss_(loss),
        pool_(threads, [] { at::set_num_threads(1); }) {
    for (uint32_t i = 0; i < pool_.threads(); ++i) parts_.emplace_back(shape_, network);
    for (const Rows& part : parts_) sums_.push_back(Data(part.gradient().flat));
  }

  BatchReport RunBatch(const Weights& weights, const Batch& batch, const Weights& gradient,
                       const std::function<void()>& step) {
    const double rows = static_cast<double>(batch.input.size(0));
    const Drive drive = NextDrive();
    const double scale =
        -1 / (rows * (options_.normalise_credit ? divisor_ : 1));  // of the gradient
    Split(weights, batch);
    const bool exact = options_.rule == Rule::kBackprop || options_.rule == Rule::kZil ||
                       options_.rule == Rule::kFpa;
    Sums sums = Run([&](Rows& part, Sums& s) {
      s.loss = part.Forward(drive);
      s.before = part.ForwardEnergy(drive);
      if (exact) return part.ExactCredit();
      part.BeginStates();
      if (options_.rule == Rule::kSpc) s.after = Relax(part, drive);
    });
    BatchReport report{.loss = sums.loss / rows};
    if (options_.rule == Rule::kIpc) sums.after = RunIncremental(drive, scale, gradient, step);
    if (!exact) {
      report.energy_before = sums.before / rows;
      report.energy_after = sums.after / rows;
      report.diverged = IsDiverged(report);
    }
    if (options_.rule == Rule::kIpc) return report;
    Collect(scale, gradient);
    if (!report.diverged) step();
    return report;
  }

 private:
  struct Sums {
    double loss = 0, before = 0, after = 0;
  };

  Drive NextDrive() {
    Drive drive{loss_, options_.output_weight};
    divisor_ = options_.output_weight;
    if (options_.nudge != NudgeSign::kNone) {
      const bool negative = options_.nudge == NudgeSign::kNegative ||
                            (options_.nudge == NudgeSign::kCentred && batches_ % 2 == 1);
      const double beta = negative ? -options_.beta : options_.beta;
      divisor_ *= beta;
      (options_.nudge_of == NudgeOf::kCost ? drive.weight : drive.target_shift) *= beta;
    }
    ++batches_;
    return drive;
  }

  void Split(const Weights& weights, const Batch& batch) {
    const int64_t rows = batch.input.size(0), count = static_cast<int64_t>(parts_.size());
    const at::Tensor input = batch.input.reshape({rows, shape_.sizes[0]});
    for (int64_t i = 0; i < count; ++i) {
      const int64_t from = rows * i / count, to = rows * (i + 1) / count;
      parts_[i].Resize(to - from);
      parts_[i].SetBatch(weights, input.narrow(0, from, to - from),
                         batch.target.narrow(0, from, to - from));
    }
  }

  // work(part, its sums) on every thread; all sums together.
  template <class Work>
  Sums Run(Work&& work) {
    std::vector<Sums> all(parts_.size());
    pool_.Run([&](uint32_t i) {
      at::NoGradGuard no_gradient;
      work(parts_[i], all[i]);
    });
    Sums total;
    for (const Sums& s : all) {
      total.loss += s.loss;
      total.before += s.before;
      total.after += s.after;
    }
    return total;
  }

  double Relax(Rows& part, const Drive& drive) {
    for (uint32_t t = 0; t < options_.sweeps; ++t) {
      Sweep(part, drive, part.Reached(t));
    }
    part.StatesGradient();
    return part.Energy(drive);
  }

  void Sweep(Rows& part, const Drive& drive, size_t first) {
    part.SweepStates(first, static_cast<float>(options_.rate),
                     static_cast<float>(options_.momentum));
    part.Refresh(drive, first, /*weights_changed=*/false);
  }

  double RunIncremental(const Drive& drive, double scale, const Weights& gradient,
                        const std::function<void()>& step) {
    double energy = 0;
    for (uint32_t t = 0; t < options_.sweeps; ++t) {
      Run([&](Rows& part, Sums&) {
        Sweep(part, drive, 0);
        part.StatesGradient();
      });
      Collect(scale, gradient);
      step();
      energy = Run([&](Rows& part, Sums& s) {
                 part.Refresh(drive, 0, /*weights_changed=*/true);
                 s.after = part.Energy(drive);
               }).after;
    }
    return energy;
  }

  // gradient <- scale * (sum over threads), each thread a range of it.
  void Collect(double scale, const Weights& gradient) {
    const int64_t n = gradient.flat.numel();
    float* out = Data(gradient.flat);
    pool_.Run([&](uint32_t i) {
      AddParts(sums_.data(), pool_.threads(), out, n * i / pool_.threads(),
               n * (i + 1) / pool_.threads(), static_cast<float>(scale));
    });
  }

  bool IsDiverged(const BatchReport& report) const {
    constexpr double kSlack = 1e-3;  // as the plain path's
    if (!std::isfinite(report.energy_after)) return true;
    return options_.rule == Rule::kSpc &&
           report.energy_after > report.energy_before + kSlack * std::abs(report.energy_before);
  }

  const Shape shape_;
  const RuleOptions options_;
  const OutputLoss loss_;
  WorkerPool pool_;
  std::vector<Rows> parts_;
  std::vector<const float*> sums_;  // the parts' gradients
  double divisor_ = 1;
  uint64_t batches_ = 0;
};

FusedMlp::FusedMlp(std::unique_ptr<State> state) : state_(std::move(state)) {}
FusedMlp::~FusedMlp() = default;

absl::StatusOr<std::unique_ptr<FusedMlp>> FusedMlp::Make(const Network& network,
                                                         const RuleOptions& options,
                                                         OutputLoss loss, uint32_t threads) {
  ASSIGN_OR_RETURN(Shape shape, ShapeOf(network));
  RETURN_IF_ERROR(CheckRule(options, loss, shape.depth()));
  at::set_num_threads(1);
  return std::unique_ptr<FusedMlp>(
      new FusedMlp(std::make_unique<State>(std::move(shape), network, options, loss, threads)));
}

BatchReport FusedMlp::RunBatch(const Weights& weights, const Batch& batch, const Weights& gradient,
                               const std::function<void()>& step) {
  return state_->RunBatch(weights, batch, gradient, step);
}

}  // namespace longhaul::pcn
