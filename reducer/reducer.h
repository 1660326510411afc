// The reducer of one fragment: takes coded contributions, keeps them on disk, adds them up exactly,
// and turns the sum into a coded aggregate and the next version of the global parameters.
//
// A version's life (DESIGN section 5):
//   Expect, AddChunk ... -> Held     a contribution is durable and in the sum
//   Close -> Prepared                aggregate and residual are durable; nothing visible has
//   changed Install                          after the coordinator has made the commit durable
// Every result is a function of the list of contributions and weights alone: not of the order of
// arrival, of what came late or was dropped, of earlier attempts, or of restarts.
//
// Memory and descriptors: parameters, momentum, residual (4 bytes per element each) and the sum
// (8; 12 for the contributor mean), plus a few chunks, plus 32 bytes per chunk and one open file
// for each contribution that is still arriving.
//
// Pure but for Storage: no clock, no thread, no socket. Owned by one thread. A status other than
// those named at a function is the storage's: the process must end.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/storage.h"
#include "compression/codec.h"
#include "proto/chunk.h"
#include "proto/messages.h"
#include "reducer/aggregate_files.h"
#include "reducer/aggregator.h"
#include "reducer/contribution_log.h"

namespace longhaul {

inline constexpr size_t kMaxContributions = 16384;  // expected at one time

class Reducer {
 public:
  struct Options {
    Storage* storage = nullptr;  // outlives the reducer
    std::string folder;          // its own; made when absent
    FragmentId fragment;
    uint64_t elements = 0;
    CodecSpec codec_up = CodecId::kInt8;    // of contributions
    CodecSpec codec_down = CodecId::kInt8;  // of aggregates
    float beta_down = 0.9f;                 // decay of the residual; negative = no error feedback
    uint64_t chunk_elements = kChunkElements;
    std::vector<TensorSpan> layout;  // of the fragment; empty: one matrix
    AggregationRules rules;
    // A slice: `elements` from this chunk of the fragment on.
    uint32_t first_chunk = 0;
    // No: only adds up and codes. It has no parameters, knows no state that follows, and Load takes
    // empty ones.
    bool replica = true;
  };

  struct Held {
    ContributionId id;
    // Sum of the squared grid values, in units of 2^-80 (sync/exact_sum.h).
    uint64_t squared_norm_high = 0;
    uint64_t squared_norm_low = 0;
    auto operator<=>(const Held&) const = default;
  };
  struct Progress {
    uint32_t have = 0;
    uint32_t chunks = 0;
    std::optional<Held> held;  // once all chunks are there and durable
    auto operator<=>(const Progress&) const = default;
  };

  struct Included {
    ContributionId id;
    uint32_t weight = 0;
    auto operator<=>(const Included&) const = default;
  };
  struct CloseOrder {
    RoundId round;
    uint32_t attempt = 0;
    Version version;  // the new one
    std::vector<Included> include;
    uint64_t divisor = 0;  // of the weighted sum: the sum of the weights, or PerStepDivisor
    float outer_lr = 0;
    float outer_momentum = 0;
    std::vector<uint32_t> slices;  // chunks of each: they are coded each on its own; empty: one
  };
  struct Prepared {
    ObjectInfo aggregate;
    Digest state_hash{};  // of the fragment at the new version (sync/state_hash.h)
    auto operator<=>(const Prepared&) const = default;
  };

  struct Recovered {
    bool residual_reset = false;  // it was missing or damaged, and is zero now
  };

  // InvalidArgument: options that make no sense. The state is all zero until Load.
  static absl::StatusOr<std::unique_ptr<Reducer>> Open(const Options& options);

  // Sets the whole state; contributions, sum and what was prepared are forgotten (logs on disk
  // stay). `residual` may be empty: zero. InvalidArgument: another size, or not finite.
  absl::Status Load(Generation generation, Version version, std::span<const float> parameters,
                    std::span<const float> momentum, std::span<const float> residual);

  // After Load of a checkpoint: applies the stored aggregates of consecutive versions, then takes
  // the residual of the last one. With no commits the loaded residual stays. InvalidArgument: not
  // the next version of this fragment. NotFound, DataLoss: an aggregate is absent, or its root or
  // the state hash is not that of the commit; versions before it are applied. FailedPrecondition:
  // contributions are already expected.
  absl::StatusOr<Recovered> Recover(std::span<const CommitView> commits);

  // Makes ready for a contribution to the current version; its chunks from before a restart count.
  // Repeating it is harmless. InvalidArgument: not of this generation, fragment and version, or
  // wrong in size, or known with other content; weight 0 or too large. FailedPrecondition:
  // kMaxContributions.
  absl::StatusOr<Progress> Expect(const ObjectInfo& contribution, uint32_t weight);

