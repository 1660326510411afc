// How much memory a worker needs, before it trains: running out is no way to find a limit.
//
//   parameters x 4 bytes x (weights, gradients, inner optimizer, evaluation, exchange)
//   activations of one micro-batch, as the autograd graph keeps them (counted below)
//   coded contribution and aggregate, and a fixed part for the program
//   what the C library keeps of freed blocks, as measured: two copies and an eighth of activations
//
// All in float32, like the trainer. Measured peaks of longhaul-worker: docs/RESULTS.md. Pure; any
// thread.
#pragma once

#include <cstdint>

namespace longhaul {

enum class InnerOptimizerKind { kAdamW, kMuon, kSgd };

struct MemoryModel {
  uint64_t parameters = 0;
  uint64_t matrix_parameters = 0;  // of hidden matrices: Muon keeps one moment of these, not two
  uint64_t hidden_size = 0;
  uint64_t intermediate_size = 0;
  uint64_t layers = 0;
  uint64_t heads = 0;
  uint64_t key_value_size = 0;  // head size x key-value heads
  uint64_t vocab_size = 0;
  uint64_t sequence_length = 0;
  InnerOptimizerKind optimizer = InnerOptimizerKind::kAdamW;
  uint64_t coded_bytes = 0;  // the larger of contribution and aggregate
};

struct MemoryEstimate {
  uint64_t weights_bytes = 0;
  uint64_t gradients_bytes = 0;
  uint64_t optimizer_bytes = 0;
  uint64_t evaluation_bytes = 0;  // the second set of weights that is evaluated
  uint64_t activations_bytes = 0;
  uint64_t kept_bytes = 0;      // freed, and not given back
  uint64_t exchange_bytes = 0;  // global parameters, outer momentum, residual, parameters as sent
  uint64_t coded_bytes = 0;
  uint64_t program_bytes = 0;
  // Where the model trains: on the host or on a device.
  uint64_t training() const {
    return weights_bytes + gradients_bytes + optimizer_bytes + evaluation_bytes +
           activations_bytes + kept_bytes;
  }
  uint64_t total() const { return training() + exchange_bytes + coded_bytes + program_bytes; }
};

MemoryEstimate EstimateMemory(const MemoryModel& model, uint64_t micro_batch_sequences);

// The largest divisor of `batch_sequences` that fits into `limit_bytes` (0: no limit) as a
// micro-batch; 0 when not even one sequence does.
uint64_t LargestMicroBatch(const MemoryModel& model, uint64_t batch_sequences,
                           uint64_t limit_bytes);

}  // namespace longhaul
