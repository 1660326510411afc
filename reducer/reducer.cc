#include "reducer/reducer.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <set>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/hash.h"
#include "common/status_macros.h"
#include "sync/error_feedback.h"
#include "sync/float_mode.h"
#include "sync/outer_step.h"
#include "sync/state_hash.h"

namespace longhaul {
namespace {

static_assert(kChunkElements == kStateChunkElements);

constexpr uint64_t kMaxDivisor = (uint64_t{1} << 52) - 1;  // what MeanFromSum takes

absl::Status CheckOptions(const Reducer::Options& o) {
  if (o.storage == nullptr || o.elements == 0 || o.chunk_elements == 0 ||
      !std::isfinite(o.beta_down) || o.beta_down > 1.0f ||
      (o.rules.contributor_mean && o.rules.norm_cap) ||
      (!o.replica && (o.rules.norm_cap || o.rules.restore_norm))) {
    return absl::InvalidArgumentError("reducer options are out of range");
  }
  const uint64_t chunks = (o.elements - 1) / o.chunk_elements + 1;
  if (o.chunk_elements * sizeof(float) > kMaxChunkBytes || chunks > UINT32_MAX) {
    return absl::InvalidArgumentError("a fragment of that size cannot be cut into chunks");
  }
  return absl::OkStatus();
}

std::string LogFolder(const Reducer::Options& options) { return options.folder + "/contributions"; }

}  // namespace

absl::StatusOr<Reducer::Coding> Reducer::MakeCoding(const Options& options, const CodecSpec& spec) {
  const std::vector<TensorSpan>& layout = options.layout;
  const uint64_t begin = options.first_chunk * options.chunk_elements;
  Coding coding{MakeCodec(spec, layout), {}};
  if (coding.codec == nullptr ||
      (!layout.empty() && layout.back().offset + layout.back().count < begin + options.elements) ||
      (!layout.empty() && options.replica &&
       layout.back().offset + layout.back().count != options.elements)) {
    return absl::InvalidArgumentError("no such codec, or a layout that does not fit");
  }
  coding.shape = {options.elements, options.chunk_elements, coding.codec.get(), begin};
  return coding;
}

Reducer::Reducer(const Options& options, Coding up, Coding down, AggregateFiles files)
    : options_(options),
      up_coding_(std::move(up)),
      down_coding_(std::move(down)),
      up_(up_coding_.shape),
      down_(down_coding_.shape),
      files_(std::move(files)),
      parameters_(options.replica ? options.elements : 0, 0.0f),
      momentum_(parameters_.size(), 0.0f),
      residual_(options.beta_down < 0 ? 0 : options.elements, 0.0f),
      sum_(up_, options.layout, options.rules) {}

absl::StatusOr<std::unique_ptr<Reducer>> Reducer::Open(const Options& options) {
  RETURN_IF_ERROR(CheckOptions(options));
  ASSIGN_OR_RETURN(Coding up, MakeCoding(options, options.codec_up));
  ASSIGN_OR_RETURN(Coding down, MakeCoding(options, options.codec_down));
  RETURN_IF_ERROR(options.storage->MakeFolder(LogFolder(options)));
  ASSIGN_OR_RETURN(AggregateFiles files, AggregateFiles::Open(options.storage, options.folder,
                                                              down.shape, options.beta_down >= 0));
  return std::unique_ptr<Reducer>(
      new Reducer(options, std::move(up), std::move(down), std::move(files)));
}

absl::Status Reducer::Load(Generation generation, Version version,
                           std::span<const float> parameters, std::span<const float> momentum,
                           std::span<const float> residual) {
  if (parameters.size() != parameters_.size() || momentum.size() != parameters_.size() ||
      (!residual.empty() && residual.size() != options_.elements)) {
    return absl::InvalidArgumentError("the state is not of this fragment's size");
  }
  for (std::span<const float> values : {parameters, momentum, residual}) {
    if (!std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); })) {
      return absl::InvalidArgumentError("the state holds a value that is not finite");
    }
  }
  generation_ = generation;
  version_ = version;
  std::copy(parameters.begin(), parameters.end(), parameters_.begin());
  std::copy(momentum.begin(), momentum.end(), momentum_.begin());
  std::fill(residual_.begin(), residual_.end(), 0.0f);
  if (!residual_.empty()) std::copy(residual.begin(), residual.end(), residual_.begin());
  logs_.clear();
  weights_.clear();
  sum_.Clear();
  ready_.reset();
  return absl::OkStatus();
}

