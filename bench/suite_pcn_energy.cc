// Oracles about the energy, its equilibrium and its spectrum: A1, A7 to A10, A13 to A15 of
// docs/PCN.md. pcn/rules has them, with their negative twins, as tests.
#include <ATen/ops/cat.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/linalg_eigvalsh.h>
#include <ATen/ops/linalg_inv.h>
#include <ATen/ops/linalg_qr.h>

#include <cmath>
#include <tuple>

#include "bench/pcn_training.h"
#include "pcn/rules/dense.h"
#include "pcn/rules/spectrum.h"
#include "pcn/rules/test_networks.h"

namespace longhaul {
namespace {

using namespace pcn;

const std::vector<int64_t> kSizes = {6, 8, 7, 5, 3};

FreeStates Relaxed(const Problem& p, const Output& output, int sweeps) {
  FreeStates states(p.network, p.weights, p.input, output, {.rate = 0.25});
  for (int t = 0; t < sweeps; ++t) states.Sweep();
  return states;
}

// The worst relative error of energy and errors against S^-1 r.
double LinearClosedForm() {
  constexpr double kLambda = 0.1;
  const Problem p(MakeMlp(kSizes, Activation::kIdentity, /*bias=*/false), 4, 11);
  const FreeStates states = Relaxed(p, p.output(kLambda), 3000);
  at::Tensor s = at::eye(3, at::kDouble).mul(1 / kLambda), above = at::eye(3, at::kDouble);
  std::vector<at::Tensor> product(p.network.depth());
  for (size_t l = p.network.depth(); l-- > 0;) {
    product[l] = above;
    if (l + 1 < p.network.depth()) s = s.add(above.mm(above.t()));
    above = above.mm(p.weights.of_layer[l][0]);
  }
  const at::Tensor r = p.target.sub(p.input.mm(above.t()));
  const at::Tensor q = r.mm(at::linalg_inv(s));
  double worst = std::abs(states.Energy() / (0.5 * r.mul(q).sum().item<double>()) - 1);
  for (size_t l = 0; l < p.network.depth(); ++l) {
    worst = std::max(worst, RelativeDifference(states.error(l), q.mm(product[l])));
  }
  return worst;
}

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
  return at::linalg_eigvalsh(at::cat(rows));
}

// Whether energy falls at every sweep just below 2 / lambda_max and diverges just above: 2 is
// right.
double SpectralBound() {
  const Problem p(MakeMlp(kSizes, Activation::kIdentity, false), 2, 7);
  FreeStates start(p.network, p.weights, p.input, p.output(), {});
  const double largest = Spectrum(start).max().item<double>();
  double right = 0;
  for (double factor : {0.99, 1.01}) {
    FreeStates states(p.network, p.weights, p.input, p.output(), {.rate = factor * 2 / largest});
    const double first = states.Energy();
    double before = first;
    bool fell = true;
    for (int t = 0; t < 3000; ++t) {
      states.Sweep();
      fell = fell && states.Energy() <= before * (1 + 1e-12);
      before = states.Energy();
    }
    right += factor < 1 ? fell : before > 1e6 * first;
  }
  return right;
}

// |slope of the equilibrated energy / weight rule - 1| along one direction.
double EnvelopeError(const Problem& p) {
  const at::Tensor gradient = FullGradient(p, Relaxed(p, p.output(), 2000));
  const at::Tensor direction = RandomTensor({p.network.parameters()}, 9);
  const at::Tensor before = p.weights.flat.clone();
  constexpr double kStep = 1e-5;
  double energy[2];
  for (int i : {0, 1}) {
    p.weights.flat.copy_(before).add_(direction, i == 0 ? kStep : -kStep);
    energy[i] = Relaxed(p, p.output(), 2000).Energy();
  }
  const double slope = (energy[0] - energy[1]) / (2 * kStep);
  return std::abs(slope / gradient.mul(direction).sum().item<double>() - 1);
}

double SharedLayerError() {
  const auto shared =
      std::make_shared<Dense>(DenseOptions{.in = 5, .out = 5, .activation = Activation::kTanh});
  const auto last = std::make_shared<Dense>(DenseOptions{.in = 5, .out = 3});
  return EnvelopeError(Problem(*Network::Make({shared, shared, shared, last}), 4, 15));
}

double OrthogonalSpectrumError() {
  constexpr int64_t kWidth = 3, kLayers = 6;
  const Problem p(MakeMlp(std::vector<int64_t>(kLayers + 1, kWidth), Activation::kIdentity, false),
                  1, 9);
  for (const auto& layer : p.weights.of_layer) {
    layer[0].copy_(std::get<0>(at::linalg_qr(layer[0])));
  }
  FreeStates states(p.network, p.weights, p.input, p.output(), {});
  const at::Tensor found = Spectrum(states);
  double worst = 0;
  for (int64_t i = 0; i < found.numel(); ++i) {
    const double expected = 2 - 2 * std::cos(static_cast<double>(i / kWidth + 1) * M_PI / kLayers);
    worst = std::max(worst, std::abs(found[i].item<double>() - expected));
  }
  return worst;
}

// x = 1, W1 = 2, W2 = 3, y = 1: state 1/2, energy 5/4, gradient (3/2, 1/4), backprop (15, 10).
double ByHandError() {
  Problem p(MakeMlp({1, 1, 1}, Activation::kIdentity, false), 1, 1);
  p.weights.of_layer[0][0].fill_(2);
  p.weights.of_layer[1][0].fill_(3);
  p.input.fill_(1);
  p.target.fill_(1);
  FreeStates states(p.network, p.weights, p.input, p.output(), {.rate = 0.1});
  for (int t = 0; t < 2000; ++t) states.Sweep();
  const at::Tensor gradient = FullGradient(p, states), exact = FullGradient(p, p.Backprop());
  double worst = std::abs(states.Energy() - 1.25);
  for (const auto& [found, expected] :
       {std::pair{states.state(0).item<double>(), 0.5}, std::pair{gradient[0].item<double>(), 1.5},
        std::pair{gradient[1].item<double>(), 0.25}, std::pair{exact[0].item<double>(), 15.0},
        std::pair{exact[1].item<double>(), 10.0}}) {
    worst = std::max(worst, std::abs(found - expected));
  }
  return worst;
}

// Slopes in beta of the gradient's distance from its limit: of one sign, and of both signs' mean.
struct NudgeSlopes {
  double one = 0, both = 0, limit_from_backprop = 0;
};
NudgeSlopes SlopesOf(NudgeOf of) {
  const Problem p(MakeMlp({6, 7, 6, 5, 5, 4, 3}, Activation::kTanh), 4, 13);
  const auto gradient = [&](double beta) {
    Output output = p.output();
    if (of == NudgeOf::kCost) {
      output.weight = beta;
    } else {
      const at::Tensor out = p.network.Predict(p.weights, p.input);
      output.target = out.add(p.target.sub(out), beta);
    }
    return FullGradient(p, Relaxed(p, output, 2500), 1 / beta);
  };
  const at::Tensor exact = FullGradient(p, p.Backprop());
  const at::Tensor limit =
      of == NudgeOf::kCost ? exact : gradient(1e-3).add(gradient(-1e-3)).mul(0.5);
  double one[2], both[2];
  for (int i : {0, 1}) {
    const double beta = i == 0 ? 0.1 : 0.05;
    const at::Tensor up = gradient(beta), down = gradient(-beta);
    one[i] = RelativeDifference(up, limit);
    both[i] = RelativeDifference(up.add(down).mul(0.5), limit);
  }
  return {std::log2(one[0] / one[1]), std::log2(both[0] / both[1]),
          RelativeDifference(limit, exact)};
}

double RowsMix() {
  const Problem p(MakeMlp(kSizes, Activation::kTanh), 4, 14);
  const FreeStates together = Relaxed(p, p.output(), 7);
  Problem alone = p;
  alone.input = p.input.narrow(0, 3, 1);
  alone.target = p.target.narrow(0, 3, 1);
  const FreeStates states = Relaxed(alone, alone.output(), 7);
  double worst = 0;
  for (size_t l = 0; l + 1 < p.network.depth(); ++l) {
    worst = std::max(worst, RelativeDifference(states.state(l), together.state(l).narrow(0, 3, 1)));
  }
  return worst;
}

}  // namespace

