#include "pcn/rules/dense.h"

#include <ATen/ops/addmm.h>
#include <ATen/ops/mm.h>

#include <cmath>

#include "common/check.h"

namespace longhaul::pcn {
namespace {

at::Tensor Scaled(const at::Tensor& x, double scale) { return scale == 1 ? x : x.mul(scale); }

}  // namespace

Dense::Dense(const DenseOptions& options) : options_(options) {
  LONGHAUL_CHECK(options.in > 0 && options.out > 0, "a dense layer without features");
  LONGHAUL_CHECK(!options.skip || options.in == options.out, "a skip between unequal widths");
  if (options_.deviation < 0) {
    options_.deviation = 1 / std::sqrt(3.0 * static_cast<double>(options_.in));
  }
}

std::vector<ParameterSpec> Dense::Parameters() const {
  std::vector<ParameterSpec> specs = {{"weight", {options_.out, options_.in}, options_.deviation}};
  if (options_.bias) specs.push_back({"bias", {options_.out}, options_.deviation});
  return specs;
}

// Tape: the input as it came, what W was multiplied with, W's result, mu without scale and skip.
at::Tensor Dense::Predict(LayerWeights weights, const at::Tensor& in, Tape* tape) const {
  const at::Tensor x = in.reshape({-1, options_.in});
  const at::Tensor used = options_.activation_inside ? Activate(options_.activation, x) : x;
  const at::Tensor transposed = weights[0].t();
  const at::Tensor a =
      options_.bias ? at::addmm(weights[1], used, transposed) : at::mm(used, transposed);
  const at::Tensor y = options_.activation_inside ? a : Activate(options_.activation, a);
  if (tape != nullptr) tape->saved = {in, used, a, y};
  const at::Tensor mu = Scaled(y, options_.scale);
  return options_.skip ? mu.add(x) : mu;
}

at::Tensor Dense::Credit(LayerWeights weights, const Tape& tape, const at::Tensor& error,
                         bool want_input, LayerWeights gradient) const {
  const at::Tensor &in = tape.saved[0], &used = tape.saved[1];
  at::Tensor z = Scaled(error, options_.scale);
  if (!options_.activation_inside) {
    z = ActivationCredit(options_.activation, z, tape.saved[2], tape.saved[3]);
  }
  if (!gradient.empty()) {
    gradient[0].add_(at::mm(z.t(), used));
    if (options_.bias) gradient[1].add_(z.sum(0));
  }
  if (!want_input) return {};
  at::Tensor credit = at::mm(z, weights[0]);
  if (options_.activation_inside) {
    credit = ActivationCredit(options_.activation, credit, in.reshape({-1, options_.in}), used);
  }
  if (options_.skip) credit = credit.add(error);
  return credit.view_as(in);
}

}  // namespace longhaul::pcn
