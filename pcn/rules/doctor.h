// Why does this network not learn under this rule? One batch, every layer: how close its credit is
// to backprop's, whether credit reached it at all, where the energy is, and how near the rate is to
// its limit; then what to change.
//
// Thread rule: one thread. No LibTorch type in this header.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace longhaul::pcn {

// The network, its data and the rule, by name.
struct DoctorRequest {
  std::vector<int64_t> sizes = {784, 128, 128, 128, 10};  // of an MLP; the first is 784
  std::string activation = "leaky_relu";  // identity, relu, leaky_relu, tanh, gelu, hard_tanh
  std::string rule = "spc";
  uint32_t sweeps = 5;
  double rate = 0.03;
  double momentum = 0;
  double output_weight = 1;
  bool cross_entropy = false;
  int64_t rows = 128;
  uint64_t seed = 1;
};

struct LayerDiagnosis {
  bool reached = false;      // some credit arrived
  double credit_cosine = 0;  // of the layer's gradient with backprop's; 0 when nothing arrived
  double size_ratio = 0;     // of the same gradients' norms
  double energy_share = 0;   // of the energy when inference ended
};

struct Diagnosis {
  std::vector<LayerDiagnosis> layers;  // from the input up
  double lambda_max = 0;               // of the energy's Hessian in the states
  double rate_times_lambda = 0;
  bool diverged = false;
  uint32_t suggested_sweeps = 0;  // the fewest that bring every cosine to 0.9; 0: none up to the
                                  // bound of 4 per layer
  double suggested_rate = 0;      // 0.5 / lambda_max
  std::vector<std::string> advice;
};

// InvalidArgument, naming the option, for a rule, activation or size that does not exist or fit.
absl::StatusOr<Diagnosis> Diagnose(const DoctorRequest& request);
// A table with the advice below it.
std::string FormatDiagnosis(const DoctorRequest& request, const Diagnosis& diagnosis);

}  // namespace longhaul::pcn
