#include "pcn/rules/doctor.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "pcn/rules/builders.h"
#include "pcn/rules/digits.h"
#include "pcn/rules/rule.h"
#include "pcn/rules/spectrum.h"

namespace longhaul::pcn {
namespace {

constexpr double kGoodCosine = 0.9;
constexpr uint32_t kMaxSweepsPerLayer = 4;
constexpr uint32_t kIterations = 30;  // of the power iteration
constexpr int64_t kMaxRows = 4096;
constexpr int64_t kMaxWidth = 65536;
constexpr size_t kMaxSizes = 256;

// One batch in double precision, so that small credits are not taken for none.
struct Patient {
  Network network;
  Weights weights;
  OutputLoss loss;
  Batch batch;
};

absl::StatusOr<Patient> Admit(const DoctorRequest& request) {
  if (request.sizes.size() < 2 || request.sizes.size() > kMaxSizes ||
      request.sizes[0] != kDigitSide * kDigitSide) {
    return absl::InvalidArgumentError("sizes: 784 first, then every layer's, 256 at most");
  }
  for (int64_t size : request.sizes) {
    if (size < 1 || size > kMaxWidth) {
      return absl::InvalidArgumentError(absl::StrCat("sizes: ", size, " is no width"));
    }
  }
  if (request.sizes.back() < 10) {
    return absl::InvalidArgumentError("sizes: the digits have 10 classes");
  }
  if (request.rows < 1 || request.rows > kMaxRows) {
    return absl::InvalidArgumentError(absl::StrCat("rows: 1 to ", kMaxRows));
  }
  ASSIGN_OR_RETURN(Activation activation, ParseActivation(request.activation));
  Network network = MakeMlp(request.sizes, activation);
  Weights weights = network.View(network.InitialParameters(request.seed, at::kDouble));
  ImageSet digits = GeneratedDigits(request.rows, request.seed);
  Batch batch;
  batch.input = at::from_blob(digits.values.data(), {request.rows, digits.pixels}, at::kFloat)
                    .to(at::kDouble);
  ASSIGN_OR_RETURN(batch.target, OneHot(digits.labels, request.sizes.back(), at::kDouble));
  const OutputLoss loss = request.cross_entropy ? OutputLoss::kCrossEntropy : OutputLoss::kSquared;
  return Patient{std::move(network), std::move(weights), loss, std::move(batch)};
}

// The gradient that the rule gives, weights unmoved, with each layer's share in it.
struct Response {
  Weights gradient;
  bool diverged = false;
};

Response Ask(const Patient& p, const RuleOptions& options) {
  Response response{p.network.View(at::zeros_like(p.weights.flat)), false};
  CreditRule rule = *CreditRule::Make(options, p.loss);
  response.diverged =
      rule.RunBatch(p.network, p.weights, p.batch, response.gradient, [] {}).diverged;
  return response;
}

double Norm(const at::Tensor& x) { return at::linalg_vector_norm(x).item<double>(); }

LayerDiagnosis Compare(const std::vector<at::Tensor>& found, const std::vector<at::Tensor>& exact) {
  double dot = 0, found_squares = 0, exact_squares = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    dot += found[i].mul(exact[i]).sum().item<double>();
    found_squares += std::pow(Norm(found[i]), 2);
    exact_squares += std::pow(Norm(exact[i]), 2);
  }
  LayerDiagnosis layer;
  layer.reached = found_squares > 0 && std::isfinite(found_squares);
  if (!layer.reached || !(exact_squares > 0)) return layer;
  layer.credit_cosine = dot / std::sqrt(found_squares * exact_squares);
  layer.size_ratio = std::sqrt(found_squares / exact_squares);
  return layer;
}

std::vector<LayerDiagnosis> CompareLayers(const Weights& found, const Weights& exact) {
  std::vector<LayerDiagnosis> layers;
  for (size_t l = 0; l < found.of_layer.size(); ++l) {
    layers.push_back(Compare(found.of_layer[l], exact.of_layer[l]));
  }
  return layers;
}

double WorstCosine(const std::vector<LayerDiagnosis>& layers) {
  double worst = 1;
  for (const LayerDiagnosis& layer : layers) worst = std::min(worst, layer.credit_cosine);
  return worst;
}

// Of free states after the rule's sweeps: where the energy is.
void FillEnergy(const Patient& p, const RuleOptions& o, std::vector<LayerDiagnosis>& layers) {
  FreeStates states(p.network, p.weights, p.batch.input, {p.loss, p.batch.target, o.output_weight},
                    {o.rate, o.momentum});
  for (uint32_t t = 0; t < o.sweeps; ++t) states.Sweep();
  const double all = states.Energy();
  for (size_t l = 0; l < layers.size(); ++l) {
    layers[l].energy_share = all > 0 ? states.LayerEnergy(l) / all : 0;
  }
}

bool IsFree(Rule rule) { return rule == Rule::kSpc || rule == Rule::kIpc || rule == Rule::kPcAlm; }

uint32_t FewestSweeps(const Patient& p, RuleOptions options, const Weights& exact) {
  const uint32_t most = kMaxSweepsPerLayer * static_cast<uint32_t>(p.network.depth());
  for (options.sweeps = 1; options.sweeps <= most; ++options.sweeps) {
    const Response response = Ask(p, options);
    if (response.diverged) return 0;
    if (WorstCosine(CompareLayers(response.gradient, exact)) >= kGoodCosine) return options.sweeps;
  }
  return 0;
}

void Advise(const RuleOptions& options, Diagnosis& d) {
  size_t unreached = 0;
  for (const LayerDiagnosis& layer : d.layers) unreached += layer.reached ? 0 : 1;
  if (unreached > 0) {
    d.advice.push_back(absl::StrCat("credit did not reach the lowest ", unreached,
                                    " layers: it moves one layer per sweep"));
  }
  if (IsFree(options.rule) && d.rate_times_lambda > 1) {
    d.advice.push_back(
        absl::StrCat("rate x lambda_max is above 1: try a rate of ", d.suggested_rate));
  }
  if (d.diverged) d.advice.push_back("inference diverged: the batch would not have been used");
  const double worst = WorstCosine(d.layers);
  if (worst < kGoodCosine && d.suggested_sweeps > 0) {
    d.advice.push_back(absl::StrCat("sweeps = ", d.suggested_sweeps,
                                    " brings every layer's credit within 0.9 of backprop's"));
  } else if (worst < kGoodCosine) {
    d.advice.push_back(
        "no number of sweeps helps here: rule = \"zil\" is exact at backprop's "
        "price, \"pcalm\" reaches deeper");
  }
  if (worst > 0.999 && IsFree(options.rule)) {
    d.advice.push_back("this is backprop's direction in every layer: \"zil\" gives it cheaper");
  }
}

}  // namespace

