// Fetches one object, in parts from several holders at once or as a whole from one. Each part is
// an object of its own with its own root; together they must have the whole's. A part that does not
// come from its holder can fall back to the coordinator.
//
// Pure: no clock, no thread, no socket. Owned by one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/time.h"
#include "proto/chunk.h"
#include "proto/messages.h"
#include "transport/transfer.h"

namespace longhaul {

inline constexpr uint64_t kFetchWindowBytes = 4 * 1024 * 1024;  // of each part, at rest
// What the parts of an object have beyond that, together, where the way from a holder asks for it.
inline constexpr uint64_t kFetchSharedBytes = 128 * 1024 * 1024;
inline constexpr Duration kFetchStall = Seconds(5);  // without a chunk: ask again

class PartedFetch {
 public:
  struct Part {
    ObjectInfo object;
    WorkerKey holder;  // zero: the coordinator
  };
  struct Options {
    ObjectInfo whole;         // with `check_whole` its root is compared, too
    std::vector<Part> parts;  // in order; none: the whole from the coordinator
    bool check_whole = true;
    bool fall_back = true;                    // to the coordinator, at the first trouble
    std::function<uint64_t()> next_transfer;  // a number that was never given before
    std::function<bool(const WorkerKey& holder, const Fetch&)> ask;  // false: it was not sent
    // Optional. The window of one of `transfers` from there; see CreditWindows::Window.
    std::function<uint64_t(const WorkerKey& holder, size_t transfers, uint64_t taken_bytes,
                           uint64_t shared_bytes)>
        window;
  };

  // InvalidArgument: sizes that cannot be, or parts that do not make up the whole.
  static absl::StatusOr<PartedFetch> Create(Options options);

  void Start(Timestamp now);
  // A chunk, wherever it belongs; what does not belong here is ignored.
  void OnChunk(const WorkerKey& from, const ChunkHeader& header, ByteSpan payload, Timestamp now);
  // A chunk that is here already.
  void Fill(size_t part, uint32_t chunk, std::string payload);
  // The holder does not have it. False: nobody else is left to ask.
  bool OnRefused(const WorkerKey& from, const ObjectId& object, Timestamp now);
  // The connection is new: what was outstanding lapsed.
  void OnConnected(const WorkerKey& holder, Timestamp now);
  void Tick(Timestamp now);

  // All there, and every root right.
  bool complete() const { return complete_; }
  const ObjectInfo& whole() const { return options_.whole; }
  const std::vector<Part>& parts() const { return options_.parts; }
  // The payloads of all chunks, in order. Requires complete(); once.
  std::shared_ptr<std::vector<std::string>> Take() { return std::move(chunks_); }

 private:
  struct Receiving {
    ChunkReceiver receiver;
    size_t first = 0;  // index of its first chunk in chunks_
    uint64_t transfer = 0;
    Timestamp last_chunk;
  };

  explicit PartedFetch(Options options) : options_(std::move(options)) {}
  void Ask(size_t part, bool new_attempt, Timestamp now);
  void FallBack(size_t part, Timestamp now);
  void SetWindow(size_t part);
  void Check(Timestamp now);

  Options options_;
  std::vector<Receiving> receiving_;  // of options_.parts
  std::shared_ptr<std::vector<std::string>> chunks_;
  bool complete_ = false;
};

}  // namespace longhaul
