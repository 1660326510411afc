// The equalities that everything else rests on, measured; pcn/rules has them all as tests, A11 (a
// faulty mailbox) only there.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/zeros_like.h>

#include <cmath>

#include "bench/pcn_training.h"
#include "common/check.h"
#include "common/rng.h"
#include "pcn/relay/staleness.h"
#include "pcn/rules/builders.h"
#include "pcn/rules/relay_world.h"

namespace longhaul {
namespace {

using namespace pcn;

at::Tensor Values(int64_t rows, int64_t columns, uint64_t seed, at::ScalarType type) {
  const at::Tensor out = at::empty({rows, columns}, at::kDouble);
  double* data = out.mutable_data_ptr<double>();
  for (int64_t i = 0; i < out.numel(); ++i) {
    data[i] = static_cast<double>(Draw(seed, {static_cast<uint64_t>(i)}) >> 11) * 0x1p-52 - 1;
  }
  return out.to(type);
}

double Norm(const at::Tensor& x) { return at::linalg_vector_norm(x).item<double>(); }
double Relative(const at::Tensor& a, const at::Tensor& b) { return Norm(a.sub(b)) / Norm(b); }

// A tanh network of six layers in double precision, one batch, and backprop's errors.
struct Chain {
  Network network = MakeMlp({6, 8, 7, 5, 4, 4, 3}, Activation::kTanh);
  Weights weights = network.View(network.InitialParameters(6, at::kDouble).mul(2));
  at::Tensor input = Values(4, 6, 7, at::kDouble), target = Values(4, 3, 8, at::kDouble);
  AnchoredCredit exact = [this] {
    AnchoredCredit credit(network, weights, input, output());
    credit.Solve();
    return credit;
  }();

