// One fragment of the simulated run: what workers send, what reducers make of it, and what every
// replica applies. Only the product's own functions of sync/ touch the numbers.
//
// For each round: Send of every worker, Close, Apply of every worker, Install. One thread.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/learning_method.h"
#include "bench/span_coder.h"

namespace longhaul {

class LearningExchange {
 public:
  // Sums over everything that was sent so far.
  struct Totals {
    CodedSize up, down;   // of one worker
    double cosine = 0;    // of the pairs' mean, summed over rounds
    double residual = 0;  // norm over the pseudo-gradient's, mean over workers, summed over rounds
    uint64_t rounds = 0;
  };

  // `initial` are the fragment's parameters at version 0, `tensors` its tensors.
  static absl::StatusOr<std::unique_ptr<LearningExchange>> Make(const LearningMethod& method,
                                                                uint32_t workers,
                                                                std::vector<TensorSpan> tensors,
                                                                std::vector<float> initial);

  // Worker `worker` codes and sends what it has in `local`. InvalidArgument: not finite.
  absl::Status Send(uint32_t worker, std::span<const float> local);
  absl::Status Close();
  // Brings the worker's parameters to the new version, with what it did since it sent.
  void Apply(uint32_t worker, std::span<float> local) const;
  void Install();

  const std::vector<float>& global() const { return parameters_; }
  const Totals& totals() const { return totals_; }
  // Two replicas, fed in opposite order, hold the same parameters and momentum bit by bit.
  bool SameState() const;

 private:
  struct Worker {
    std::vector<float> residual, sent, decoded, delta;
  };
  struct Aggregate {
    std::vector<float> decoded;
    std::vector<float> residual;
    CodedSize size;
  };
  LearningExchange(const LearningMethod& method, std::vector<TensorSpan> tensors,
                   std::vector<float> initial);

  bool Included(uint32_t worker) const;
  std::vector<uint32_t> IncludeList() const;
  // The mean of one tensor over `list`, with its gain.
  void Mean(const TensorSpan& tensor, const std::vector<uint32_t>& list,
            std::span<float> mean) const;
  absl::StatusOr<Aggregate> Reduce(const std::vector<uint32_t>& list) const;
  void Count();

  const LearningMethod method_;
  const std::vector<TensorSpan> tensors_;
  std::unique_ptr<SpanCoder> up_, down_;
  std::vector<Worker> workers_;
  std::vector<float> parameters_, momentum_;  // current version
  std::vector<float> follower_, follower_momentum_;
  std::vector<float> next_, next_momentum_;  // prepared by Close; else the current version
  std::vector<float> reducer_residual_;
  Totals totals_;
};

}  // namespace longhaul
