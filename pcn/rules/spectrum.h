// How large a state step may be. The Hessian of the energy in the states bounds the rate: steps
// below 2 / lambda_max converge near the forward pass, larger ones diverge.
//
// Thread rule: one thread per object. LibTorch's exceptions pass through.
#pragma once

#include <cstdint>
#include <vector>

#include "pcn/rules/inference.h"

namespace longhaul::pcn {

// H v for the Hessian of `states`' energy at its present states, one tensor per hidden layer, by a
// central difference of forces: exact in linear networks, of second order in `step` otherwise.
// Leaves `states` as it was, its momentum too.
std::vector<at::Tensor> HessianTimes(FreeStates& states, const std::vector<at::Tensor>& v,
                                     double step);

// The largest eigenvalue over the batch's rows, by power iteration from a start drawn from `seed`;
// 0 for a network without hidden states. Two predictions of the network per iteration, four where
// the eigenvalue of largest magnitude is negative (then a second, shifted iteration follows).
double LargestEigenvalue(FreeStates& states, uint32_t iterations, uint64_t seed);

// Watches rate * lambda_max during training.
class SpectralGuard {
 public:
  struct Options {
    uint64_t every = 200;  // batches between two looks; the first batch is looked at
    uint32_t iterations = 8;
    double event_above = 1;   // rate * lambda_max that is worth an event
    double reduce_above = 2;  // plain descent diverges beyond it
    double safe = 0.5;        // what a reduced rate aims at (0.2 when neighbours are stale)
  };
  struct Look {
    bool looked = false;
    double lambda_max = 0;
    double product = 0;  // rate * lambda_max
    bool event = false;
    double rate_scale = 1;  // what to multiply the rate with: below 1 after reduce_above
  };
  explicit SpectralGuard(const Options& options) : options_(options) {}

  // Before batch number `batch` (from 0).
  Look Check(uint64_t batch, const Network& network, const Weights& weights, const at::Tensor& in,
             const Output& output, double rate);

 private:
  const Options options_;
};

}  // namespace longhaul::pcn
