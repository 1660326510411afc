#include "pcn/rules/spectrum.h"

#include <ATen/ops/empty_like.h>

#include <cmath>

#include "common/rng.h"

namespace longhaul::pcn {
namespace {

double Norm(const std::vector<at::Tensor>& v) {
  double squares = 0;
  for (const at::Tensor& part : v) squares += part.square().sum().item<double>();
  return std::sqrt(squares);
}

double Dot(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i].mul(b[i]).sum().item<double>();
  return sum;
}

// Forces of all hidden layers at base + step * v.
std::vector<at::Tensor> ForcesAt(FreeStates& states, const std::vector<at::Tensor>& base,
                                 const std::vector<at::Tensor>& v, double step) {
  for (size_t l = 0; l < base.size(); ++l) states.SetState(l, base[l].add(v[l], step));
  states.Refresh();
  std::vector<at::Tensor> forces;
  for (size_t l = 0; l < base.size(); ++l) forces.push_back(states.Force(l));
  return forces;
}

at::Tensor UniformLike(const at::Tensor& like, uint64_t seed, uint64_t layer) {
  at::Tensor out = at::empty_like(like, at::TensorOptions(at::kDouble)).contiguous();
  double* values = out.mutable_data_ptr<double>();
  for (int64_t i = 0; i < out.numel(); ++i) {
    const uint64_t draw = Draw(seed, {layer, static_cast<uint64_t>(i)});
    values[i] = static_cast<double>(draw >> 11) * 0x1p-52 - 1;
  }
  return out.to(like.scalar_type());
}

// v' H v for the unit vector v that power iteration with H - shift I comes to.
double PowerIteration(FreeStates& states, uint32_t iterations, uint64_t seed, double shift) {
  const size_t hidden = states.depth() - 1;
  if (hidden == 0) return 0;
  std::vector<at::Tensor> v, base;
  for (size_t l = 0; l < hidden; ++l) {
    base.push_back(states.state(l));
    v.push_back(UniformLike(base[l], seed, l));
  }
  // The difference balances rounding against curvature: a fraction of the states' size.
  const bool is_double = base[0].scalar_type() == at::kDouble;
  const double step = (is_double ? 1e-5 : 1e-2) * std::max(1.0, Norm(base));
  double eigenvalue = 0;
  for (uint32_t i = 0; i < iterations; ++i) {
    const double norm = Norm(v);
    if (!(norm > 0) || !std::isfinite(norm)) return norm;
    for (at::Tensor& part : v) part = part.mul(1 / norm);
    std::vector<at::Tensor> product = HessianTimes(states, v, step);
    eigenvalue = Dot(v, product);
    for (size_t l = 0; l < hidden; ++l) product[l] = product[l].sub(v[l], shift);
    v = std::move(product);
  }
  return eigenvalue;
}

}  // namespace

std::vector<at::Tensor> HessianTimes(FreeStates& states, const std::vector<at::Tensor>& v,
                                     double step) {
  std::vector<at::Tensor> base;
  for (size_t l = 0; l < v.size(); ++l) base.push_back(states.state(l));
  const std::vector<at::Tensor> up = ForcesAt(states, base, v, step);
  std::vector<at::Tensor> product = ForcesAt(states, base, v, -step);
  for (size_t l = 0; l < v.size(); ++l) {
    product[l] = product[l].sub(up[l]).mul(1 / (2 * step));  // a force is minus the gradient
    states.SetState(l, base[l]);
  }
  states.Refresh();
  return product;
}

double LargestEigenvalue(FreeStates& states, uint32_t iterations, uint64_t seed) {
  const double dominant = PowerIteration(states, iterations, seed, 0);
  // Bent layers can make the Hessian indefinite: then it takes a shift that leaves no eigenvalue
  // below zero to see the largest one.
  return dominant < 0 ? PowerIteration(states, iterations, seed, dominant) : dominant;
}

SpectralGuard::Look SpectralGuard::Check(uint64_t batch, const Network& network,
                                         const Weights& weights, const at::Tensor& in,
                                         const Output& output, double rate) {
  Look look;
  if (batch % options_.every != 0) return look;
  FreeStates states(network, weights, in, output, {});
  look.looked = true;
  look.lambda_max = LargestEigenvalue(states, options_.iterations, batch);
  look.product = rate * look.lambda_max;
  look.event = !(look.product <= options_.event_above);  // also when not finite
  if (!(look.product <= options_.reduce_above)) {
    look.rate_scale = std::isfinite(look.product) ? options_.safe / look.product : options_.safe;
  }
  return look;
}

}  // namespace longhaul::pcn