absl::StatusOr<Reducer::Recovered> Reducer::Recover(std::span<const CommitView> commits) {
  if (!logs_.empty()) return absl::FailedPreconditionError("recovery comes before contributions");
  const ScopedFloatMode mode;
  for (const CommitView& commit : commits) {
    if (commit.fragment != options_.fragment || commit.version != version_.Next()) {
      return absl::InvalidArgumentError(absl::StrCat("a commit of version ", commit.version.value,
                                                     " does not follow ", version_.value));
    }
    const OuterStep step{commit.version, commit.aggregate.root, commit.state_hash,
                         std::bit_cast<float>(commit.outer_lr_bits),
                         std::bit_cast<float>(commit.outer_momentum_bits)};
    RETURN_IF_ERROR(Verify(step));
    RETURN_IF_ERROR(Apply(step));
  }
  Recovered recovered;
  if (commits.empty() || residual_.empty()) return recovered;
  const absl::Status read =
      files_.ReadResidual(version_, commits.back().aggregate.root, std::span(residual_));
  recovered.residual_reset = absl::IsNotFound(read) || absl::IsDataLoss(read);
  if (recovered.residual_reset) {
    std::fill(residual_.begin(), residual_.end(), 0.0f);
  } else {
    RETURN_IF_ERROR(read);
  }
  return recovered;
}

absl::StatusOr<Reducer::Progress> Reducer::Expect(const ObjectInfo& info, uint32_t weight) {
  const ObjectId& id = info.id;
  if (id.kind != ObjectKind::kContribution || id.generation != generation_ ||
      id.fragment != options_.fragment || id.version != version_ ||
      id.first_chunk != options_.first_chunk || info.chunks != up_.chunks() ||
      !up_.MayTake(info.bytes) || weight == 0 || weight >= kWeightLimit) {
    return absl::InvalidArgumentError("not a contribution to the current version");
  }
  const ScopedFloatMode mode;
  auto it = logs_.find(id.contribution);
  if (it == logs_.end()) {
    if (logs_.size() >= kMaxContributions) {
      return absl::FailedPreconditionError("too many contributions at one time");
    }
    ASSIGN_OR_RETURN(std::unique_ptr<ContributionLog> log,
                     ContributionLog::Open(options_.storage, LogFolder(options_), info, up_));
    it = logs_.emplace(id.contribution, std::move(log)).first;
    weights_[id.contribution] = weight;
  } else if (it->second->info() != info) {
    return absl::InvalidArgumentError("this contribution was announced with other content");
  }
  return ProgressOf(*it->second);
}

absl::StatusOr<Reducer::Progress> Reducer::AddChunk(const ContributionId& id,
                                                    const ChunkHeader& header, ByteSpan payload) {
  const auto it = logs_.find(id);
  if (it == logs_.end()) return absl::NotFoundError("this contribution is not expected");
  const ScopedFloatMode mode;
  const absl::Status added = it->second->Append(header, payload);
  if (added.ok()) return ProgressOf(*it->second);
  if (absl::IsInvalidArgument(added)) RETURN_IF_ERROR(Drop(id));
  return added;
}

// Seals a contribution whose last chunk has come, and adds it to the sum; drops it when its content
// or its log turns out to be bad.
absl::StatusOr<Reducer::Progress> Reducer::ProgressOf(ContributionLog& log) {
  Progress progress{log.have_count(), log.info().chunks, std::nullopt};
  if (!log.complete()) return progress;
  const ContributionId id = log.info().id.contribution;
  if (!log.sealed()) {
    absl::Status held = log.Seal();
    if (held.ok()) held = sum_.Add({&log, weights_.at(id)});
    if (absl::IsInvalidArgument(held) || absl::IsDataLoss(held)) RETURN_IF_ERROR(Drop(id));
    RETURN_IF_ERROR(held);
  }
  const SquaredSum norm = log.squared_norm();
  progress.held = Held{id, static_cast<uint64_t>(norm >> 64), static_cast<uint64_t>(norm)};
  return progress;
}

