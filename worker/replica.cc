#include "worker/replica.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "common/check.h"
#include "common/hash.h"
#include "common/status_macros.h"
#include "proto/chunk.h"
#include "sync/error_feedback.h"
#include "sync/float_mode.h"
#include "sync/outer_step.h"
#include "sync/schedule.h"
#include "sync/state_hash.h"

namespace longhaul {
namespace {

static_assert(kChunkElements == kStateChunkElements, "a state transfer's root is the state hash");

// Calls do(chunk, offset, size) for consecutive chunks; stops at the first error.
template <class F>
absl::Status ForEachChunk(uint64_t elements, F&& f) {
  for (uint64_t at = 0, chunk = 0; at < elements; at += kChunkElements, ++chunk) {
    RETURN_IF_ERROR(f(chunk, at, std::min(kChunkElements, elements - at)));
  }
  return absl::OkStatus();
}

uint64_t ChunkCount(uint64_t elements) { return (elements + kChunkElements - 1) / kChunkElements; }

std::span<float> Part(std::vector<float>& v, uint64_t at, uint64_t n) {
  return std::span(v).subspan(at, n);
}

// θ̄ ‖ b of `n` elements, all finite.
absl::Status CheckStateChunk(const std::string& payload, uint64_t n) {
  if (payload.size() != 2 * n * sizeof(float))
    return absl::InvalidArgumentError("a state chunk of the wrong size");
  for (uint64_t i = 0; i < 2 * n; ++i) {
    float value;
    std::memcpy(&value, payload.data() + i * sizeof(float), sizeof value);
    if (!std::isfinite(value))
      return absl::InvalidArgumentError("a state with a value that is not finite");
  }
  return absl::OkStatus();
}

std::vector<SlicePart> PartsOf(const std::vector<std::string>& chunks,
                               const std::vector<Digest>& digests,
                               const std::vector<uint32_t>& slices) {
  std::vector<SlicePart> parts;
  size_t first = 0;
  for (uint32_t n : slices) {
    if (n == 0 || n > chunks.size() - first) return {};  // of another fragment than ours
    SlicePart part{.chunks = n};
    const auto at = static_cast<ptrdiff_t>(first);
    for (size_t i = first; i < first + n; ++i) part.bytes += chunks[i].size();
    part.root = RootDigest({digests.begin() + at, digests.begin() + at + n});
    parts.push_back(part);
    first += n;
  }
  return parts;
}

absl::Status DecodeChunk(const Codec& codec, uint64_t at, const std::string& payload,
                         std::span<float> out) {
  if (codec.DecodeChunk(at, AsBytes(payload), out)) return absl::OkStatus();
  return absl::InvalidArgumentError("a chunk is not a valid encoding");
}

}  // namespace

Replica::Replica(Options options, FragmentId fragment, FragmentLayout layout, Trainer& trainer)
    : options_(std::move(options)),
      fragment_(fragment),
      layout_(std::move(layout)),
      trainer_(trainer),
      up_(MakeCodec(options_.codec_up, options_.tensors)),
      down_(MakeCodec(options_.codec_down, options_.tensors)) {
  LONGHAUL_CHECK(up_ != nullptr && down_ != nullptr, "codecs come from a checked configuration");
}

FragmentState Replica::state() const { return {fragment_, version_, hash_}; }

void Replica::GetLocal(uint64_t at, std::span<float> out) const {
  ForStretches(layout_, at, out.size(), [&](uint64_t flat, uint64_t from, uint64_t n) {
    trainer_.GetParameters(flat, out.subspan(from, n));
  });
}

void Replica::SetLocal(uint64_t at, std::span<const float> values) {
  ForStretches(layout_, at, values.size(), [&](uint64_t flat, uint64_t from, uint64_t n) {
    trainer_.SetParameters(flat, values.subspan(from, n));
  });
}

absl::Status Replica::SetResidual(std::vector<float> residual) {
  if (!residual.empty() && residual.size() != layout_.elements)
    return absl::InvalidArgumentError("a residual of the wrong size");
  if (options_.residual_decay >= 0) residual_ = std::move(residual);
  return absl::OkStatus();
}

absl::Status Replica::Load(Version version, std::vector<std::string>&& chunks) {
  const ScopedFloatMode mode;
  const uint64_t elements = layout_.elements;
  if (chunks.size() != ChunkCount(elements))
    return absl::InvalidArgumentError("a state of the wrong size");
  RETURN_IF_ERROR(ForEachChunk(elements, [&](uint64_t chunk, uint64_t, uint64_t n) {
    return CheckStateChunk(chunks[chunk], n);
  }));
  Unload();
  parameters_.reserve(elements);
  momentum_.reserve(elements);
  for (std::string& payload : chunks) {
    const size_t at = parameters_.size();
    const size_t bytes = payload.size() / 2;
    parameters_.resize(at + bytes / sizeof(float));
    momentum_.resize(at + bytes / sizeof(float));
    std::memcpy(&parameters_[at], payload.data(), bytes);
    std::memcpy(&momentum_[at], payload.data() + bytes, bytes);
    payload = std::string();
  }
  version_ = version;
  hash_ = StateHash(parameters_, momentum_);
  ResetProgress(/*residual=*/false);
  return absl::OkStatus();
}

void Replica::Unload() {
  parameters_ = {};
  momentum_ = {};
  sent_ = {};
  code_.reset();
}

void Replica::Collect(uint64_t at, std::span<float> out) {
  std::span<float> sent = Part(sent_, at, out.size());
  GetLocal(at, sent);
  std::span<float> e = residual_.empty() ? std::span<float>() : Part(residual_, at, out.size());
  WithResidual(options_.residual_decay, e, Part(parameters_, at, out.size()), sent, out);
}

absl::StatusOr<Replica::Coded> Replica::Code(const std::vector<uint32_t>& slices) {
  LONGHAUL_CHECK(!parameters_.empty(), "a replica contributes before it has a state");
  const ScopedFloatMode mode;
  sent_.resize(parameters_.size());
  if (options_.residual_decay >= 0) residual_.resize(parameters_.size());
  const auto not_finite = absl::InvalidArgumentError("the pseudo-gradient is not finite");
  const std::optional<CodecPlan> plan =
      MakePlan(*up_, parameters_.size(), kChunkElements,
               [&](uint64_t at, std::span<float> out) { Collect(at, out); });
  if (!plan) return not_finite;
  auto chunks = std::make_shared<std::vector<std::string>>();
  Coded coded;
  std::vector<Digest> digests;
  std::vector<float> values(std::min<uint64_t>(kChunkElements, parameters_.size()));
  std::vector<std::byte> buffer(up_->EncodedBytes(values.size()));
  RETURN_IF_ERROR(
      ForEachChunk(parameters_.size(), [&](uint64_t, uint64_t at, uint64_t n) -> absl::Status {
        const std::span<float> part = std::span(values).first(n);
        Collect(at, part);
        const std::optional<size_t> bytes = up_->EncodeChunk(*plan, at, part, buffer);
        if (!bytes) return not_finite;
        std::string payload(reinterpret_cast<const char*>(buffer.data()), *bytes);
        digests.push_back(ChunkDigest(AsBytes(payload)));
        coded.object.bytes += payload.size();
        chunks->push_back(std::move(payload));
        return absl::OkStatus();
      }));
  coded.object.chunks = static_cast<uint32_t>(chunks->size());
  coded.object.root = RootDigest(digests);
  coded.slices = PartsOf(*chunks, digests, slices);
  coded.chunks = code_ = std::move(chunks);
  sent_in_progress_ = true;
  return coded;
}

void Replica::Resolve(Outcome outcome) {
  if (!code_) return;
  const ScopedFloatMode mode;
  if (outcome == Outcome::kDropped && sent_in_progress_) {
    std::vector<float> local(std::min<uint64_t>(kChunkElements, parameters_.size()));
    absl::Status status =
        ForEachChunk(parameters_.size(), [&](uint64_t, uint64_t at, uint64_t n) -> absl::Status {
          std::span<float> theta = std::span(local).first(n);
          GetLocal(at, theta);
          Rebase(Part(sent_, at, n), Part(parameters_, at, n), theta);
          SetLocal(at, theta);
          return absl::OkStatus();
        });
    LONGHAUL_CHECK(status.ok(), "nothing here can fail");
  }
  if (outcome == Outcome::kIncluded) {
    std::vector<float> decoded(std::min<uint64_t>(kChunkElements, parameters_.size()));
    absl::Status status = ForEachChunk(
        residual_.size(), [&](uint64_t chunk, uint64_t at, uint64_t n) -> absl::Status {
          std::span<float> d = std::span(decoded).first(n);
          RETURN_IF_ERROR(DecodeChunk(*up_, at, (*code_)[chunk], d));
          ResidualAfter(options_.residual_decay, Part(parameters_, at, n), Part(sent_, at, n), d,
                        Part(residual_, at, n));
          return absl::OkStatus();
        });
    LONGHAUL_CHECK(status.ok(), "a worker can decode what it coded");
    progress_from_sent_ = sent_in_progress_;
  }
  if (!progress_from_sent_) sent_.clear();
  sent_in_progress_ = false;
  code_.reset();
}

absl::Status Replica::Apply(const CommitView& commit, const std::vector<std::string>& chunks) {
  LONGHAUL_CHECK(!parameters_.empty(), "a replica applies a commit before it has a state");
  const ScopedFloatMode mode;
  if (commit.version != version_.Next() || chunks.size() != ChunkCount(parameters_.size())) {
    return absl::InvalidArgumentError("an aggregate of the wrong version or size");
  }
  const float lr = std::bit_cast<float>(commit.outer_lr_bits);
  const float momentum = std::bit_cast<float>(commit.outer_momentum_bits);
  const size_t most = std::min<uint64_t>(kChunkElements, parameters_.size());
  std::vector<float> delta(most), before(most), local(most);
  RETURN_IF_ERROR(ForEachChunk(
      parameters_.size(), [&](uint64_t chunk, uint64_t at, uint64_t n) -> absl::Status {
        std::span<float> mean = std::span(delta).first(n);
        RETURN_IF_ERROR(DecodeChunk(*down_, at, chunks[chunk], mean));
        std::span<float> global = Part(parameters_, at, n);
        std::span<float> from = std::span(before).first(n);
        std::copy_n((progress_from_sent_ ? Part(sent_, at, n) : global).begin(), n, from.begin());
        NesterovStep(mean, lr, momentum, global, Part(momentum_, at, n));
        std::span<float> theta = std::span(local).first(n);
        GetLocal(at, theta);
        if (options_.mixing >= 0) {
          Mix(options_.mixing, global, theta);
        } else {
          Rebase(from, global, theta);
        }
        SetLocal(at, theta);
        return absl::OkStatus();
      }));
  if (std::exchange(progress_from_sent_, false)) sent_.clear();
  version_ = commit.version;
  hash_ = StateHash(parameters_, momentum_);
  return absl::OkStatus();
}

void Replica::ResetProgress(bool residual) {
  if (!parameters_.empty()) SetLocal(0, parameters_);
  sent_in_progress_ = false;
  progress_from_sent_ = false;
  if (!residual) return;
  std::fill(residual_.begin(), residual_.end(), 0.0f);
  sent_.clear();
  code_.reset();
}

}  // namespace longhaul
