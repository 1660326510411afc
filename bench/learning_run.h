// One simulated training run: M workers in one process and one thread, each with its own parameters
// and inner optimizer (LlamaTrainer), joined by the product's own arithmetic: schedule, coding,
// error feedback, exact sums, outer step, rebase. Only the network is missing.
//
// What reducers publish is computed twice, the second time with the contributions in reverse order,
// and applied by a second replica; the two must hold the same state hash at the end.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "bench/learning_method.h"
#include "bench/learning_text.h"
#include "bench/span_coder.h"

namespace longhaul {

struct LearningOutcome {
  double loss = 0;  // of the global model on the validation part, nats per token, at the end
  // The same for the targets of each tenth of the vocabulary, the most frequent tokens first; in
  // tiers with words only. None where there is no such target.
  std::vector<std::optional<double>> deciles;
  std::vector<std::pair<uint32_t, double>> curve;  // the same after other steps, on request
  std::vector<double> first_losses;                // of worker 0's first inner steps
  CodedSize up, down;                              // bits per parameter and inner step, one worker
  double cosine = 0;       // between the workers' pseudo-gradients, mean over pairs and rounds
  double residual = 0;     // mean of the norms of a worker's residual over its pseudo-gradient
  bool same_state = true;  // replicas agree bit for bit
};

struct LearningRequest {
  LearningTier tier;
  LearningMethod method;
  uint64_t seed = 1;
  uint32_t curve_every = 0;  // steps; 0: no curve
};

// InvalidArgument when the method cannot be run in this tier; Internal when LibTorch fails or a
// loss is not finite. Everything happens in the calling thread.
absl::StatusOr<LearningOutcome> RunLearning(const LearningRequest& request,
                                            const LearningText& text);

}  // namespace longhaul
