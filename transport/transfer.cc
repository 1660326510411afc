#include "transport/transfer.h"

#include <algorithm>

#include "common/check.h"
#include "common/hash.h"
#include "common/status_macros.h"

namespace longhaul {

Outgoing::Outgoing(Sizes chunk_bytes) : chunk_bytes_(std::move(chunk_bytes)) {
  LONGHAUL_CHECK(chunk_bytes_->size() <= kMaxTransferChunks, "an object has too many chunks");
}

absl::Status Outgoing::CheckMissing(std::span<const ChunkSpan> missing) const {
  uint64_t free_from = 0;
  for (const ChunkSpan& run : missing) {
    const uint64_t end = uint64_t{run.first} + run.count;
    if (run.count == 0 || run.first < free_from || end > chunk_bytes_->size()) {
      return absl::InvalidArgumentError("a fetch asks for chunks that do not exist, or twice");
    }
    free_from = end;
  }
  return absl::OkStatus();
}

absl::Status Outgoing::OnFetch(uint64_t attempt, std::span<const ChunkSpan> missing,
                               uint64_t granted_bytes) {
  if (attempt < attempt_) return absl::OkStatus();
  if (attempt > attempt_) {
    RETURN_IF_ERROR(CheckMissing(missing));
    attempt_ = attempt;
    missing_.assign(missing.begin(), missing.end());
    run_ = 0;
    run_offset_ = 0;
    sent_bytes_ = 0;
    granted_bytes_ = 0;
  }
  granted_bytes_ = std::max(granted_bytes_, granted_bytes);
  return absl::OkStatus();
}

std::optional<uint32_t> Outgoing::Next() const {
  if (finished()) return std::nullopt;
  const uint32_t chunk = missing_[run_].first + run_offset_;
  if (granted_bytes_ - sent_bytes_ < (*chunk_bytes_)[chunk]) return std::nullopt;
  return chunk;
}

void Outgoing::MarkSent() {
  const std::optional<uint32_t> chunk = Next();
  LONGHAUL_CHECK(chunk.has_value(), "a chunk was sent without credit");
  sent_bytes_ += (*chunk_bytes_)[*chunk];
  if (++run_offset_ < missing_[run_].count) return;
  ++run_;
  run_offset_ = 0;
}

void CreditAccount::StartAttempt(uint32_t chunks) {
  came_.assign(chunks, false);
  lapsed_bytes_ += stated_bytes_;
  stated_bytes_ = 0;
  consumed_bytes_ = 0;
}

// A sender sends a chunk once per attempt, so it counts once, whoever brought it first.
bool CreditAccount::Take(uint32_t chunk, uint64_t bytes) {
  if (chunk >= came_.size() || came_[chunk]) return TakeLate(bytes);
  if (bytes > stated_bytes_ - consumed_bytes_ || !TakeLate(bytes)) return false;
  came_[chunk] = true;
  consumed_bytes_ += bytes;
  return true;
}

bool CreditAccount::TakeLate(uint64_t bytes) {
  if (bytes > 2 * (lapsed_bytes_ + stated_bytes_) - taken_bytes_) return false;
  taken_bytes_ += bytes;
  return true;
}

absl::StatusOr<ChunkReceiver> ChunkReceiver::Create(const Options& options) {
  if (options.chunks == 0 || options.chunks > kMaxTransferChunks) {
    return absl::InvalidArgumentError("an object with no or too many chunks");
  }
  if (options.total_bytes < options.chunks ||
      options.total_bytes > options.chunks * kMaxTransferChunkBytes) {
    return absl::InvalidArgumentError("an object whose size does not fit its number of chunks");
  }
  return ChunkReceiver(options);
}

ChunkReceiver::ChunkReceiver(const Options& options)
    : options_(options), held_(options.chunks), digests_(options.chunks) {
  largest_chunk_bytes_ =
      std::min(kMaxTransferChunkBytes, options.total_bytes - (options.chunks - 1));
  SetWindow(options.window_bytes);
}

void ChunkReceiver::SetWindow(uint64_t bytes) {
  window_bytes_ = std::max(bytes, largest_chunk_bytes_);
}

void ChunkReceiver::StartAttempt() {
  ++attempt_;
  credit_.StartAttempt(options_.chunks);
}

ChunkReceiver::Verdict ChunkReceiver::Refuse(std::string reason) {
  refusal_ = std::move(reason);
  return Verdict::kRefused;
}

// Every chunk still missing after this one needs at least one byte of the rest.
bool ChunkReceiver::PossibleSize(uint64_t bytes) const {
  const uint64_t others = options_.chunks - held_count_ - 1;
  const uint64_t rest = options_.total_bytes - held_bytes_;
  if (bytes == 0 || bytes > kMaxTransferChunkBytes || bytes + others > rest) return false;
  return others > 0 || bytes == rest;
}

ChunkReceiver::Verdict ChunkReceiver::Accept(uint64_t attempt, uint32_t chunk, ByteSpan payload) {
  if (chunk >= options_.chunks) return Refuse("a chunk that does not exist");
  if (attempt > attempt_) return Refuse("a chunk of an attempt that was never started");
  const bool duplicate = held_[chunk];
  if (!duplicate && !PossibleSize(payload.size())) {
    return Refuse("a chunk's size does not fit the object");
  }
  if (attempt != 0 && !(attempt == attempt_ ? credit_.Take(chunk, payload.size())
                                            : credit_.TakeLate(payload.size()))) {
    refusal_ = "more than was granted";
    return Verdict::kOverrun;
  }
  if (duplicate) return Verdict::kDuplicate;
  held_[chunk] = true;
  digests_[chunk] = ChunkDigest(payload);
  ++held_count_;
  held_bytes_ += payload.size();
  return Verdict::kNew;
}

std::vector<ChunkSpan> ChunkReceiver::MissingRuns(size_t max_runs) const {
  std::vector<ChunkSpan> runs;
  for (uint32_t chunk = 0; chunk < options_.chunks; ++chunk) {
    if (held_[chunk]) continue;
    if (!runs.empty() && runs.back().first + runs.back().count == chunk) {
      ++runs.back().count;
      continue;
    }
    if (runs.size() == max_runs) break;
    runs.push_back({chunk, 1});
  }
  return runs;
}

bool ChunkReceiver::Verified() const {
  return complete() && held_bytes_ == options_.total_bytes && RootDigest(digests_) == options_.root;
}

void ChunkReceiver::Reset() {
  held_.assign(options_.chunks, false);
  held_count_ = 0;
  held_bytes_ = 0;
}

}  // namespace longhaul
