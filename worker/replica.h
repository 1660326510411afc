// A worker's copies of one fragment and the arithmetic of its rounds (docs/ARCHITECTURE.md).
// Drives its part of the trainer's θ.
//
// Thread rule: the trainer thread makes every call. Memory: four float32 copies of the fragment
// (θ̄, outer momentum, residual, θ as sent) plus the coded contribution, beside the trainer's. The
// first two are taken by the first Load, the others by the first Code: by then the chunks of the
// state, two copies, are gone.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "compression/codec.h"
#include "proto/messages.h"
#include "sync/fragments.h"
#include "worker/core/worker.h"
#include "worker/trainer.h"

namespace longhaul {

// Payloads of a chunked object, in order. Shared with the thread that sends or received them; never
// changed.
using Chunks = std::shared_ptr<const std::vector<std::string>>;
// The same on its way to the trainer thread, which is its only user then.
using Fetched = std::shared_ptr<std::vector<std::string>>;

class Replica {
 public:
  struct Options {
    CodecSpec codec_up = CodecId::kInt8;
    CodecSpec codec_down = CodecId::kInt8;
    float residual_decay = 0.9f;      // negative: no error feedback
    std::vector<TensorSpan> tensors;  // of the fragment, for both codecs; empty: one matrix
    float mixing = -1;  // negative: local progress is carried over; else Mix (sync/schedule.h)
  };
  // `layout`: which of the trainer's parameters these are. `trainer` outlives the replica.
  Replica(Options options, FragmentId fragment, FragmentLayout layout, Trainer& trainer);

  // θ̄ and momentum from a snapshot's chunks (θ̄ ‖ b, raw float32, kChunkElements each);
  // θ = θ̄. The residual stays, a sent contribution is forgotten. InvalidArgument when sizes do
  // not fit or a value is not finite.
  // `chunks` are given back piece by piece, so that there are never two whole states.
  absl::Status Load(Version version, std::vector<std::string>&& chunks);
  // Gives back all memory but the residual's, because a snapshot will come: Load before anything
  // else but Resolve and ResetProgress.
  void Unload();

  struct Coded {
    ObjectInfo object;  // everything but its id
    Chunks chunks;
    std::vector<SlicePart> slices;  // as asked for
  };
  // `slices`: chunks of each part that is to be named; those together are all, or there are none.
  // e' = βe + (θ̄ − θ), coded; θ is remembered as sent. Requires Load. InvalidArgument when a value
  // is not finite.
  absl::StatusOr<Coded> Code(const std::vector<uint32_t>& slices = {});
  // The sent contribution is decided. Included: e ← e' − decode(code), and local progress counts
  // from θ_sent. Dropped: θ ← θ̄ + (θ − θ_sent), e as it was before the send.
  void Resolve(Outcome outcome);
  // One outer step from a committed aggregate; θ ← θ̄ + local progress. Requires Load.
  absl::Status Apply(const CommitView& commit, const std::vector<std::string>& chunks);
  // θ = θ̄. `residual`: e = 0 and the sent contribution is forgotten.
  void ResetProgress(bool residual);

  FragmentState state() const;
  std::span<const float> residual() const { return residual_; }  // empty: zero
  // From a snapshot, before Load. InvalidArgument: another size.
  absl::Status SetResidual(std::vector<float> residual);
  const std::vector<float>& parameters() const { return parameters_; }

 private:
  // Values [at, at + out.size()) of e'; θ is remembered as sent.
  void Collect(uint64_t at, std::span<float> out);
  void GetLocal(uint64_t at, std::span<float> out) const;
  void SetLocal(uint64_t at, std::span<const float> values);

  const Options options_;
  const FragmentId fragment_;
  const FragmentLayout layout_;
  Trainer& trainer_;
  const std::unique_ptr<const Codec> up_;
  const std::unique_ptr<const Codec> down_;
  Version version_;
  Digest hash_{};
  std::vector<float> parameters_;  // θ̄; empty before Load
  std::vector<float> momentum_;    // b; empty before Load
  std::vector<float> residual_;    // e; empty: zero
  std::vector<float> sent_;        // θ when the contribution was coded; empty: none
  Chunks code_;                    // what was sent
  bool sent_in_progress_ = false;  // θ still contains what was sent
  bool progress_from_sent_ =
      false;  // local progress is θ − θ_sent (after inclusion) instead of θ − θ̄
};

}  // namespace longhaul
