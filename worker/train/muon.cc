#include "worker/train/muon.h"

#include <ATen/ops/add.h>
#include <ATen/ops/baddbmm.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>

#include "worker/train/adamw.h"

namespace longhaul {
namespace {

constexpr int kNewtonSchulzSteps = 5;
constexpr double kA = 3.4445, kB = -4.7750, kC = 2.0315;
constexpr double kNormEpsilon = 1e-7;

bool IsHidden(const Parameter& p) { return p.parameter_class == ParameterClass::kMatrix; }

// Neighbouring matrices of one shape: one batched product serves all of them. The canonical order
// puts a matrix of every layer side by side.
struct Stack {
  int64_t offset, momentum_offset;
  int64_t matrices, rows, columns;

  int64_t elements() const { return matrices * rows * columns; }
  at::Tensor View(const at::Tensor& flat, int64_t at) const {
    return flat.narrow(0, at, elements()).view({matrices, rows, columns});
  }
};

std::vector<Stack> Stacks(const ParameterTable& table) {
  std::vector<Stack> stacks;
  int64_t momentum_end = 0;
  for (const Parameter& p : table.parameters) {
    if (!IsHidden(p)) continue;
    const auto rows = static_cast<int64_t>(p.shape[0]), columns = static_cast<int64_t>(p.shape[1]);
    const auto offset = static_cast<int64_t>(p.offset);
    const bool fits = !stacks.empty() && stacks.back().rows == rows &&
                      stacks.back().columns == columns &&
                      stacks.back().offset + stacks.back().elements() == offset;
    if (!fits) stacks.push_back({offset, momentum_end, 0, rows, columns});
    ++stacks.back().matrices;
    momentum_end += rows * columns;
  }
  return stacks;
}

class Muon : public InnerOptimizer {
 public:
  Muon(const ParameterTable& table, const OptimizerOptions& options, const at::Tensor& like)
      : InnerOptimizer("muon"),
        options_(options),
        stacks_(Stacks(table)),
        rest_(table, options, options.adamw_learning_rate, like,
              [](const Parameter& p) { return !IsHidden(p); }) {
    const int64_t elements =
        stacks_.empty() ? 0 : stacks_.back().momentum_offset + stacks_.back().elements();
    momentum_ = at::zeros({elements}, like.options());
  }

  void Step(const at::Tensor& parameters, const at::Tensor& gradients, double schedule) override {
    rest_.Step(parameters, gradients, schedule);
    const double rate = options_.learning_rate * schedule;
    for (const Stack& s : stacks_) {
      const at::Tensor gradient = s.View(gradients, s.offset);
      const at::Tensor momentum = s.View(momentum_, s.momentum_offset);
      momentum.mul_(options_.muon_momentum).add_(gradient);
      const at::Tensor direction =
          NewtonSchulz(at::add(gradient, momentum, options_.muon_momentum));
      const double scale =
          std::sqrt(std::max(1.0, static_cast<double>(s.rows) / static_cast<double>(s.columns)));
      s.View(parameters, s.offset)
          .mul_(1.0 - rate * options_.weight_decay)
          .add_(direction, -rate * scale);
    }
  }

  std::vector<at::Tensor> State() const override {
    std::vector<at::Tensor> state = rest_.State();
    state.push_back(momentum_);
    return state;
  }

 private:
  const OptimizerOptions options_;
  const std::vector<Stack> stacks_;
  const AdamWGroup rest_;
  at::Tensor momentum_;
};

}  // namespace

// A is kept on the smaller side: X Xᵀ for a wide matrix, Xᵀ X for a tall one, which multiplies X
// from the other side.
at::Tensor NewtonSchulz(const at::Tensor& matrices) {
  const bool tall = matrices.size(1) > matrices.size(2);
  const at::Tensor norm = at::linalg_vector_norm(matrices, 2, at::IntArrayRef{1, 2}, true);
  at::Tensor x = matrices.div(norm.add_(kNormEpsilon)), next = at::empty_like(x);
  at::Tensor gram, polynomial;
  for (int i = 0; i < kNewtonSchulzSteps; ++i) {
    const at::Tensor turned = x.transpose(1, 2);
    gram = tall ? at::bmm(turned, x) : at::bmm(x, turned);
    polynomial = at::baddbmm(gram, gram, gram, kB, kC);
    if (tall) {
      at::baddbmm_out(next, x, x, polynomial, kA, 1);
    } else {
      at::baddbmm_out(next, x, polynomial, x, kA, 1);
    }
    std::swap(x, next);
  }
  return x;
}

std::unique_ptr<InnerOptimizer> MakeMuon(const ParameterTable& table,
                                         const OptimizerOptions& options, const at::Tensor& like) {
  return std::make_unique<Muon>(table, options, like);
}

}  // namespace longhaul
