// The reducer inside the coordinator's process: a thread that owns the Reducer, pulls
// contributions, serves aggregates and states to workers, and writes checkpoints (all of them need
// the parameters, so one thread does all of them in order). In a round that workers reduce, it
// reduces the slices that no worker takes, and puts the aggregate together from all of them.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "common/bounded_queue.h"
#include "common/storage.h"
#include "coordinator/core/effects.h"
#include "model/checkpoint.h"
#include "proto/chunk.h"
#include "proto/messages.h"
#include "reducer/parted_fetch.h"
#include "reducer/reducer.h"
#include "reducer/slice_host.h"
#include "sync/fragments.h"
#include "transport/credit_windows.h"
#include "transport/frame.h"
#include "transport/link_table.h"
#include "transport/transfer.h"

namespace longhaul {

inline constexpr size_t kMaxReducerCommands = 65536;
// Granted to one contribution at a time, at rest; and what all of them together have beyond that,
// where the way from a worker asks for it.
inline constexpr uint64_t kUploadWindowBytes = 4 * 1024 * 1024;
inline constexpr uint64_t kUploadSharedBytes = 128 * 1024 * 1024;
inline constexpr size_t kMaxDownloads = 4096;         // served at one time; the oldest gives way
inline constexpr Duration kUploadStall = Seconds(5);  // without a chunk: ask again
inline constexpr uint32_t kUploadTries = 3;           // without a chunk: of a closed round, lost

class ReducerThread {
 public:
  struct Options {
    Storage* storage = nullptr;  // the run folder; outlives the thread
    LlamaShape shape;
    std::vector<FragmentLayout> layout;
    uint32_t checkpoints_kept = 2;
    uint64_t first_attempt = 1;              // grows over restarts: names fetch attempts
    SliceHost::Options slices;               // its callbacks and first attempt are set here
    std::function<void(EventBody)> post;     // to the core's loop
    std::function<void(absl::Status)> fail;  // the process must end
    std::function<void(const std::string& route, const Message&)> send_control;  // any thread
    std::function<bool(const std::string& route, std::vector<Frame>&&)>
        send_bulk;                                                 // any thread; false: no room
    std::function<std::optional<LinkRow>(const WorkerKey&)> link;  // any thread
    std::function<void(const WorkerKey&)> cut_overrun;  // its connections; any thread
  };

  // One reducer per fragment. `newest`: the checkpoint that is served to joiners.
  ReducerThread(Options options, std::vector<std::unique_ptr<Reducer>> reducers,
                const CheckpointState& newest);
  ~ReducerThread();
  // Finishes the command in hand and calls nobody afterwards; by the owner, any number of times.
  void Stop();

  // All of these: any thread; false when the queue is full (whatever was lost is asked for again).
  bool Expect(const ExpectContribution& request, const WorkerKey& user, const std::string& route);
  // The session's connection is new: what it owes is asked for there.
  bool RouteChanged(SessionId session, const WorkerKey& key, const std::string& route);
  bool Slices(const Generation& generation, const ReduceSlices& request);
  bool Assemble(const AssembleRound& request);
  bool Chunk(const WorkerKey& user, std::vector<Frame>&& frames);
  bool Serve(const std::string& route, const Fetch& fetch);
  bool Room(const std::string& route);
  bool Drop(const DropContribution& request);
  bool Reduce(const ReduceRound& request);
  bool Install(const InstallRound& request);
  // `state.fragments` is filled in here.
  bool Checkpoint(const StoreCheckpoint& request, const CheckpointState& state);
  bool Tick(Timestamp now);

 private:
  struct Upload {
    ObjectInfo object;
    WorkerKey user;
    std::string route;
    uint64_t attempt = 0;
    CreditAccount credit;
    uint64_t window_bytes = kUploadWindowBytes;
    uint32_t tries = 0;  // attempts that brought nothing
    Timestamp last_chunk;
  };
  struct Download {
    Outgoing outgoing;
    ObjectId object;
    std::string route;
    uint64_t last_use = 0;
  };

  template <class F>
  bool Post(F&& command);
  void Run();
  void DoExpect(const ExpectContribution& request, const WorkerKey& user, const std::string& route);
  void DoChunk(const WorkerKey& user, const std::vector<Frame>& frames);
  void DoServe(const std::string& route, const Fetch& fetch);
  void DoCheckpoint(const StoreCheckpoint& request, CheckpointState state);
  absl::Status WriteModel(const std::string& path, const std::string& leases,
                          const CheckpointState& state);
  absl::Status FindKept();
  void TryReduce(FragmentId fragment);
  void LoseStalled();
  void Lose(const ReduceRound& reduce, std::vector<ContributionId> lost);
  void TellSlices();
  void DoAssemble(const AssembleRound& request);
  void TryAssemble(FragmentId fragment);
  Reducer& Of(FragmentId fragment) { return *reducers_.at(fragment.value); }
  void StartAttempt(ContributionId id, Upload& upload);
  void Grant(Upload& upload, std::vector<ChunkRun> missing);
  static bool GrantDue(const Upload& upload);
  uint64_t WindowFor(const Upload& upload);
  void MeasureLink(const WorkerKey& user);
  void AfterProgress(FragmentId fragment, ContributionId id,
                     const absl::StatusOr<Reducer::Progress>& progress);
  void Pump(Download& download);
  absl::StatusOr<Outgoing::Sizes> SizesOf(const ObjectId& object);
  absl::StatusOr<StoredChunk> ReadChunk(const ObjectId& object, uint32_t chunk);
  absl::StatusOr<StoredChunk> ReadStateChunk(const ObjectId& object, uint32_t chunk);
  bool Check(const absl::Status& status);

  const Options options_;
  std::vector<std::unique_ptr<Reducer>> reducers_;  // by fragment
  BoundedQueue<std::function<void()>> commands_{kMaxReducerCommands};
  Timestamp now_;
  uint64_t next_attempt_;
  std::map<ContributionId, Upload> uploads_;     // not complete yet
  std::map<uint64_t, ContributionId> attempts_;  // of uploads_
  CreditWindows credit_{kUploadWindowBytes};
  std::map<FragmentId, ReduceRound> reduce_;  // wait for their contributions
  std::unique_ptr<SliceHost> slices_;
  std::map<WorkerKey, std::string> routes_;  // of control connections
  struct Assembly {
    AssembleRound request;
    PartedFetch fetch;
  };
  std::map<FragmentId, Assembly> assemblies_;
  uint64_t transfers_ = 0;
  std::map<std::pair<std::string, ObjectId>, Download> downloads_;
  uint64_t uses_ = 0;
  // Checkpoints that can be served, by folder, with what they hold and where the parameters start
  // in the model file.
  struct Served {
    std::vector<CheckpointFragment> fragments;
    uint64_t parameters_at = 0;  // 0: not looked up yet
  };
  std::map<std::string, Served> served_;
  bool failed_ = false;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace longhaul
