// The exact sum of the contributions held so far, and which weights are in it. Contributions are
// read from their logs, so memory is one int64 per element however many there are; it is taken when
// the first one is added (what is loaded before that, a checkpoint, is gone by then).
//
// Owned by one thread. When a log cannot be read halfway through, the sum is spoiled; the next
// Bring makes it anew from the logs it is given.
#pragma once

#include <map>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "reducer/contribution_log.h"

namespace longhaul {

class WeightedSum {
 public:
  struct Part {
    const ContributionLog* log = nullptr;  // sealed
    uint32_t weight = 0;
  };

  explicit WeightedSum(const CodedShape& shape);

  // Adds a contribution that is not in the sum.
  absl::Status Add(const Part& part);
  // Takes a contribution out, if it is in the sum.
  void Remove(const ContributionLog& log);
  // Makes the sum that of exactly these parts. `logs` finds the log of what has to be taken out.
  using Logs = std::map<ContributionId, std::unique_ptr<ContributionLog>>;
  absl::Status Bring(const std::vector<Part>& parts, const Logs& logs);
  void Clear();

  // Empty until the first contribution.
  std::span<const uint64_t> values() const { return values_; }
  size_t MemoryBytes() const { return values_.capacity() * sizeof(uint64_t); }

 private:
  // Contribution -> weight in the sum.
  using Weights = std::map<ContributionId, uint32_t>;

  absl::Status Apply(const ContributionLog& log, uint32_t weight, bool add);

  CodedShape shape_;
  std::vector<uint64_t> values_;
  Weights weights_;
  bool spoiled_ = false;
};

}  // namespace longhaul
