#include "wan/sim/checkers/provenance.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "compression/block_codec.h"
#include "compression/codec.h"
#include "wan/sim/closed_form.h"

namespace longhaul::sim {
namespace {

constexpr double kSlack = 2e-5;  // float32 rounding over a few rounds; a move is 2e-3
constexpr double kModelSlack = 1e-4;

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

// |got - wanted| within the rounding of the codec.
bool Close(const std::vector<double>& wanted, const std::vector<float>& got,
           const std::string& codec) {
  for (size_t first = 0; first < wanted.size(); first += kBlockValues) {
    const size_t end = std::min(wanted.size(), first + kBlockValues);
    double most = 0;
    for (size_t i = first; i < end; ++i) most = std::max(most, std::fabs(wanted[i]));
    const double limit = most * RelativeError(codec) + kSlack;
    for (size_t i = first; i < end; ++i) {
      if (!(std::fabs(wanted[i] - static_cast<double>(got[i])) <= limit)) return false;
    }
  }
  return true;
}

bool Near(const std::vector<double>& wanted, std::span<const float> got) {
  for (size_t i = 0; i < got.size(); ++i) {
    if (!(std::fabs(wanted[i] - static_cast<double>(got[i])) < kModelSlack)) return false;
  }
  return true;
}

std::string Named(FragmentId fragment, Version version) {
  return "version " + std::to_string(version.value) + " of fragment " +
         std::to_string(fragment.value);
}

}  // namespace

Provenance::Provenance(const RunConfig& config, const std::vector<FragmentLayout>& layout)
    : config_(config) {
  for (const FragmentLayout& f : layout) parts_.emplace_back().elements = f.elements;
}

uint64_t Provenance::committed_positions(FragmentId fragment) const {
  return parts_.at(fragment.value).positions.size();
}

void Provenance::OnCoded(size_t process, const ObjectInfo& object,
                         const std::vector<std::string>& chunks) {
  const uint64_t elements = Of(object.id.fragment).elements;
  coded_[object.root] = {process, object.id, Decode(config_.sync.codec, chunks, elements)};
}

void Provenance::OnResidualLost(size_t process) {
  std::erase_if(owed_, [&](const auto& entry) { return entry.first.first == process; });
}

void Provenance::OnResidualSaved(size_t process) {
  Saved& saved = saved_[process] = {.owner = process};
  for (uint64_t f = 0; f < parts_.size(); ++f) {
    const auto owed = owed_.find({process, FragmentId{f}});
    if (owed != owed_.end()) saved.owed[FragmentId{f}] = owed->second;
  }
  saved_by_[process] = process;
}

void Provenance::OnResidualLoaded(size_t process, size_t saved_by) {
  Saved& saved = saved_[saved_by];
  if (saved.spent)
    Complain("process " + std::to_string(process) +
             " takes a residual although what was sent after it was included");
  saved.owner = process;
  saved_by_[process] = saved_by;
  for (const auto& [fragment, owed] : saved.owed) owed_[{process, fragment}] = owed;
}

// One of its contributions is included: what is on disk is out of date, and nobody else may have
// taken it.
void Provenance::Spend(size_t process) {
  const auto by = saved_by_.find(process);
  if (by == saved_by_.end() || config_.sync.error_feedback < 0) return;
  Saved& saved = saved_[by->second];
  saved.spent = true;
  if (saved.owner != process)
    Complain("a contribution of process " + std::to_string(process) +
             " was included after another one had taken its residual");
}

void Provenance::OnPrepared(const ObjectInfo& aggregate, const std::vector<std::string>& chunks) {
  Part& part = Of(aggregate.id.fragment);
  part.aggregates[aggregate.root] = Decode(config_.sync.codec_down, chunks, part.elements);
}

void Provenance::OnRecord(const Record& record, const State&) {
  if (const auto* r = std::get_if<RunStarted>(&record.body)) {
    for (const ObjectInfo& o : r->snapshots) GoBack(o);
  } else if (const auto* r = std::get_if<GenerationStarted>(&record.body)) {
    for (const ObjectInfo& o : r->snapshots) GoBack(o);
  } else if (const auto* r = std::get_if<ContributionAccepted>(&record.body)) {
    Of(r->object.id.fragment).claims[r->object.id.contribution] = {r->object.root, r->leases,
                                                                   r->weight};
  } else if (const auto* r = std::get_if<RoundOpened>(&record.body)) {
    Of(r->fragment).by_worker = false;
  } else if (const auto* r = std::get_if<SlicesPlaced>(&record.body)) {
    Of(r->fragment).by_worker = true;
    Of(r->fragment).continues = r->slices.at(0).continues;
  } else if (const auto* r = std::get_if<SlicesMoved>(&record.body)) {
    Of(r->fragment).continues = false;
  } else if (const auto* r = std::get_if<RoundClosed>(&record.body)) {
    Of(r->fragment).included = r->closing.included;
    Of(r->fragment).divisor = r->closing.divisor;
  } else if (const auto* r = std::get_if<RoundCommitted>(&record.body)) {
    Commit(r->commit);
  } else if (const auto* r = std::get_if<RoundAborted>(&record.body)) {
    Of(r->fragment).claims.clear();
  }
}

void Provenance::GoBack(const ObjectInfo& snapshot) {
  Part& part = Of(snapshot.id.fragment);
  part.now = snapshot.root;
  part.claims.clear();
  part.positions.clear();
  part.models.try_emplace(snapshot.root, Model{.version = snapshot.id.version});
  for (Digest at = snapshot.root; part.models.contains(at); at = part.models[at].before) {
    const Model& m = part.models[at];
    part.positions.insert(m.positions.begin(), m.positions.end());
    if (m.version.value == 0) break;
  }
}

void Provenance::CheckContribution(const CommitView& commit, const Claim& claim,
                                   const Coded& coded) {
  const FragmentId fragment = commit.fragment;
  Part& part = Of(fragment);
  const double beta = config_.sync.error_feedback;
  Spend(coded.process);
  Owed& owed = owed_[{coded.process, fragment}];
  if (owed.values.empty() || owed.generation != coded.id.generation)
    owed = {coded.id.generation, Values(part.elements)};
  Values wanted(part.elements);
  for (uint64_t i = 0; i < part.elements && beta > 0; ++i) wanted[i] = beta * owed.values[i];
  for (const LeaseRange& l : claim.leases) {
    for (uint64_t p = l.from; p < l.to; ++p) {
      for (const Move& m : MovesOf(config_.run.seed, p, fragment, part.elements))
        wanted[m.element] -= static_cast<double>(m.change);
      part.models[commit.state_hash].positions.push_back(p);
      if (part.positions.insert(p).second) continue;
      ++twice_;
      Complain("position " + std::to_string(p) + " is in the committed model twice, with " +
               Named(fragment, commit.version));
    }
  }
  if (!Close(wanted, coded.decoded, config_.sync.codec)) {
    Complain("a contribution of process " + std::to_string(coded.process) +
             " that was included in " + Named(fragment, commit.version) +
             " does not contain what it claims");
  }
  for (uint64_t i = 0; i < part.elements && beta >= 0; ++i)
    owed.values[i] = wanted[i] - static_cast<double>(coded.decoded[i]);
}

void Provenance::Commit(const CommitView& commit) {
  Part& part = Of(commit.fragment);
  part.models[commit.state_hash] = Model{.version = commit.version, .before = part.now};
  Values mean(part.elements);
  for (const ContributionId& id : part.included) {
    const auto claim = part.claims.find(id);
    const auto coded = claim == part.claims.end() ? coded_.end() : coded_.find(claim->second.root);
    if (coded == coded_.end()) {
      Complain("a contribution was included that no worker coded");
      continue;
    }
    CheckContribution(commit, claim->second, coded->second);
    for (uint64_t i = 0; i < part.elements; ++i) {
      mean[i] += static_cast<double>(coded->second.decoded[i]) * claim->second.weight /
                 static_cast<double>(part.divisor);
    }
  }
  CheckAggregate(commit, mean, part.models[commit.state_hash]);
  part.now = commit.state_hash;
  part.claims.clear();
  part.aggregates.clear();
  // Every contribution to the version before is decided.
  std::erase_if(coded_, [&](const auto& c) { return c.second.id.fragment == commit.fragment; });
}

void Provenance::CheckAggregate(const CommitView& commit, const Values& mean, Model& next) {
  Part& part = Of(commit.fragment);
  const Model& old = part.models[part.now];
  const auto aggregate = part.aggregates.find(commit.aggregate.root);
  if (old.parameters.empty() || aggregate == part.aggregates.end())
    return Complain(Named(commit.fragment, commit.version) + " came from nowhere");
  const double beta = config_.sync.error_feedback;
  const Values none(part.elements);
  const bool continues = part.continues && !old.slice_residual.empty();
  const Values& slice = continues ? old.slice_residual : none;
  const Values& residual = part.by_worker ? slice : old.residual;
  Values wanted = mean;
  for (uint64_t i = 0; i < part.elements && beta > 0; ++i) wanted[i] += beta * residual[i];
  if (!Close(wanted, aggregate->second, config_.sync.codec_down)) {
    Complain("the aggregate of " + Named(commit.fragment, commit.version) +
             " is not the mean of what was included");
  }
  next.parameters = old.parameters;
  next.momentum = old.momentum;
  next.residual = wanted;
  const double lr = std::bit_cast<float>(commit.outer_lr_bits);
  const double mu = std::bit_cast<float>(commit.outer_momentum_bits);
  for (uint64_t i = 0; i < part.elements; ++i) {
    const double d = aggregate->second[i];
    next.residual[i] -= d;  // what is owed now
    next.momentum[i] = mu * next.momentum[i] + d;
    next.parameters[i] -= lr * (d + mu * next.momentum[i]);
  }
  if (part.by_worker) next.slice_residual = std::exchange(next.residual, none);
}

void Provenance::OnReducer(const ReducerView& view, bool residual_reset) {
  Model& m = Of(view.fragment).models[view.hash];
  if (m.parameters.empty()) {  // where the run begins
    if (view.version.value > 0) Complain(Named(view.fragment, view.version) + " was never reached");
    m.parameters.assign(view.parameters.begin(), view.parameters.end());
    m.momentum.assign(view.momentum.begin(), view.momentum.end());
    m.residual.assign(m.parameters.size(), 0.0);
    return;
  }
  if (residual_reset) m.residual.assign(m.residual.size(), 0.0);
  if (Near(m.parameters, view.parameters) && Near(m.momentum, view.momentum) &&
      Near(m.residual, view.residual)) {
    return;
  }
  Complain("the reducer's " + Named(view.fragment, view.version) +
           " is not what the committed aggregates lead to");
}

}  // namespace longhaul::sim