  Output output(double weight = 1) const { return {OutputLoss::kSquared, target, weight}; }
  at::Tensor Gradient(const Inference& inference, double scale) const {
    const Weights gradient = network.View(at::zeros_like(weights.flat));
    for (size_t l = 0; l < network.depth(); ++l) inference.AddLayerGradient(l, scale, gradient);
    return gradient.flat;
  }
  double WorstError(const Inference& inference, double scale = 1) const {
    double worst = 0;
    for (size_t l = 0; l < network.depth(); ++l) {
      worst = std::max(worst, Relative(inference.error(l).mul(scale), exact.error(l)));
    }
    return worst;
  }
};

double SlopeInOutputWeight(const Chain& c) {
  const at::Tensor exact = c.Gradient(c.exact, 1);
  double difference[2];
  for (int i : {0, 1}) {
    const double weight = i == 0 ? 1e-3 : 1e-4;
    FreeStates states(c.network, c.weights, c.input, c.output(weight), {.rate = 0.1});
    for (int t = 0; t < 4000; ++t) states.Sweep();
    difference[i] = Relative(c.Gradient(states, 1 / weight), exact);
  }
  return std::log10(difference[0] / difference[1]);
}

// Worst relative error of the credit that arrives at each sweep, at rate 0.1 or (Z-IL) 1.
double ArrivalError(const Chain& c, double rate) {
  FreeStates states(c.network, c.weights, c.input, c.output(), {.rate = rate});
  double worst = 0;
  for (size_t k = 1; k < c.network.depth(); ++k) {
    states.Sweep();
    const size_t l = c.network.depth() - 1 - k;
    const at::Tensor scaled = states.error(l).mul(std::pow(rate, -static_cast<double>(k)));
    worst = std::max(worst, Relative(scaled, c.exact.error(l)));
  }
  return worst;
}

double FixedPredictionError(const Chain& c) {
  AnchoredCredit credit(c.network, c.weights, c.input, c.output());
  for (size_t t = 1; t < c.network.depth(); ++t) credit.Sweep(1);
  return c.WorstError(credit);
}

double FirstErrorStepError(const Chain& c) {
  FreeErrors errors(c.network, c.weights, c.input, c.output());
  errors.Sweep(0.3);
  double worst = 0;
  for (size_t l = 0; l + 1 < c.network.depth(); ++l) {
    worst = std::max(worst, Relative(errors.error(l), c.exact.error(l).mul(0.3)));
  }
  return worst;
}

// Weights after 100 synchronous Relay updates of `blocks` blocks.
at::Tensor RelayWeights(size_t blocks) {
  const Network network = MakeMlp({12, 16, 16, 16, 16, 16, 16, 16, 5}, Activation::kTanh);
  RelayOptions options;
  options.synchronous = true;
  options.first_layers.clear();
  for (size_t k = 0; k < blocks; ++k) options.first_layers.push_back(8 * k / blocks);
  auto world = RelayWorld::Make(network, network.InitialParameters(1, at::kFloat), options);
  LONGHAUL_CHECK(world.ok(), "blocks of a chain");
  (*world)->Run(100, [](uint64_t m) {
    return RelayWorld::MicroBatch{Values(8, 12, 10 + m, at::kFloat),
                                  Values(8, 5, 5000 + m, at::kFloat)};
  });
  return (*world)->parameters();
}

// Largest |theta| at the end of theta <- theta - a theta(t - delay).
double DelayedSize(double rate, size_t delay) {
  std::vector<double> theta(delay + 1, 1.0);
  const size_t steps = 4000 * (delay + 1);
  for (size_t t = 0; t < steps; ++t) {
    theta.push_back(theta.back() - rate * theta[theta.size() - 1 - delay]);
  }
  double size = 0;
  for (size_t i = theta.size() - 2 * delay - 3; i < theta.size(); ++i) {
    size = std::max(size, std::abs(theta[i]));
  }
  return size;
}

}  // namespace

std::vector<Result> RunPcnOracles(const PcnPlan&) {
  at::set_num_threads(1);
  const Chain c;
  auto error = [](const std::string& name, double value, double most, const std::string& note) {
    return PcnGate(PcnResult(name, "relative", value, note), Relation::kAtMost, most);
  };
  std::vector<Result> results = {
      error("a2_slope_error", std::abs(SlopeInOutputWeight(c) - 1), 0.05,
            "equilibrium credit / lambda tends to backprop with slope 1"),
      error("a3_zil_error", ArrivalError(c, 1), 1e-12, "states at rate 1, at first arrival"),
      error("a4_fixed_predictions_error", FixedPredictionError(c), 1e-12, "depth - 1 sweeps"),
      error("a5_first_epc_step_error", FirstErrorStepError(c), 1e-12, "-rate x backprop"),
      error("a6_first_arrival_error", ArrivalError(c, 0.1), 1e-10, "credit / rate^k")};
  for (Result& result : PcnEnergyOracles()) results.push_back(std::move(result));
  const at::Tensor one = RelayWeights(1);
  double different = 0;
  for (size_t blocks : {2, 4, 8}) different += RelayWeights(blocks).equal(one) ? 0 : 1;
  results.push_back(PcnGate(PcnResult("a12_cuts_that_differ", "count", different,
                                      "weights after 100 synchronous updates of 2, 4, 8 blocks "
                                      "against 1, bit for bit"),
                            Relation::kAtMost, 0));
  double wrong = 0;
  for (uint32_t delay : {0u, 1u, 6u, 18u, 54u}) {
    const double limit = DelayedDescentLimit(delay);
    wrong += DelayedSize(0.98 * limit, delay) < 1 && DelayedSize(1.02 * limit, delay) > 1 ? 0 : 1;
  }
  results.push_back(PcnGate(PcnResult("delay_limits_that_fail", "count", wrong,
                                      "theta <- theta - a theta(t - d) at 0.98 and 1.02 of "
                                      "2 sin(pi / (4 d + 2))"),
                            Relation::kAtMost, 0));
  return results;
}

}  // namespace longhaul
