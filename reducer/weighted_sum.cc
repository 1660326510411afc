#include "reducer/weighted_sum.h"

#include <algorithm>

#include "common/check.h"
#include "common/status_macros.h"
#include "sync/exact_sum.h"

namespace longhaul {

WeightedSum::WeightedSum(const CodedShape& shape) : shape_(shape) {}

absl::Status WeightedSum::Apply(const ContributionLog& log, uint32_t weight, bool add) {
  values_.resize(shape_.elements, 0);
  const std::span<uint64_t> sum(values_);
  absl::Status status = log.ForEach([&](uint32_t chunk, std::span<const float> values) {
    const std::span<uint64_t> part = sum.subspan(shape_.First(chunk), values.size());
    add ? AddWeighted(values, weight, part) : SubtractWeighted(values, weight, part);
  });
  if (!status.ok()) spoiled_ = true;
  return status;
}

absl::Status WeightedSum::Add(const Part& part) {
  if (spoiled_) return absl::OkStatus();  // Bring will add it
  RETURN_IF_ERROR(Apply(*part.log, part.weight, /*add=*/true));
  const bool added = weights_.emplace(part.log->info().id.contribution, part.weight).second;
  LONGHAUL_CHECK(added, "a contribution was added twice");
  return absl::OkStatus();
}

void WeightedSum::Remove(const ContributionLog& log) {
  const auto it = weights_.find(log.info().id.contribution);
  if (spoiled_ || it == weights_.end()) return;
  // A failure is kept in spoiled_.
  Apply(log, it->second, /*add=*/false).IgnoreError();
  weights_.erase(it);
}

absl::Status WeightedSum::Bring(const std::vector<Part>& parts, const Logs& logs) {
  Weights wanted;
  for (const Part& part : parts) wanted[part.log->info().id.contribution] = part.weight;
  const Weights before = weights_;
  for (const auto& [id, weight] : before) {
    const auto it = wanted.find(id);
    if (it == wanted.end() || it->second != weight) Remove(*logs.at(id));
  }
  if (spoiled_) Clear();
  for (const Part& part : parts) {
    if (!weights_.contains(part.log->info().id.contribution)) RETURN_IF_ERROR(Add(part));
  }
  return absl::OkStatus();
}

void WeightedSum::Clear() {
  std::fill(values_.begin(), values_.end(), 0);
  weights_.clear();
  spoiled_ = false;
}

}  // namespace longhaul