std::vector<Result> PcnEnergyOracles() {
  const auto most = [](const std::string& name, double value, double limit,
                       const std::string& note) {
    return PcnGate(PcnResult(name, "relative", value, note), Relation::kAtMost, limit);
  };
  const NudgeSlopes cost = SlopesOf(NudgeOf::kCost), target = SlopesOf(NudgeOf::kTarget);
  const Problem tanh(MakeMlp(kSizes, Activation::kTanh), 4, 8);
  return {
      most("a1_linear_closed_form_error", LinearClosedForm(), 1e-10, "energy and all errors"),
      PcnGate(PcnResult("a7_spectral_bound", "of 2", SpectralBound(),
                        "energy falls at 0.99 and diverges at 1.01 of 2 / lambda_max"),
              Relation::kAtLeast, 2),
      most("a8_envelope_error", EnvelopeError(tanh), 1e-7, "weight rule against the slope"),
      most("a9_orthogonal_spectrum_error", OrthogonalSpectrumError(), 1e-6, "2 - 2 cos(j pi / L)"),
      most("a10_by_hand_error", ByHandError(), 1e-13, "x 1, weights 2 and 3, y 1"),
      most("a13_cost_slope_error", std::abs(cost.one - 1), 0.15, "tends to backprop"),
      most("a13_cost_centred_slope_error", std::abs(cost.both - 2), 0.15, ""),
      most("a13_target_slope_error", std::abs(target.one - 1), 0.15, "tends to its own limit"),
      most("a13_target_centred_slope_error", std::abs(target.both - 2), 0.15, ""),
      PcnGate(PcnResult("a13_target_limit_from_backprop", "relative", target.limit_from_backprop),
              Relation::kAtLeast, 0.3),
      most("a14_rows_mix", RowsMix(), 1e-14, "a row alone against its batch"),
      most("a15_shared_layers_error", SharedLayerError(), 1e-7, "one layer in three places")};
}

}  // namespace longhaul
