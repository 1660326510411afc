// The slices that one process reduces: a Reducer for each, fed from the contributors, closed as
// ordered, its aggregate served to whoever asks. Runs on workers, and in the coordinator's process
// for the slices that no worker takes.
//
// Level-triggered on both ends: SetOrders replaces all earlier orders, Reports says all that is
// there. A slice keeps its residual from round to round as long as the orders say that it
// continues; anything else begins from zero.
//
// Pure but for Storage: no clock, no thread, no socket. Owned by one thread. A status that is not
// OK is the storage's: nothing here can be trusted any more (FailAll).
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/time.h"
#include "proto/chunk.h"
#include "proto/messages.h"
#include "reducer/reducer.h"
#include "transport/transfer.h"

namespace longhaul {

inline constexpr size_t kMaxSeats = 2 * kMaxOrders;      // slices kept, ordered or still served
inline constexpr size_t kMaxSliceDownloads = 4096;       // served at one time; the oldest gives way
inline constexpr uint64_t kPullBytes = 4 * 1024 * 1024;  // granted to one contribution at a time
inline constexpr uint64_t kLeastPullBytes = 512 * 1024;  // when there are many
inline constexpr uint64_t kAllPullBytes = 64 * 1024 * 1024;
inline constexpr Duration kPullStall = Seconds(5);  // without a chunk: ask again
inline constexpr uint32_t kPullTries = 3;  // without a chunk: of a closed round, it is lost

class SliceHost {
 public:
  struct FragmentShape {
    uint64_t elements = 0;
    std::vector<TensorSpan> layout;  // empty: one matrix
  };
  struct Options {
    Storage* storage = nullptr;  // outlives it
    std::string folder;          // its own; a slice that begins anew empties its part
    std::vector<FragmentShape> fragments;
    CodecSpec codec_up = CodecId::kInt8;
    CodecSpec codec_down = CodecId::kInt8;
    float beta_down = 0.9f;
    AggregationRules rules;  // none that looks at norms
    uint64_t chunk_elements = kChunkElements;
    uint64_t first_attempt = 1;  // grows over lives: names fetch attempts
    std::function<void(const WorkerKey& to, const Message&)> send;
    // False: no room; Room says when there is.
    std::function<bool(const WorkerKey& to, const ChunkHeader&, std::string&& payload)> send_chunk;
    // It sent more than it was granted; its contribution is refused.
    std::function<void(const WorkerKey& from)> overrun;
  };

  explicit SliceHost(Options options) : options_(std::move(options)) {}

  // `keys`: of the sessions whose contributions are named. What does not fit a fragment is ignored.
  absl::Status SetOrders(const Generation& generation, const std::vector<SliceOrder>& orders,
                         const std::map<SessionId, WorkerKey>& keys);
  absl::Status OnChunk(const WorkerKey& from, const ChunkHeader& header, ByteSpan payload);
  void OnFetch(const WorkerKey& from, const Fetch& fetch);
  void OnRoom();
  // Its connection is new: what it owes is asked for there.
  void OnConnected(const WorkerKey& peer);
  absl::Status Tick(Timestamp now);
  // Every ordered slice is reported as failed.
  void FailAll();

  // Of the ordered slices.
  std::vector<SliceReport> Reports() const;
  // Whether Reports says anything new since this was asked last.
  bool TakeChanged() { return std::exchange(changed_, false); }

  // Of an aggregate that is ready here. NotFound: it is not.
  absl::StatusOr<StoredChunk> ReadChunk(const ObjectId& object, uint32_t chunk) const;

 private:
  using SeatId = std::pair<FragmentId, uint32_t>;  // first chunk
  struct Pull {
    ObjectInfo object;
    uint64_t attempt = 0;
    uint64_t window_bytes = 0;
    CreditAccount credit;
    uint32_t tries = 0;  // attempts that brought nothing
    Timestamp last_chunk;
  };
  struct Seat {
    SliceOrder order;
    bool ordered = false;
    std::unique_ptr<Reducer> reducer;
    std::map<ContributionId, Pull> pulls;
    SliceReport report;
  };
  struct Download {
    Outgoing outgoing;
    uint64_t last_use = 0;
  };

  absl::Status Update(const SliceOrder& order);
  // Ready for the order's round and base; false: it has not what it should continue.
  absl::StatusOr<bool> BeginRound(Seat& seat, const SliceOrder& order);
  absl::Status OpenReducer(Seat& seat, const SliceOrder& order);
  absl::Status Collect(SeatId id, Seat& seat);
  absl::Status DropUnlisted(Seat& seat);
  absl::Status Note(SeatId id, Seat& seat, const ContributionId& contribution,
                    const absl::StatusOr<Reducer::Progress>& progress);
  absl::Status TryClose(Seat& seat);
  void StartPull(SeatId id, Seat& seat, const ContributionId& contribution, Pull& pull);
  void Grant(const ContributionId& id, const Pull& pull, std::vector<ChunkRun> missing);
  void StopPull(Seat& seat, const ContributionId& id);
  absl::StatusOr<const Reducer*> ReducerOf(const ObjectId& object) const;
  absl::StatusOr<std::vector<uint32_t>> SizesOf(const ObjectId& object) const;
  void Pump(const WorkerKey& to, const ObjectId& object, Download& download);
  void EraseOldSeats();
  void Lose(Seat& seat, const ContributionId& id);

  const Options options_;
  Generation generation_;
  Timestamp now_;
  uint64_t attempts_made_ = 0;
  std::map<SeatId, Seat> seats_;
  std::map<SessionId, WorkerKey> keys_;
  std::map<uint64_t, std::pair<SeatId, ContributionId>> attempts_;  // of all pulls
  std::map<std::pair<WorkerKey, ObjectId>, Download> downloads_;
  uint64_t uses_ = 0;
  bool changed_ = false;
};

}  // namespace longhaul
