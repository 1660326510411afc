// From the contributions held so far to their mean. The exact sum grows as they arrive and is
// brought to the list that is closed; contributions are read from their logs, so memory is one
// uint64 per element however many there are (and a uint32 for the contributor mean); it is taken
// when the first one is added (what is loaded before that, a checkpoint, is gone by then).
//
// The rules look at whole tensors of the fragment. Their answers (weights, divisor, gains) are
// integers, functions of the list, its weights and the contributions alone.
//
// Owned by one thread. When a log cannot be read halfway through, the sum is spoiled; the next
// Bring makes it anew from the logs it is given.
#pragma once

#include <map>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "compression/codec.h"
#include "proto/run_config.h"
#include "reducer/contribution_log.h"

namespace longhaul {

struct AggregationRules {
  bool contributor_mean = false;  // sync/contributor_mean.h; does not go with a norm cap
  bool norm_cap = false;          // sync/norm_rules.h; the divisor is the sum of the weights
  bool restore_norm = false;
  auto operator<=>(const AggregationRules&) const = default;
};

AggregationRules RulesOf(const SyncSection& sync);

class Aggregator {
 public:
  struct Part {
    const ContributionLog* log = nullptr;  // sealed
    uint32_t weight = 0;
  };

  // `layout` covers the fragment; empty: one tensor.
  Aggregator(const CodedShape& shape, std::vector<TensorSpan> layout, AggregationRules rules);

  // Adds a contribution that is not there yet.
  absl::Status Add(const Part& part);
  // Takes a contribution out, if it is there.
  void Remove(const ContributionLog& log);
  // Makes ready for the mean of exactly these parts. `logs` finds the log of what has to be taken
  // out.
  using Logs = std::map<ContributionId, std::unique_ptr<ContributionLog>>;
  absl::Status Bring(const std::vector<Part>& parts, uint64_t divisor, const Logs& logs);
  // Values [first, first + out.size()) of the mean, after Bring.
  void Mean(uint64_t first, std::span<float> out) const;
  void Clear();

  size_t MemoryBytes() const;

 private:
  using Weights = std::vector<uint32_t>;  // in each tensor

  absl::Status Apply(const ContributionLog& log, const Weights& weights, bool add);
  absl::Status Measure(const ContributionLog& log);
  absl::Status Insert(const ContributionLog& log, const Weights& weights);
  std::vector<SquaredSum> NormsIn(size_t tensor, const std::vector<Part>& parts) const;
  std::map<ContributionId, Weights> Wanted(const std::vector<Part>& parts, uint64_t divisor);
  void FindGains(const std::vector<Part>& parts);

  CodedShape shape_;
  std::vector<TensorSpan> tensors_;
  AggregationRules rules_;
  std::vector<uint64_t> sum_;                                // empty until the first contribution
  std::vector<uint32_t> counts_;                             // contributor mean only
  std::map<ContributionId, Weights> weights_;                // in the sum
  std::map<ContributionId, std::vector<SquaredSum>> norms_;  // by tensor, where rules need them
  bool spoiled_ = false;
  // Of the latest Bring.
  uint64_t divisor_ = 1;
  std::vector<uint32_t> gains_;  // by tensor; empty: none
};

}  // namespace longhaul
