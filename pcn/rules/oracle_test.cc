// Closed forms and equalities that hold exactly, in double precision: numbers A1 to A10 and A13 to
// A15 of docs/PCN.md. (A11 and A12 belong to Relay.)
#include <ATen/ops/cat.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/linalg_eigvalsh.h>
#include <ATen/ops/linalg_inv.h>
#include <ATen/ops/linalg_qr.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "pcn/rules/dense.h"
#include "pcn/rules/rule.h"
#include "pcn/rules/spectrum.h"
#include "pcn/rules/test_networks.h"

namespace longhaul::pcn {
namespace {

const std::vector<int64_t> kSizes = {6, 8, 7, 5, 3};
const std::vector<int64_t> kDeepSizes = {6, 8, 7, 5, 4, 4, 3};  // six layers

FreeStates Relaxed(const Problem& p, const Output& output, int sweeps, double rate = 0.25) {
  FreeStates states(p.network, p.weights, p.input, output, {.rate = rate});
  for (int t = 0; t < sweeps; ++t) states.Sweep();
  return states;
}

// Eigenvalues, ascending, of the Hessian in all states of the batch.
at::Tensor Spectrum(FreeStates& states) {
  std::vector<at::Tensor> rows, zero;
  for (size_t l = 0; l + 1 < states.depth(); ++l) zero.push_back(at::zeros_like(states.state(l)));
  for (size_t l = 0; l < zero.size(); ++l) {
    for (int64_t i = 0; i < zero[l].numel(); ++i) {
      std::vector<at::Tensor> basis = zero;
      basis[l] = zero[l].clone();
      basis[l].view({-1}).select(0, i).fill_(1);
      std::vector<at::Tensor> column = HessianTimes(states, basis, 1e-2);
      for (at::Tensor& part : column) part = part.reshape({-1});
      rows.push_back(at::cat(column).unsqueeze(0));
    }
  }
  const at::Tensor h = at::cat(rows);
  EXPECT_LT(Norm(h.sub(h.t())), 1e-8 * Norm(h));  // a Hessian is symmetric
  return at::linalg_eigvalsh(h);
}

// ---- A1: the linear closed form ----
// With P_l = W_L .. W_(l+1), r = y - W_L .. W_1 x, S = I / lambda + sum P_l P_l^T:
// E* = 1/2 r^T S^-1 r and e_l* = P_l^T S^-1 r.

void CheckLinearClosedForm(const std::vector<int64_t>& sizes, double lambda, int64_t rows) {
  const Problem p(MakeMlp(sizes, Activation::kIdentity, /*bias=*/false), rows, 11);
  const FreeStates states = Relaxed(p, p.output(lambda), 3000);
  const int64_t outputs = sizes.back();
  at::Tensor s = at::eye(outputs, at::kDouble).mul(1 / lambda);
  std::vector<at::Tensor> product(p.network.depth());
  at::Tensor above = at::eye(outputs, at::kDouble);
  for (size_t l = p.network.depth(); l-- > 0;) {
    product[l] = above;
    if (l + 1 < p.network.depth()) s = s.add(above.mm(above.t()));
    above = above.mm(p.weights.of_layer[l][0]);
  }
  const at::Tensor r = p.target.sub(p.input.mm(above.t()));
  const at::Tensor q = r.mm(at::linalg_inv(s));
  const double energy = 0.5 * r.mul(q).sum().item<double>();
  EXPECT_NEAR(states.Energy() / energy, 1, 1e-10);
  for (size_t l = 0; l < p.network.depth(); ++l) {
    EXPECT_LT(RelativeDifference(states.error(l), q.mm(product[l])), 1e-10) << l;
  }
}

TEST(Oracle, A1LinearClosedForm) {
  for (double lambda : {1.0, 0.1, 3.0}) {
    CheckLinearClosedForm({6, 8, 7, 5, 3}, lambda, 4);
    CheckLinearClosedForm({3, 9, 2}, lambda, 1);
  }
}

// ---- A2: a small output weight ----

TEST(Oracle, A2SmallOutputWeightTendsToBackprop) {
  const Problem p(MakeMlp(kSizes, Activation::kTanh), 4, 2);
  const at::Tensor exact = FullGradient(p, p.Backprop());
  double previous = 0;
  for (double lambda : {1e-2, 1e-3, 1e-4}) {
    const at::Tensor gradient = FullGradient(p, Relaxed(p, p.output(lambda), 2000), 1 / lambda);
    const double difference = RelativeDifference(gradient, exact);
    if (previous > 0) {
      EXPECT_NEAR(std::log10(previous / difference), 1, 0.05) << lambda;
      EXPECT_GT(Cosine(gradient, exact), 0.9999);
    }
    previous = difference;
  }
}

// ---- A3: Z-IL ----

TEST(Oracle, A3ZilEqualsBackprop) {
  const Problem p(MakeMlp({6, 8, 7, 5, 4, 3}, Activation::kTanh), 4, 3);
  const AnchoredCredit exact = p.Backprop();
  FreeStates states(p.network, p.weights, p.input, p.output(), {.rate = 1});
  const size_t depth = p.network.depth();
  for (size_t t = 0; t < depth; ++t) {
    const size_t l = depth - 1 - t;  // the layer whose credit arrives now
    EXPECT_LT(RelativeDifference(LayerGradient(p, states, l), LayerGradient(p, exact, l)), 1e-12)
        << l;
    if (t + 1 < depth) states.Sweep();
  }
  // All at the end is another rule: only the first layer is right.
  for (size_t l = 0; l < depth; ++l) {
    const double difference =
        RelativeDifference(LayerGradient(p, states, l), LayerGradient(p, exact, l));
    if (l == 0) {
      EXPECT_LT(difference, 1e-12);
    } else {
      EXPECT_GT(difference, 0.05) << l;
    }
  }
}

// ---- A4: fixed predictions ----

TEST(Oracle, A4FixedPredictions) {
  const Problem p(MakeMlp({6, 8, 7, 5, 4, 3}, Activation::kTanh), 4, 4);
  const AnchoredCredit exact = p.Backprop();
  auto worst_after = [&](double rate, int sweeps) {
    AnchoredCredit credit(p.network, p.weights, p.input, p.output());
    for (int t = 0; t < sweeps; ++t) credit.Sweep(rate);
    double worst = 0;
    for (size_t l = 0; l < credit.depth(); ++l) {
      worst = std::max(worst, RelativeDifference(credit.error(l), exact.error(l)));
    }
    return worst;
  };
  EXPECT_LT(worst_after(1, 4), 1e-12);
  EXPECT_GT(worst_after(1, 3), 0.9);  // the first layer has nothing yet
  EXPECT_GT(worst_after(0.5, 4), 0.8);
  EXPECT_NEAR(worst_after(0.5, 20), 1.3e-3, 2e-4);
  EXPECT_LT(worst_after(0.5, 40), 2e-8);
}

// ---- A5: ePC ----

TEST(Oracle, A5FirstErrorStepIsBackpropAndTheEnd) {
  const Problem p(MakeMlp(kSizes, Activation::kTanh), 4, 5);
  const AnchoredCredit exact = p.Backprop();
  FreeErrors errors(p.network, p.weights, p.input, p.output());
  errors.Sweep(0.3);
  for (size_t l = 0; l + 1 < p.network.depth(); ++l) {
    EXPECT_LT(RelativeDifference(errors.error(l), exact.error(l).mul(0.3)), 1e-12) << l;
  }
  for (int t = 0; t < 600; ++t) errors.Sweep(0.3);
  const FreeStates states = Relaxed(p, p.output(), 3000);
  for (size_t l = 0; l < p.network.depth(); ++l) {
    EXPECT_LT(RelativeDifference(errors.error(l), states.error(l)), 1e-10) << l;
  }
}

// ---- A6: the first-arrival law ----

TEST(Oracle, A6FirstArrival) {
  constexpr double kRate = 0.1;
  const Problem p(MakeMlp(kDeepSizes, Activation::kTanh), 4, 6);
  p.weights.flat.mul_(2);  // so that the lowest credit is well above the rounding of states
  const AnchoredCredit exact = p.Backprop();
  FreeStates states(p.network, p.weights, p.input, p.output(), {.rate = kRate});
  for (size_t k = 1; k < p.network.depth(); ++k) {
    const size_t l = p.network.depth() - 1 - k;
    EXPECT_EQ(Norm(states.error(l)), 0) << "before it arrives";
    states.Sweep();
    const at::Tensor scaled = states.error(l).mul(std::pow(kRate, -static_cast<double>(k)));
    EXPECT_LT(RelativeDifference(scaled, exact.error(l)), 1e-10) << k;
  }
}

// ---- A7: the largest step ----

TEST(Oracle, A7EnergyFallsBelowTheSpectralBound) {
  const Problem p(MakeMlp(kSizes, Activation::kIdentity, false), 2, 7);
  FreeStates start(p.network, p.weights, p.input, p.output(), {});
  const double largest = Spectrum(start).max().item<double>();
  EXPECT_NEAR(LargestEigenvalue(start, 400, 1), largest, 1e-6 * largest);
  for (double factor : {0.99, 1.01}) {
    FreeStates states(p.network, p.weights, p.input, p.output(), {.rate = factor * 2 / largest});
    double before = states.Energy();
    const double first = before;
    bool fell = true;
    for (int t = 0; t < 3000; ++t) {
      states.Sweep();
      const double energy = states.Energy();
      fell = fell && energy <= before * (1 + 1e-12);
      before = energy;
    }
    EXPECT_EQ(fell, factor < 1);
    EXPECT_EQ(before > 1e6 * first, factor > 1);
  }
}

// ---- A8: the envelope theorem ----

TEST(Oracle, A8WeightRuleIsTheSlopeOfTheEquilibratedEnergy) {
  const Problem p(MakeMlp(kSizes, Activation::kTanh), 4, 8);
  const at::Tensor gradient = FullGradient(p, Relaxed(p, p.output(), 2000));
  const at::Tensor direction = RandomTensor({p.network.parameters()}, 9);
  const at::Tensor before = p.weights.flat.clone();
  constexpr double kStep = 1e-5;
  auto energy_at = [&](double step) {
    p.weights.flat.copy_(before).add_(direction, step);
    return Relaxed(p, p.output(), 2000).Energy();
  };
  const double measured = (energy_at(kStep) - energy_at(-kStep)) / (2 * kStep);
  const double predicted = gradient.mul(direction).sum().item<double>();
  EXPECT_NEAR(measured / predicted, 1, 1e-7);
}

// ---- A9: the spectrum of the orthogonal chain ----

TEST(Oracle, A9OrthogonalChain) {
  constexpr int64_t kWidth = 3, kLayers = 6;
  const Problem p(MakeMlp(std::vector<int64_t>(kLayers + 1, kWidth), Activation::kIdentity, false),
                  1, 9);
  for (const auto& layer : p.weights.of_layer) {
    layer[0].copy_(std::get<0>(at::linalg_qr(layer[0])));
  }
  FreeStates states(p.network, p.weights, p.input, p.output(), {});
  const at::Tensor found = Spectrum(states);
  for (int64_t j = 1; j < kLayers; ++j) {
    const double expected = 2 - 2 * std::cos(static_cast<double>(j) * M_PI / kLayers);
    for (int64_t i = 0; i < kWidth; ++i) {
      EXPECT_NEAR(found[(j - 1) * kWidth + i].item<double>(), expected, 1e-6) << j;
    }
  }
}

// ---- A10: by hand ----

struct ByHand {
  double w1, w2, y;
  double state, energy, gradient1, gradient2, backprop1, backprop2;
};

TEST(Oracle, A10ByHand) {
  for (const ByHand& h : {ByHand{2, 3, 1, 0.5, 1.25, 1.5, 0.25, 15, 10},
                          ByHand{0.2, 1, 1, 0.6, 0.16, -0.4, -0.24, -0.8, -0.16}}) {
    Problem p(MakeMlp({1, 1, 1}, Activation::kIdentity, false), 1, 1);
    p.weights.of_layer[0][0].fill_(h.w1);
    p.weights.of_layer[1][0].fill_(h.w2);
    p.input.fill_(1);
    p.target.fill_(h.y);
    const FreeStates states = Relaxed(p, p.output(), 2000, 0.1);
    EXPECT_NEAR(states.state(0).item<double>(), h.state, 1e-14);
    EXPECT_NEAR(states.Energy(), h.energy, 1e-14);
    const at::Tensor gradient = FullGradient(p, states), exact = FullGradient(p, p.Backprop());
    EXPECT_NEAR(gradient[0].item<double>(), h.gradient1, 1e-14);
    EXPECT_NEAR(gradient[1].item<double>(), h.gradient2, 1e-14);
    EXPECT_NEAR(exact[0].item<double>(), h.backprop1, 1e-14);
    EXPECT_NEAR(exact[1].item<double>(), h.backprop2, 1e-14);
  }
}

// ---- A13: nudges ----

// Relative distance of the equilibrium's gradient / beta from `limit`.
class Nudged {
 public:
  explicit Nudged(NudgeOf of)
      : p_(MakeMlp({6, 7, 6, 5, 5, 4, 3}, Activation::kTanh), 4, 13), of_(of) {}