absl::StatusOr<Diagnosis> Diagnose(const DoctorRequest& request) {
  ASSIGN_OR_RETURN(Patient patient, Admit(request));
  RuleOptions options{.sweeps = request.sweeps, .rate = request.rate};
  ASSIGN_OR_RETURN(options.rule, ParseRule(request.rule));
  options.momentum = request.momentum;
  options.output_weight = request.output_weight;
  RETURN_IF_ERROR(Validate(options, patient.loss));
  const Response exact = Ask(patient, {.rule = Rule::kBackprop});
  const Response found = Ask(patient, options);
  Diagnosis d;
  d.layers = CompareLayers(found.gradient, exact.gradient);
  d.diverged = found.diverged;
  FreeStates states(patient.network, patient.weights, patient.batch.input,
                    {patient.loss, patient.batch.target, options.output_weight}, {});
  d.lambda_max = LargestEigenvalue(states, kIterations, request.seed);
  d.rate_times_lambda = options.rate * d.lambda_max;
  d.suggested_rate = d.lambda_max > 0 ? 0.5 / d.lambda_max : 0;
  if (IsFree(options.rule)) FillEnergy(patient, options, d.layers);
  d.suggested_sweeps = FewestSweeps(patient, options, exact.gradient);
  Advise(options, d);
  return d;
}

std::string FormatDiagnosis(const DoctorRequest& request, const Diagnosis& d) {
  std::string text = absl::StrCat("rule ", request.rule, ", ", request.sweeps, " sweeps at rate ",
                                  request.rate, "\n\n");
  text += "layer  reached  cosine with backprop  size  energy share\n";
  for (size_t l = 0; l < d.layers.size(); ++l) {
    const LayerDiagnosis& layer = d.layers[l];
    char line[100];
    std::snprintf(line, sizeof line, "%5zu  %-7s  %20.4f  %4.0e  %11.1f%%\n", l,
                  layer.reached ? "yes" : "no", layer.credit_cosine, layer.size_ratio,
                  100 * layer.energy_share);
    text += line;
  }
  char line[100];
  std::snprintf(line, sizeof line, "\nlambda_max %.3g, rate x lambda_max %.3g\n", d.lambda_max,
                d.rate_times_lambda);
  text += line;
  for (const std::string& advice : d.advice) text += "- " + advice + "\n";
  return text;
}

}  // namespace longhaul::pcn
