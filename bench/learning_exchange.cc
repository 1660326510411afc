#include "bench/learning_exchange.h"

#include <algorithm>
#include <cmath>

#include "common/status_macros.h"
#include "sync/contributor_mean.h"
#include "sync/error_feedback.h"
#include "sync/exact_sum.h"
#include "sync/norm_rules.h"
#include "sync/outer_step.h"
#include "sync/schedule.h"
#include "sync/state_hash.h"

namespace longhaul {
namespace {

template <class T>
auto Part(const TensorSpan& t, T&& values) {
  return std::span(values).subspan(t.offset, t.count);
}

double SquaresOf(std::span<const float> values) {
  double squares = 0;
  for (float v : values) squares += double{v} * v;
  return squares;
}

}  // namespace

LearningExchange::LearningExchange(const LearningMethod& method, std::vector<TensorSpan> tensors,
                                   std::vector<float> initial)
    : method_(method),
      tensors_(std::move(tensors)),
      parameters_(std::move(initial)),
      momentum_(parameters_.size()),
      follower_(parameters_),
      follower_momentum_(parameters_.size()),
      next_(parameters_),
      next_momentum_(parameters_.size()),
      reducer_residual_(parameters_.size()) {}

absl::StatusOr<std::unique_ptr<LearningExchange>> LearningExchange::Make(
    const LearningMethod& method, uint32_t workers, std::vector<TensorSpan> tensors,
    std::vector<float> initial) {
  std::unique_ptr<LearningExchange> made(
      new LearningExchange(method, std::move(tensors), std::move(initial)));
  ASSIGN_OR_RETURN(made->up_, MakeSpanCoder(method.up, made->tensors_));
  ASSIGN_OR_RETURN(made->down_, MakeSpanCoder(method.down, made->tensors_));
  const std::vector<float> zero(made->parameters_.size());
  made->workers_.assign(workers, {zero, zero, zero, zero});
  return made;
}

bool LearningExchange::Included(uint32_t worker) const {
  return method_.exclusion == Exclusion::kNone || (totals_.rounds + worker) % 2 == 0;
}

std::vector<uint32_t> LearningExchange::IncludeList() const {
  std::vector<uint32_t> list;
  for (uint32_t m = 0; m < workers_.size(); ++m) {
    if (Included(m)) list.push_back(m);
  }
  return list;
}

absl::Status LearningExchange::Send(uint32_t worker, std::span<const float> local) {
  Worker& w = workers_[worker];
  const auto decay = static_cast<float>(method_.feedback_up);
  w.sent.assign(local.begin(), local.end());
  WithResidual(-1, {}, parameters_, w.sent, w.delta);
  std::vector<float> coded = w.delta;
  AddResidual(decay, w.residual, coded);
  ASSIGN_OR_RETURN(const CodedSize size, up_->Code(coded, w.decoded));
  if (worker == 0) {
    totals_.up.payload_bits += size.payload_bits;
    totals_.up.header_bits += size.header_bits;
  }
  if (Included(worker)) {
    ResidualAfter(decay, parameters_, w.sent, w.decoded, w.residual);
  } else if (method_.exclusion == Exclusion::kResidualKept) {
    w.residual = coded;
  }
  return absl::OkStatus();
}

void LearningExchange::Mean(const TensorSpan& tensor, const std::vector<uint32_t>& list,
                            std::span<float> mean) const {
  std::vector<SquaredSum> norms;
  for (uint32_t m : list) norms.push_back(SquaredNorm(Part(tensor, workers_[m].decoded)));
  const std::vector<uint32_t> equal(list.size(), 1);
  TensorWeights weights{equal, list.size()};
  if (method_.norm_cap) weights = NormCap(norms, equal);
  std::vector<uint64_t> sum(mean.size());
  std::vector<uint32_t> counts(mean.size());
  for (size_t i = 0; i < list.size(); ++i) {
    const auto values = Part(tensor, workers_[list[i]].decoded);
    AddWeighted(values, weights.weights[i], sum);
    CountContributors(values, weights.weights[i], counts);
  }
  if (method_.aggregation == Aggregation::kContributorMean) {
    ContributorMean(sum, counts, mean);
  } else {
    MeanFromSum(sum, weights.divisor, mean);
  }
  if (method_.restore_norm) ApplyGain(RestoringGain(norms, equal, SquaredNorm(mean)), mean);
}

absl::StatusOr<LearningExchange::Aggregate> LearningExchange::Reduce(
    const std::vector<uint32_t>& list) const {
  const auto decay = static_cast<float>(method_.feedback_down);
  std::vector<float> mean(parameters_.size());
  for (const TensorSpan& t : tensors_) Mean(t, list, Part(t, mean));
  Aggregate out{std::vector<float>(mean.size()), reducer_residual_, {}};
  AddResidual(decay, out.residual, mean);
  ASSIGN_OR_RETURN(out.size, down_->Code(mean, out.decoded));
  if (decay >= 0) ResidualOf(mean, out.decoded, out.residual);
  return out;
}

absl::Status LearningExchange::Close() {
  std::vector<uint32_t> list = IncludeList();
  ASSIGN_OR_RETURN(Aggregate aggregate, Reduce(list));
  std::reverse(list.begin(), list.end());
  ASSIGN_OR_RETURN(Aggregate again, Reduce(list));
  const float lr = OuterLearningRate(method_.outer, totals_.rounds);
  const auto momentum = static_cast<float>(method_.momentum);
  NesterovStepTo(aggregate.decoded, lr, momentum, parameters_, momentum_, next_, next_momentum_);
  NesterovStep(again.decoded, lr, momentum, follower_, follower_momentum_);
  reducer_residual_ = std::move(aggregate.residual);
  totals_.down.payload_bits += aggregate.size.payload_bits;
  totals_.down.header_bits += aggregate.size.header_bits;
  return absl::OkStatus();
}

void LearningExchange::Apply(uint32_t worker, std::span<float> local) const {
  if (method_.mixing >= 0) {
    Mix(static_cast<float>(method_.mixing), next_, local);
  } else {
    Rebase(Included(worker) ? workers_[worker].sent : parameters_, next_, local);
  }
}

void LearningExchange::Install() {
  Count();
  parameters_ = next_;
  momentum_ = next_momentum_;
}

// The mean cosine over pairs is (‖Σ unit vectors‖² − M) / (M (M − 1)).
void LearningExchange::Count() {
  const auto workers = static_cast<double>(workers_.size());
  std::vector<double> units(parameters_.size());
  for (const Worker& w : workers_) {
    const double norm = std::sqrt(SquaresOf(w.delta));
    if (norm == 0) continue;
    for (size_t i = 0; i < units.size(); ++i) units[i] += w.delta[i] / norm;
    totals_.residual += std::sqrt(SquaresOf(w.residual)) / norm / workers;
  }
  double squares = 0;
  for (double u : units) squares += u * u;
  if (workers_.size() > 1) totals_.cosine += (squares - workers) / (workers * (workers - 1));
  ++totals_.rounds;
}

bool LearningExchange::SameState() const {
  return StateHash(next_, next_momentum_) == StateHash(follower_, follower_momentum_);
}

}  // namespace longhaul