  at::Tensor Gradient(double beta) const {
    Output output = p_.output();
    if (of_ == NudgeOf::kCost) {
      output.weight = beta;
    } else {
      const at::Tensor out = p_.network.Predict(p_.weights, p_.input);
      output.target = out.add(p_.target.sub(out), beta);
    }
    return FullGradient(p_, Relaxed(p_, output, 2500), 1 / beta);
  }
  at::Tensor Backprop() const { return FullGradient(p_, p_.Backprop()); }
  // The slopes of one sign and of the mean of both, between two sizes of the nudge.
  void CheckSlopes(const at::Tensor& limit) const {
    double one[2], both[2];
    const double sizes[2] = {0.1, 0.05};
    for (int i : {0, 1}) {
      const at::Tensor up = Gradient(sizes[i]), down = Gradient(-sizes[i]);
      one[i] = RelativeDifference(up, limit);
      both[i] = RelativeDifference(up.add(down).mul(0.5), limit);
    }
    EXPECT_NEAR(std::log2(one[0] / one[1]), 1, 0.15);
    EXPECT_NEAR(std::log2(both[0] / both[1]), 2, 0.15);
  }

 private:
  Problem p_;
  NudgeOf of_;
};

TEST(Oracle, A13NudgedCostTendsToBackprop) {
  const Nudged nudged(NudgeOf::kCost);
  nudged.CheckSlopes(nudged.Backprop());
}

// The clamped, moved target keeps its precision of 1: its limit is the linear response, taken here
// from both signs of a tiny nudge, and that is not backprop.
TEST(Oracle, A13NudgedTargetHasAnotherLimit) {
  const Nudged nudged(NudgeOf::kTarget);
  const at::Tensor limit = nudged.Gradient(1e-3).add(nudged.Gradient(-1e-3)).mul(0.5);
  nudged.CheckSlopes(limit);
  EXPECT_GT(RelativeDifference(limit, nudged.Backprop()), 0.3);
}

// ---- A14: rows do not mix ----

TEST(Oracle, A14ASampleDoesNotSeeItsBatch) {
  const Problem p(MakeMlp(kSizes, Activation::kTanh), 4, 14);
  const FreeStates together = Relaxed(p, p.output(), 7);
  for (int64_t row : {0, 3}) {
    Problem alone = p;
    alone.input = p.input.narrow(0, row, 1);
    alone.target = p.target.narrow(0, row, 1);
    const FreeStates states = Relaxed(alone, alone.output(), 7);
    for (size_t l = 0; l + 1 < p.network.depth(); ++l) {
      EXPECT_LT(RelativeDifference(states.state(l), together.state(l).narrow(0, row, 1)), 1e-14);
    }
  }
}

// ---- A15: shared parameters count once ----

TEST(Oracle, A15SharedLayers) {
  const auto shared =
      std::make_shared<Dense>(DenseOptions{.in = 5, .out = 5, .activation = Activation::kTanh});
  const auto last = std::make_shared<Dense>(DenseOptions{.in = 5, .out = 3});
  Problem p(*Network::Make({shared, shared, shared, last}), 4, 15);
  EXPECT_EQ(p.network.parameters(), 5 * 5 + 5 + 3 * 5 + 3);
  // The energy of each state once: the sum over layers of what their errors say.
  const FreeStates states = Relaxed(p, p.output(), 3);
  double energy = 0.5 * std::pow(Norm(states.error(3)), 2);
  for (size_t l = 0; l < 3; ++l) energy += 0.5 * std::pow(Norm(states.error(l)), 2);
  EXPECT_NEAR(states.Energy(), energy, 1e-12);
  // The gradient of the one weight is the slope of the energy when it changes in all places.
  const at::Tensor gradient = FullGradient(p, Relaxed(p, p.output(), 2000));
  const at::Tensor direction = RandomTensor({p.network.parameters()}, 16);
  const at::Tensor before = p.weights.flat.clone();
  double up_down[2];
  for (int i : {0, 1}) {
    p.weights.flat.copy_(before).add_(direction, i == 0 ? 1e-5 : -1e-5);
    up_down[i] = Relaxed(p, p.output(), 2000).Energy();
  }
  const double measured = (up_down[0] - up_down[1]) / 2e-5;
  EXPECT_NEAR(measured / gradient.mul(direction).sum().item<double>(), 1, 1e-7);
}

}  // namespace
}  // namespace longhaul::pcn
