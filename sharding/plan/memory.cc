#include "sharding/plan/memory.h"

namespace longhaul {
namespace {

constexpr uint64_t kFloat = 4;
constexpr uint64_t kExchangeCopies = 4;
// Of freed blocks: measured with models of 1 to 29 million parameters and batches of 8 and 32.
constexpr uint64_t kKeptCopies = 2;
constexpr uint64_t kKeptPartOfActivations = 8;
// Code and libraries of a LibTorch process with its thread pool, sockets and queues; measured.
constexpr uint64_t kProgramBytes = 165'000'000;

// What is kept for the backward pass, per token: a layer keeps its two inputs and their norms, q,
// k, v and the mixed values (twice: as they are and in the order of the output matrix), and four
// vectors of the gated unit. Flash attention keeps a number per head instead of the scores. The
// head keeps its input and norm, and three vectors over the vocabulary (logits, log-probabilities,
// gradient). While one layer runs backwards it holds as much again as gradients.
uint64_t ActivationsPerToken(const MemoryModel& m) {
  const uint64_t layer =
      7 * m.hidden_size + 2 * m.key_value_size + 4 * m.intermediate_size + m.heads;
  const uint64_t head = 2 * m.hidden_size + 3 * m.vocab_size;
  return kFloat * (m.layers * layer + layer + head);
}

uint64_t OptimizerBytes(const MemoryModel& m) {
  switch (m.optimizer) {
    case InnerOptimizerKind::kAdamW:
      return 2 * kFloat * m.parameters;
    case InnerOptimizerKind::kMuon:
      return kFloat * m.matrix_parameters + 2 * kFloat * (m.parameters - m.matrix_parameters);
    case InnerOptimizerKind::kSgd:
      break;
  }
  return 0;
}

}  // namespace

MemoryEstimate EstimateMemory(const MemoryModel& m, uint64_t micro_batch_sequences) {
  MemoryEstimate e;
  e.weights_bytes = kFloat * m.parameters;
  e.gradients_bytes = kFloat * m.parameters;
  e.optimizer_bytes = OptimizerBytes(m);
  e.evaluation_bytes = kFloat * m.parameters;
  e.activations_bytes = micro_batch_sequences * m.sequence_length * ActivationsPerToken(m);
  e.kept_bytes = kKeptCopies * kFloat * m.parameters + e.activations_bytes / kKeptPartOfActivations;
  e.exchange_bytes = kExchangeCopies * kFloat * m.parameters;
  e.coded_bytes = m.coded_bytes;
  e.program_bytes = kProgramBytes;
  return e;
}

uint64_t LargestMicroBatch(const MemoryModel& model, uint64_t batch_sequences,
                           uint64_t limit_bytes) {
  for (uint64_t parts = 1; parts <= batch_sequences; ++parts) {
    if (batch_sequences % parts != 0) continue;
    const uint64_t micro = batch_sequences / parts;
    if (limit_bytes == 0 || EstimateMemory(model, micro).total() <= limit_bytes) return micro;
  }
  return 0;
}

}  // namespace longhaul
