#include "wan/sim/checkers/provenance.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "compression/block_codec.h"
#include "compression/codec.h"
#include "wan/sim/closed_form.h"

namespace longhaul::sim {
namespace {

constexpr size_t kModelsKept = 64;
constexpr double kSlack = 2e-5;  // float32 rounding over a few rounds; a move is 2e-3

std::vector<float> Decode(const std::string& codec, const std::vector<std::string>& chunks,
                          uint64_t elements) {
  std::vector<float> values(elements);
  if (chunks.size() == 1) FindCodec(*CodecByName(codec))->Decode(AsBytes(chunks[0]), values);
  return values;
}

// Largest rounding error of a codec for values up to `most` in a block, relative to `most`.
double RelativeError(const std::string& codec) {
  if (codec == "float32") return 0;
  if (codec == "bf16") return 1.0 / 256;
  const double codes = codec == "int8" ? 127 : codec == "int4" ? 7 : 1;
  return 0.5 / codes + 1.0 / 128;  // half a step, and the scale's own rounding
}

}  // namespace

Provenance::Provenance(const RunConfig& config, uint64_t elements)
    : config_(config), elements_(elements) {}

bool Provenance::Close(const Values& wanted, const std::vector<float>& got,
                       const std::string& codec, double slack) const {
  for (uint64_t first = 0; first < elements_; first += kBlockValues) {
    const uint64_t end = std::min<uint64_t>(elements_, first + kBlockValues);
    double most = 0;
    for (uint64_t i = first; i < end; ++i) most = std::max(most, std::fabs(wanted[i]));
    const double limit = most * RelativeError(codec) + slack;
    for (uint64_t i = first; i < end; ++i) {
      if (!(std::fabs(wanted[i] - static_cast<double>(got[i])) <= limit)) return false;
    }
  }
  return true;
}

void Provenance::OnCoded(size_t process, const ObjectInfo& object,
                         const std::vector<std::string>& chunks) {
  coded_[object.root] = {process, object.id.generation,
                         Decode(config_.sync.codec, chunks, elements_)};
}

void Provenance::OnResidualLost(size_t process) { owed_.erase(process); }

void Provenance::OnPrepared(const ObjectInfo& aggregate, const std::vector<std::string>& chunks) {
  aggregates_[aggregate.root] = Decode(config_.sync.codec_down, chunks, elements_);
}

void Provenance::OnRecord(const Record& record, const State& after) {
  if (const auto* r = std::get_if<RunStarted>(&record.body)) {
    generation_ = r->generation;
  } else if (const auto* r = std::get_if<GenerationStarted>(&record.body)) {
    generation_ = r->generation;
    version_ = r->snapshot.id.version;
    claims_.clear();
    std::erase_if(times_, [&](const auto& t) { return t.second > version_; });
    models_.erase(models_.upper_bound(version_), models_.end());
  } else if (const auto* r = std::get_if<ContributionAccepted>(&record.body)) {
    claims_[r->object.id.contribution] = {r->object.root, r->leases, r->weight};
  } else if (const auto* r = std::get_if<RoundClosed>(&record.body)) {
    included_ = r->closing.included;
    divisor_ = r->closing.divisor;
  } else if (const auto* r = std::get_if<RoundCommitted>(&record.body)) {
    Commit(r->commit);
  } else if (std::holds_alternative<RoundAborted>(record.body)) {
    claims_.clear();
  }
}

void Provenance::CheckContribution(const Claim& claim, const Coded& coded) {
  const double beta = config_.sync.error_feedback;
  Owed& owed = owed_[coded.process];
  if (owed.values.empty() || owed.generation != coded.generation)
    owed = {coded.generation, Values(elements_)};
  Values wanted(elements_);
  for (uint64_t i = 0; i < elements_ && beta > 0; ++i) wanted[i] = beta * owed.values[i];
  for (const LeaseRange& l : claim.leases) {
    for (uint64_t p = l.from; p < l.to; ++p) {
      for (const Move& m : MovesOf(config_.run.seed, p, elements_))
        wanted[m.element] -= static_cast<double>(m.change);
      if (!times_.emplace(p, version_).second) {
        ++twice_;
        Complain("position " + std::to_string(p) + " is in the committed model twice");
      }
    }
  }
  if (!Close(wanted, coded.decoded, config_.sync.codec, kSlack)) {
    Complain("a contribution of process " + std::to_string(coded.process) +
             " that was included in version " + std::to_string(version_.value) +
             " does not contain what it claims");
  }
  for (uint64_t i = 0; i < elements_ && beta >= 0; ++i)
    owed.values[i] = wanted[i] - static_cast<double>(coded.decoded[i]);
}

void Provenance::Commit(const CommitView& commit) {
  version_ = commit.version;
  Values mean(elements_);
  for (const ContributionId& id : included_) {
    const auto claim = claims_.find(id);
    const auto coded = claim == claims_.end() ? coded_.end() : coded_.find(claim->second.root);
    if (coded == coded_.end()) {
      Complain("a contribution was included that no worker coded");
      continue;
    }
    CheckContribution(claim->second, coded->second);
    for (uint64_t i = 0; i < elements_; ++i) {
      mean[i] += static_cast<double>(coded->second.decoded[i]) * claim->second.weight /
                 static_cast<double>(divisor_);
    }
  }
  CheckAggregate(commit, mean);
  claims_.clear();
  coded_.clear();  // every contribution to this version is decided
}

void Provenance::CheckAggregate(const CommitView& commit, const Values& mean) {
  const auto before = models_.find(Version{commit.version.value - 1});
  const auto aggregate = aggregates_.find(commit.aggregate.root);
  if (before == models_.end() || aggregate == aggregates_.end())
    return Complain("version " + std::to_string(commit.version.value) + " came from nowhere");
  const Model& old = before->second;
  const double beta = config_.sync.error_feedback;
  Values wanted = mean;
  for (uint64_t i = 0; i < elements_ && beta > 0; ++i) wanted[i] += beta * old.residual[i];
  if (!Close(wanted, aggregate->second, config_.sync.codec_down, kSlack)) {
    Complain("the aggregate of version " + std::to_string(commit.version.value) +
             " is not the mean of what was included");
  }
  Model next = old;
  const double lr = std::bit_cast<float>(commit.outer_lr_bits);
  const double mu = std::bit_cast<float>(commit.outer_momentum_bits);
  for (uint64_t i = 0; i < elements_; ++i) {
    const double delta = aggregate->second[i];
    next.residual[i] = wanted[i] - delta;
    next.momentum[i] = mu * next.momentum[i] + delta;
    next.parameters[i] -= lr * (delta + mu * next.momentum[i]);
  }
  models_[commit.version] = std::move(next);
  if (models_.size() > kModelsKept) models_.erase(models_.begin());
  aggregates_.clear();
}

void Provenance::OnReducer(const ReducerView& view, bool residual_reset) {
  auto it = models_.find(view.version);
  if (it == models_.end()) {
    // Version 0, or a version before all that is remembered.
    Model& m = models_[view.version];
    m.parameters.assign(view.parameters.begin(), view.parameters.end());
    m.momentum.assign(view.momentum.begin(), view.momentum.end());
    m.residual.assign(elements_, 0.0);
    if (!view.residual.empty()) m.residual.assign(view.residual.begin(), view.residual.end());
    version_ = view.version;
    return;
  }
  Model& m = it->second;
  if (residual_reset) m.residual.assign(elements_, 0.0);
  for (uint64_t i = 0; i < elements_; ++i) {
    const bool same = std::fabs(m.parameters[i] - static_cast<double>(view.parameters[i])) < 1e-4 &&
                      std::fabs(m.momentum[i] - static_cast<double>(view.momentum[i])) < 1e-4 &&
                      (view.residual.empty() ||
                       std::fabs(m.residual[i] - static_cast<double>(view.residual[i])) < 1e-4);
    if (!same) {
      return Complain("the reducer's version " + std::to_string(view.version.value) +
                      " is not what the committed aggregates lead to");
    }
  }
}

}  // namespace longhaul::sim