std::vector<ChunkRun> Reducer::MissingChunks(const ContributionId& id, size_t max_runs) const {
  const auto it = logs_.find(id);
  return it == logs_.end() ? std::vector<ChunkRun>() : it->second->Missing(max_runs);
}

absl::Status Reducer::Drop(const ContributionId& id) {
  const auto it = logs_.find(id);
  if (it == logs_.end()) return absl::OkStatus();
  sum_.Remove(*it->second);
  const absl::Status deleted = it->second->Delete();
  logs_.erase(it);
  weights_.erase(id);
  return deleted;
}

absl::Status Reducer::CheckOrder(const CloseOrder& order) const {
  if (order.version != version_.Next()) {
    return absl::InvalidArgumentError(
        absl::StrCat("version ", order.version.value, " does not follow ", version_.value));
  }
  if (order.include.empty() || order.divisor == 0 || order.divisor > kMaxDivisor ||
      !std::isfinite(order.outer_lr) || !std::isfinite(order.outer_momentum)) {
    return absl::InvalidArgumentError("closing needs contributions, a divisor and finite rates");
  }
  std::set<ContributionId> seen;
  uint64_t total = 0;
  for (const Included& included : order.include) {
    const auto it = logs_.find(included.id);
    if (it == logs_.end() || !it->second->sealed() || !seen.insert(included.id).second) {
      return absl::InvalidArgumentError("a contribution on the list is not held, or named twice");
    }
    if (included.weight == 0) return absl::InvalidArgumentError("a weight is 0");
    total += included.weight;
  }
  if (total >= kWeightLimit) return absl::InvalidArgumentError("the weights add up to too much");
  const uint64_t chunks = std::accumulate(order.slices.begin(), order.slices.end(), uint64_t{0});
  if (!order.slices.empty() && chunks != down_.chunks())
    return absl::InvalidArgumentError("the slices do not cover the fragment");
  return absl::OkStatus();
}

absl::StatusOr<Reducer::Prepared> Reducer::Close(const CloseOrder& order) {
  RETURN_IF_ERROR(CheckOrder(order));
  const ScopedFloatMode mode;
  ready_.reset();
  std::vector<Aggregator::Part> parts;
  for (const Included& included : order.include) {
    parts.push_back({logs_.at(included.id).get(), included.weight});
  }
  RETURN_IF_ERROR(sum_.Bring(parts, order.divisor, logs_));
  return Prepare(order);
}

absl::StatusOr<std::vector<ContributionId>> Reducer::TakeUnusable(
    const std::vector<Included>& list) {
  std::vector<ContributionId> unusable;
  for (const Included& included : list) {
    const auto it = logs_.find(included.id);
    if (it != logs_.end() && it->second->sealed()) {
      const absl::Status read = it->second->ForEach([](uint32_t, std::span<const float>) {});
      if (read.ok()) continue;
      RETURN_IF_ERROR(Drop(included.id));
    }
    unusable.push_back(included.id);
  }
  return unusable;
}

// Values [first, first + mean.size()) of the mean, with what the residual owes.
void Reducer::MeanOf(uint64_t first, std::span<float> mean) const {
  sum_.Mean(first, mean);
  if (residual_.empty()) return;
  AddResidual(options_.beta_down, std::span(residual_).subspan(first, mean.size()), mean);
}

CodecPlan Reducer::PlanSlice(uint32_t first_chunk, uint32_t chunks) const {
  const uint64_t first = down_.First(first_chunk);
  const uint64_t n = std::min(chunks * down_.chunk_elements, down_.elements - first);
  const std::optional<CodecPlan> plan = MakePlan(
      *down_.codec, n, down_.chunk_elements,
      [&](uint64_t at, std::span<float> out) { MeanOf(at - down_.begin, out); },
      down_.begin + first);
  LONGHAUL_CHECK(plan.has_value(), "a mean of finite values is finite");
  return *plan;
}

