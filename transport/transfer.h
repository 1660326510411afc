// Moving one large object in chunks, pull-based: the receiver says which chunks it lacks and how
// many bytes may come; the sender sends as fast as that allows. Both halves are plain state: no
// socket, no clock, no thread, no payload storage. Not thread-safe.
//
// An *attempt* is one try over one connection. Credit belongs to it: `granted` only grows, and the
// sender has never sent more payload bytes since the attempt began. When the connection ends, or
// nothing has come for a while (the caller's decision), the receiver starts a new attempt: what was
// outstanding lapses on both sides, and what is missing goes under the new attempt. Chunks may come
// in any order, twice, or late from an older attempt; the object is complete when all chunks are
// there and the root over them is the announced one.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/bytes.h"
#include "common/ids.h"

namespace longhaul {

inline constexpr uint32_t kMaxTransferChunks = 1u << 20;
inline constexpr uint64_t kMaxTransferChunkBytes = 1024 * 1024;
// A grant is said again when it has grown by one of so many parts of the window.
inline constexpr uint64_t kGrantsPerWindow = 4;

// Chunks [first, first + count).
struct ChunkSpan {
  uint32_t first = 0;
  uint32_t count = 0;
  auto operator<=>(const ChunkSpan&) const = default;
};

// The sender's half, for one receiver of one object.
class Outgoing {
 public:
  using Sizes = std::shared_ptr<const std::vector<uint32_t>>;

  // `chunk_bytes[i]` is the payload size of chunk i; shared by the transfers of one object.
  explicit Outgoing(Sizes chunk_bytes);

  // What the receiver asked for. A greater `attempt` starts over with `missing` (increasing, not
  // overlapping, not empty, within the object: InvalidArgument otherwise, and nothing changes). The
  // current attempt only raises the grant; `missing` is ignored. An older one is ignored.
  absl::Status OnFetch(uint64_t attempt, std::span<const ChunkSpan> missing,
                       uint64_t granted_bytes);

  // The chunk to send next, if there is one and the credit covers it whole. Call MarkSent once it
  // is handed to the socket.
  std::optional<uint32_t> Next() const;
  void MarkSent();

  uint64_t attempt() const { return attempt_; }        // 0: none yet
  uint64_t sent_bytes() const { return sent_bytes_; }  // in this attempt
  uint64_t granted_bytes() const { return granted_bytes_; }
  bool finished() const { return run_ == missing_.size(); }  // all asked for has been sent

 private:
  absl::Status CheckMissing(std::span<const ChunkSpan> missing) const;

  Sizes chunk_bytes_;
  uint64_t attempt_ = 0;
  std::vector<ChunkSpan> missing_;
  size_t run_ = 0;           // index into missing_
  uint32_t run_offset_ = 0;  // sent chunks of that run
  uint64_t sent_bytes_ = 0;
  uint64_t granted_bytes_ = 0;
};

// What a receiver granted to one sender, attempt by attempt, and what came of it. A sender that
// keeps to its credit is never found to overrun it: at most the stated grant of this attempt in
// chunks that come for the first time, and, as a chunk may come twice (over two connections, or
// late), at most twice all that was ever granted.
class CreditAccount {
 public:
  // Of an object of that many chunks. What is outstanding lapses, but may still come.
  void StartAttempt(uint32_t chunks);
  // Stated to the sender, for the current attempt; never less than before.
  void State(uint64_t granted_bytes) { stated_bytes_ = std::max(stated_bytes_, granted_bytes); }
  // Payload of the current attempt came, or (TakeLate) of an earlier one. False: the sender has
  // overrun its credit; nothing is counted.
  bool Take(uint32_t chunk, uint64_t bytes);
  bool TakeLate(uint64_t bytes);

  uint64_t stated_bytes() const { return stated_bytes_; }      // in this attempt
  uint64_t consumed_bytes() const { return consumed_bytes_; }  // came for the first time in it

 private:
  std::vector<bool> came_;  // chunks, in this attempt
  uint64_t stated_bytes_ = 0;
  uint64_t consumed_bytes_ = 0;
  uint64_t lapsed_bytes_ = 0;  // stated in earlier attempts
  uint64_t taken_bytes_ = 0;   // in all attempts, twice or not
};

// Why what such a sender offers is refused.
inline absl::Status OverrunError() {
  return absl::InvalidArgumentError("its sender sent more than it was granted");
}

// The receiver's half.
class ChunkReceiver {
 public:
  struct Options {
    uint32_t chunks = 0;
    uint64_t total_bytes = 0;
    Digest root{};
    // Payload bytes that may be under way at once. Raised to one chunk if smaller: less could never
    // move.
    uint64_t window_bytes = 4 * 1024 * 1024;
  };
  // kOverrun: more than was granted; whoever sends it does not keep to the rules and is to be cut.
  enum class Verdict { kNew, kDuplicate, kRefused, kOverrun };

  // InvalidArgument unless 1 <= chunks <= kMaxTransferChunks and the total fits that many chunks of
  // 1 to kMaxTransferChunkBytes.
  static absl::StatusOr<ChunkReceiver> Create(const Options& options);

  // Begins attempt 1, 2, ... with a fresh window.
  void StartAttempt();

  // A chunk whose checksum is right. `attempt` is the one it was sent under; 0 for chunks that the
  // caller kept itself. On kNew the caller keeps the payload. kRefused (see refusal()): no such
  // chunk or attempt, or an impossible size; the sender is broken or lies. kOverrun: beyond what
  // NoteGrantSent has stated.
  Verdict Accept(uint64_t attempt, uint32_t chunk, ByteSpan payload);
  const std::string& refusal() const { return refusal_; }

  // What to ask for in the current attempt: the first `max_runs` runs of what is missing now.
  std::vector<ChunkSpan> MissingRuns(size_t max_runs) const;
  // Another window from now on, raised to one chunk. What was granted stays granted.
  void SetWindow(uint64_t bytes);
  uint64_t window_bytes() const { return window_bytes_; }
  // Cumulative grant of the current attempt: consumed + window, and never less than before.
  uint64_t GrantedBytes() const {
    return std::max(credit_.stated_bytes(), credit_.consumed_bytes() + window_bytes_);
  }
  // True when the grant has grown by a quarter of the window since it was last stated: time to send
  // it again (and call NoteGrantSent).
  bool GrantDue() const {
    return GrantedBytes() - credit_.stated_bytes() >= window_bytes_ / kGrantsPerWindow;
  }
  void NoteGrantSent() { credit_.State(GrantedBytes()); }

  uint64_t attempt() const { return attempt_; }
  uint32_t chunks_held() const { return held_count_; }
  uint64_t bytes_held() const { return held_bytes_; }
  bool Has(uint32_t chunk) const { return chunk < held_.size() && held_[chunk]; }
  bool complete() const { return held_count_ == held_.size(); }
  // Complete, all bytes there, and the root is the announced one. Computed anew at each call.
  bool Verified() const;
  const std::vector<Digest>& chunk_digests() const { return digests_; }
  // Forgets all chunks (after a wrong root); attempts go on counting.
  void Reset();

 private:
  explicit ChunkReceiver(const Options& options);
  Verdict Refuse(std::string reason);
  bool PossibleSize(uint64_t bytes) const;

  Options options_;
  uint64_t largest_chunk_bytes_;
  uint64_t window_bytes_;
  uint64_t attempt_ = 0;
  CreditAccount credit_;
  std::vector<bool> held_;
  std::vector<Digest> digests_;
  uint32_t held_count_ = 0;
  uint64_t held_bytes_ = 0;
  std::string refusal_;
};

}  // namespace longhaul