  // Any order; duplicates are ignored. NotFound: not expected. DataLoss: damaged on the way or on
  // disk; Expect it again and ask for what is missing. InvalidArgument: the content is not
  // acceptable (wrong shape, not decodable, another root than announced); it has been dropped.
  absl::StatusOr<Progress> AddChunk(const ContributionId& id, const ChunkHeader& header,
                                    ByteSpan payload);

  // What is still to come, as increasing runs, at most `max_runs`; empty when held or unknown.
  std::vector<ChunkRun> MissingChunks(const ContributionId& id, size_t max_runs) const;

  // Takes it out of the sum and deletes its log. Unknown ids are ignored.
  absl::Status Drop(const ContributionId& id);

  // InvalidArgument: not the next version, an empty list, an id twice or not held, weights or
  // divisor out of range. DataLoss: a log cannot be read any more (Drop it, close again without
  // it). May be repeated, with the same or another list, until Install.
  absl::StatusOr<Prepared> Close(const CloseOrder& order);

  // Of contributions that Close refused: which are not held, or cannot be read any more. The latter
  // are dropped.
  absl::StatusOr<std::vector<ContributionId>> TakeUnusable(const std::vector<Included>& list);

  // Close for an aggregate that others made, from its chunks. `order` has no list and no divisor.
  // The residual becomes zero. InvalidArgument: not the next version, or not such an aggregate.
  absl::StatusOr<Prepared> Assemble(const CloseOrder& order, std::span<const std::string> chunks);

  // The commit of exactly this attempt is durable: the next version becomes the current one; every
  // contribution to the old one is decided, and its log deleted. FailedPrecondition: not prepared.
  // NotFound, DataLoss: what was prepared is absent or damaged; nothing has changed.
  absl::Status Install(RoundId round, uint32_t attempt);

  // NotFound: not stored (any more). DataLoss: damaged. The caller sets header.transfer.
  absl::StatusOr<StoredChunk> AggregateChunk(Version version, uint32_t chunk) const;
  // Payload bytes of each of its chunks. Errors as above.
  absl::StatusOr<std::vector<uint32_t>> AggregateChunkBytes(Version version) const;
  absl::Status DeleteAggregatesBefore(Version version);

  std::span<const float> parameters() const { return parameters_; }
  std::span<const float> momentum() const { return momentum_; }
  std::span<const float> residual() const { return residual_; }  // empty without error feedback
  Version version() const { return version_; }
  size_t contributions() const { return logs_.size(); }
  std::vector<ContributionId> Contributions() const;  // expected or held
  uint64_t MemoryBytes() const;  // all that grows with the fragment or the contributions

 private:
  struct OuterStep {
    Version version;  // the new one
    Digest aggregate_root{};
    Digest state_hash{};
    float lr = 0;
    float momentum = 0;
  };
  // What Close has left for Install.
  struct Ready {
    RoundId round;
    uint32_t attempt = 0;
    OuterStep step;
  };

  // A codec and the shape that it gives the fragment.
  struct Coding {
    std::unique_ptr<const Codec> codec;
    CodedShape shape;
  };
  static absl::StatusOr<Coding> MakeCoding(const Options& options, const CodecSpec& spec);
  Reducer(const Options& options, Coding up, Coding down, AggregateFiles files);

  absl::StatusOr<Progress> ProgressOf(ContributionLog& log);
  absl::Status CheckOrder(const CloseOrder& order) const;
  absl::StatusOr<Prepared> Prepare(const CloseOrder& order);
  CodecPlan PlanSlice(uint32_t first_chunk, uint32_t chunks) const;
  // What Prepare and Assemble have in common: takes what they made of each chunk, in order.
  struct Making {
    AggregateFiles::Writer writer;
    std::vector<Digest> state;
    Prepared prepared;
  };
  absl::Status Take(Making& making, const CloseOrder& order, ByteSpan payload,
                    std::span<const float> decoded, std::span<const float> left) const;
  absl::StatusOr<Prepared> Finish(Making& making, const CloseOrder& order);
  void MeanOf(uint64_t first, std::span<float> mean) const;
  absl::Status Verify(const OuterStep& step) const;
  absl::Status Apply(const OuterStep& step);
  absl::Status ForgetContributions();
  Digest NextStateChunk(uint64_t first, std::span<const float> mean, float lr,
                        float momentum) const;

  Options options_;
  Coding up_coding_;
  Coding down_coding_;
  CodedShape up_;
  CodedShape down_;
  AggregateFiles files_;
  Generation generation_;
  Version version_;
  std::vector<float> parameters_;
  std::vector<float> momentum_;
  std::vector<float> residual_;
  Aggregator::Logs logs_;
  std::map<ContributionId, uint32_t> weights_;  // as expected, of every log
  Aggregator sum_;
  std::optional<Ready> ready_;
};

}  // namespace longhaul