// Chunk by chunk: mean, coding with the residual, and the next state for its hash alone.
absl::StatusOr<Reducer::Prepared> Reducer::Prepare(const CloseOrder& order) {
  Making making;
  ASSIGN_OR_RETURN(making.writer, files_.Write(order.version));
  std::vector<float> coded, decoded, left;
  std::vector<std::byte> buffer;
  CodecPlan plan;
  uint32_t slice = 0, slice_end = 0;
  for (uint32_t chunk = 0; chunk < down_.chunks(); ++chunk) {
    if (chunk == slice_end) {
      const uint32_t chunks = order.slices.empty() ? down_.chunks() : order.slices[slice++];
      plan = PlanSlice(chunk, chunks);
      slice_end += chunks;
    }
    const uint64_t first = down_.First(chunk), n = down_.Elements(chunk);
    coded.resize(n);
    decoded.resize(n);
    left.resize(residual_.empty() ? 0 : n);
    buffer.resize(down_.Bytes(chunk));
    MeanOf(first, coded);
    const std::optional<size_t> bytes =
        down_.codec->EncodeChunk(plan, down_.begin + first, coded, buffer);
    LONGHAUL_CHECK(bytes.has_value(), "a mean of finite values could not be coded");
    const ByteSpan payload = std::span(buffer).first(*bytes);
    LONGHAUL_CHECK(down_.Decode(chunk, payload, decoded), "a reducer can decode what it coded");
    if (!residual_.empty()) ResidualOf(coded, decoded, left);
    RETURN_IF_ERROR(Take(making, order, payload, decoded, left));
  }
  return Finish(making, order);
}

absl::StatusOr<Reducer::Prepared> Reducer::Assemble(const CloseOrder& order,
                                                    std::span<const std::string> chunks) {
  if (order.version != version_.Next() || chunks.size() != down_.chunks() ||
      !std::isfinite(order.outer_lr) || !std::isfinite(order.outer_momentum)) {
    return absl::InvalidArgumentError("not an aggregate of the next version");
  }
  const ScopedFloatMode mode;
  ready_.reset();
  Making making;
  ASSIGN_OR_RETURN(making.writer, files_.Write(order.version));
  std::vector<float> decoded, left;
  for (uint32_t chunk = 0; chunk < down_.chunks(); ++chunk) {
    decoded.resize(down_.Elements(chunk));
    left.assign(residual_.empty() ? 0 : decoded.size(), 0.0f);
    if (!down_.codec->MayTake(chunks[chunk].size(), decoded.size()) ||
        !down_.Decode(chunk, AsBytes(chunks[chunk]), decoded)) {
      return absl::InvalidArgumentError(absl::StrCat("chunk ", chunk, " does not decode"));
    }
    RETURN_IF_ERROR(Take(making, order, AsBytes(chunks[chunk]), decoded, left));
  }
  return Finish(making, order);
}

absl::Status Reducer::Take(Making& making, const CloseOrder& order, ByteSpan payload,
                           std::span<const float> decoded, std::span<const float> left) const {
  const uint64_t first = making.state.size() * down_.chunk_elements;
  RETURN_IF_ERROR(making.writer.Append(payload, left));
  making.prepared.aggregate.bytes += payload.size();
  making.state.push_back(NextStateChunk(first, decoded, order.outer_lr, order.outer_momentum));
  return absl::OkStatus();
}

absl::StatusOr<Reducer::Prepared> Reducer::Finish(Making& making, const CloseOrder& order) {
  Prepared prepared = making.prepared;
  prepared.aggregate.id = {ObjectKind::kAggregate, generation_,      options_.fragment,
                           order.version,          ContributionId{}, options_.first_chunk};
  prepared.aggregate.chunks = down_.chunks();
  ASSIGN_OR_RETURN(prepared.aggregate.root, making.writer.Finish());
  prepared.state_hash = RootDigest(making.state);
  ready_ = Ready{order.round,
                 order.attempt,
                 {order.version, prepared.aggregate.root, prepared.state_hash, order.outer_lr,
                  order.outer_momentum}};
  return prepared;
}

Digest Reducer::NextStateChunk(uint64_t first, std::span<const float> mean, float lr,
                               float momentum) const {
  if (!options_.replica) return {};
  std::vector<float> next_parameters(mean.size()), next_momentum(mean.size());
  NesterovStepTo(mean, lr, momentum, std::span(parameters_).subspan(first, mean.size()),
                 std::span(momentum_).subspan(first, mean.size()), next_parameters, next_momentum);
  return ChunkDigest(AsBytes(StateChunk(next_parameters, next_momentum)));
}

