#include "reducer/aggregator.h"

#include <algorithm>

#include "common/check.h"
#include "common/status_macros.h"
#include "sync/contributor_mean.h"
#include "sync/exact_sum.h"
#include "sync/norm_rules.h"

namespace longhaul {
namespace {

// Calls use(tensor, offset in the piece, count) for each tensor's part of [first, first + count).
template <class Use>
void ForTensors(const std::vector<TensorSpan>& tensors, uint64_t first, uint64_t count, Use&& use) {
  auto it =
      std::upper_bound(tensors.begin(), tensors.end(), first,
                       [](uint64_t at, const TensorSpan& t) { return at < t.offset + t.count; });
  for (uint64_t done = 0; done < count; ++it) {
    const uint64_t n = std::min(it->offset + it->count - (first + done), count - done);
    use(static_cast<size_t>(it - tensors.begin()), done, n);
    done += n;
  }
}

}  // namespace

AggregationRules RulesOf(const SyncSection& sync) {
  return {sync.aggregator == "contributor_mean", sync.norm_cap, sync.restore_norm};
}

Aggregator::Aggregator(const CodedShape& shape, std::vector<TensorSpan> layout,
                       AggregationRules rules)
    : shape_(shape), tensors_(std::move(layout)), rules_(rules) {
  LONGHAUL_CHECK(!(rules_.contributor_mean && rules_.norm_cap), "rules that exclude each other");
  if (tensors_.empty()) tensors_ = {{0, shape_.begin + shape_.elements}};
}

absl::Status Aggregator::Apply(const ContributionLog& log, const Weights& weights, bool add) {
  sum_.resize(shape_.elements, 0);
  if (rules_.contributor_mean) counts_.resize(shape_.elements, 0);
  const std::span<uint64_t> sum(sum_);
  const std::span<uint32_t> counts(counts_);
  absl::Status status = log.ForEach([&](uint32_t chunk, std::span<const float> values) {
    const uint64_t first = shape_.First(chunk);
    ForTensors(
        tensors_, shape_.begin + first, values.size(), [&](size_t tensor, uint64_t at, uint64_t n) {
          const auto piece = values.subspan(at, n);
          const uint32_t weight = weights[tensor];
          const auto part = sum.subspan(first + at, n);
          add ? AddWeighted(piece, weight, part) : SubtractWeighted(piece, weight, part);
          if (counts.empty()) return;
          const auto count = counts.subspan(first + at, n);
          add ? CountContributors(piece, weight, count) : UncountContributors(piece, weight, count);
        });
  });
  if (!status.ok()) spoiled_ = true;
  return status;
}

absl::Status Aggregator::Measure(const ContributionLog& log) {
  if (!rules_.norm_cap && !rules_.restore_norm) return absl::OkStatus();
  std::vector<SquaredSum> norms(tensors_.size(), 0);
  RETURN_IF_ERROR(log.ForEach([&](uint32_t chunk, std::span<const float> values) {
    ForTensors(tensors_, shape_.begin + shape_.First(chunk), values.size(),
               [&](size_t tensor, uint64_t at, uint64_t n) {
                 norms[tensor] += SquaredNorm(values.subspan(at, n));
               });
  }));
  norms_[log.info().id.contribution] = std::move(norms);
  return absl::OkStatus();
}

absl::Status Aggregator::Insert(const ContributionLog& log, const Weights& weights) {
  RETURN_IF_ERROR(Apply(log, weights, /*add=*/true));
  const bool added = weights_.emplace(log.info().id.contribution, weights).second;
  LONGHAUL_CHECK(added, "a contribution was added twice");
  return absl::OkStatus();
}

absl::Status Aggregator::Add(const Part& part) {
  RETURN_IF_ERROR(Measure(*part.log));
  // Capped weights depend on the list: Bring adds what is on it.
  if (spoiled_ || rules_.norm_cap) return absl::OkStatus();
  return Insert(*part.log, Weights(tensors_.size(), part.weight));
}

void Aggregator::Remove(const ContributionLog& log) {
  const ContributionId& id = log.info().id.contribution;
  norms_.erase(id);
  const auto it = weights_.find(id);
  if (spoiled_ || it == weights_.end()) return;
  // A failure is kept in spoiled_.
  Apply(log, it->second, /*add=*/false).IgnoreError();
  weights_.erase(it);
}

std::vector<SquaredSum> Aggregator::NormsIn(size_t tensor, const std::vector<Part>& parts) const {
  std::vector<SquaredSum> norms;
  for (const Part& p : parts) norms.push_back(norms_.at(p.log->info().id.contribution)[tensor]);
  return norms;
}

// Sets the divisor, too.
std::map<ContributionId, Aggregator::Weights> Aggregator::Wanted(const std::vector<Part>& parts,
                                                                 uint64_t divisor) {
  std::map<ContributionId, Weights> wanted;
  std::vector<uint32_t> given;
  for (const Part& p : parts) {
    given.push_back(p.weight);
    wanted[p.log->info().id.contribution].assign(tensors_.size(), p.weight);
  }
  divisor_ = divisor;
  for (size_t tensor = 0; rules_.norm_cap && tensor < tensors_.size(); ++tensor) {
    const TensorWeights capped = NormCap(NormsIn(tensor, parts), given);
    divisor_ = capped.divisor;  // the same in every tensor
    for (size_t i = 0; i < parts.size(); ++i) {
      wanted[parts[i].log->info().id.contribution][tensor] = capped.weights[i];
    }
  }
  return wanted;
}

absl::Status Aggregator::Bring(const std::vector<Part>& parts, uint64_t divisor, const Logs& logs) {
  for (const Part& p : parts) {
    if (!norms_.contains(p.log->info().id.contribution)) RETURN_IF_ERROR(Measure(*p.log));
  }
  const std::map<ContributionId, Weights> wanted = Wanted(parts, divisor);
  const std::map<ContributionId, Weights> before = weights_;
  for (const auto& [id, weights] : before) {
    const auto it = wanted.find(id);
    if (it != wanted.end() && it->second == weights) continue;
    if (!spoiled_) Apply(*logs.at(id), weights, /*add=*/false).IgnoreError();  // see spoiled_
    weights_.erase(id);
  }
  if (spoiled_) {
    std::fill(sum_.begin(), sum_.end(), 0);
    std::fill(counts_.begin(), counts_.end(), 0);
    weights_.clear();
    spoiled_ = false;
  }
  for (const Part& p : parts) {
    const ContributionId& id = p.log->info().id.contribution;
    if (!weights_.contains(id)) RETURN_IF_ERROR(Insert(*p.log, wanted.at(id)));
  }
  FindGains(parts);
  return absl::OkStatus();
}

void Aggregator::FindGains(const std::vector<Part>& parts) {
  gains_.clear();
  if (!rules_.restore_norm) return;
  std::vector<SquaredSum> of_mean(tensors_.size(), 0);
  std::vector<float> mean;
  for (uint32_t chunk = 0; chunk < shape_.chunks(); ++chunk) {
    mean.resize(shape_.Elements(chunk));
    Mean(shape_.First(chunk), mean);
    ForTensors(tensors_, shape_.begin + shape_.First(chunk), mean.size(),
               [&](size_t tensor, uint64_t at, uint64_t n) {
                 of_mean[tensor] += SquaredNorm(std::span(mean).subspan(at, n));
               });
  }
  std::vector<uint32_t> given;
  for (const Part& p : parts) given.push_back(p.weight);
  std::vector<uint32_t> gains;
  for (size_t tensor = 0; tensor < tensors_.size(); ++tensor) {
    gains.push_back(RestoringGain(NormsIn(tensor, parts), given, of_mean[tensor]));
  }
  gains_ = std::move(gains);
}

void Aggregator::Mean(uint64_t first, std::span<float> out) const {
  const auto sum = std::span(sum_).subspan(first, out.size());
  if (rules_.contributor_mean) {
    ContributorMean(sum, std::span(counts_).subspan(first, out.size()), out);
  } else {
    MeanFromSum(sum, divisor_, out);
  }
  if (gains_.empty()) return;
  ForTensors(tensors_, shape_.begin + first, out.size(),
             [&](size_t tensor, uint64_t at, uint64_t n) {
               ApplyGain(gains_[tensor], out.subspan(at, n));
             });
}

void Aggregator::Clear() {
  std::fill(sum_.begin(), sum_.end(), 0);
  std::fill(counts_.begin(), counts_.end(), 0);
  weights_.clear();
  norms_.clear();
  gains_.clear();
  spoiled_ = false;
}

size_t Aggregator::MemoryBytes() const {
  return sum_.capacity() * sizeof(uint64_t) + counts_.capacity() * sizeof(uint32_t);
}

}  // namespace longhaul