absl::Status Reducer::Install(RoundId round, uint32_t attempt) {
  if (!ready_ || ready_->round != round || ready_->attempt != attempt) {
    return absl::FailedPreconditionError(
        absl::StrCat("attempt ", attempt, " of round ", round.value, " is not prepared"));
  }
  const ScopedFloatMode mode;
  const OuterStep step = ready_->step;
  RETURN_IF_ERROR(Verify(step));
  if (!residual_.empty()) {
    RETURN_IF_ERROR(files_.ReadResidual(step.version, step.aggregate_root, std::span(residual_)));
  }
  RETURN_IF_ERROR(Apply(step));
  RETURN_IF_ERROR(files_.DeleteResidualsBefore(version_));
  return ForgetContributions();
}

// The stored aggregate leads from the current state to the one that was agreed on.
absl::Status Reducer::Verify(const OuterStep& step) const {
  std::vector<Digest> aggregate, state;
  std::vector<float> mean;
  for (uint32_t chunk = 0; chunk < down_.chunks(); ++chunk) {
    ASSIGN_OR_RETURN(StoredChunk stored, files_.ReadChunk(step.version, chunk));
    mean.resize(stored.header.elements);
    if (!down_.Decode(chunk, AsBytes(stored.payload), mean)) {
      return absl::DataLossError("a stored aggregate does not decode");
    }
    aggregate.push_back(ChunkDigest(AsBytes(stored.payload)));
    state.push_back(NextStateChunk(down_.First(chunk), mean, step.lr, step.momentum));
  }
  if (RootDigest(aggregate) != step.aggregate_root || RootDigest(state) != step.state_hash) {
    return absl::DataLossError(absl::StrCat("the stored aggregate of version ", step.version.value,
                                            " is not the committed one"));
  }
  return absl::OkStatus();
}

// Verify has just read the same bytes. A file that fails now leaves the state half applied.
absl::Status Reducer::Apply(const OuterStep& step) {
  std::vector<float> mean;
  for (uint32_t chunk = 0; chunk < down_.chunks(); ++chunk) {
    const absl::StatusOr<StoredChunk> stored = files_.ReadChunk(step.version, chunk);
    mean.resize(down_.Elements(chunk));
    if (!stored.ok() || !down_.Decode(chunk, AsBytes(stored->payload), mean)) {
      return absl::InternalError("an aggregate changed while it was applied");
    }
    if (!options_.replica) continue;
    const uint64_t first = down_.First(chunk);
    NesterovStep(mean, step.lr, step.momentum, std::span(parameters_).subspan(first, mean.size()),
                 std::span(momentum_).subspan(first, mean.size()));
  }
  version_ = step.version;
  ready_.reset();
  return absl::OkStatus();
}

// The round of the old version is decided, and with it every contribution to it, whether it is
// known to this process or was left by an earlier one.
absl::Status Reducer::ForgetContributions() {
  sum_.Clear();
  logs_.clear();
  weights_.clear();
  const std::string folder = LogFolder(options_);
  for (const std::string& name : options_.storage->List(folder)) {
    RETURN_IF_ERROR(options_.storage->Remove(folder + "/" + name));
  }
  return absl::OkStatus();
}

std::vector<ContributionId> Reducer::Contributions() const {
  std::vector<ContributionId> ids;
  for (const auto& [id, log] : logs_) ids.push_back(id);
  return ids;
}

absl::StatusOr<StoredChunk> Reducer::AggregateChunk(Version version, uint32_t chunk) const {
  return files_.ReadChunk(version, chunk);
}

absl::StatusOr<std::vector<uint32_t>> Reducer::AggregateChunkBytes(Version version) const {
  return files_.ChunkBytes(version);
}

absl::Status Reducer::DeleteAggregatesBefore(Version version) {
  return files_.DeleteAggregatesBefore(version);
}

uint64_t Reducer::MemoryBytes() const {
  uint64_t bytes = sum_.MemoryBytes();
  for (const std::vector<float>* v : {&parameters_, &momentum_, &residual_}) {
    bytes += v->capacity() * sizeof(float);
  }
  for (const auto& [id, log] : logs_) bytes += log->MemoryBytes();
  return bytes;
}

}  // namespace longhaul
