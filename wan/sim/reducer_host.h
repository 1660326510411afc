// The simulated twin of ReducerThread: runs the production Reducer's commands one after the other
// in virtual time, pulls contributions, serves aggregates and states, writes checkpoints.
//
// Owned by a CoordinatorProcess and ends with it. Routes are worker processes.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/core/effects.h"
#include "model/checkpoint.h"
#include "proto/chunk.h"
#include "reducer/parted_fetch.h"
#include "reducer/reducer.h"
#include "reducer/slice_host.h"
#include "sync/fragments.h"
#include "transport/transfer.h"
#include "wan/sim/event_queue.h"
#include "wan/sim/faults.h"
#include "wan/sim/scenario.h"
#include "wan/sim/watcher.h"

namespace longhaul::sim {

using Route = size_t;  // a worker process
inline constexpr Route kNoRoute = SIZE_MAX;

class ReducerHost {
 public:
  struct Options {
    EventQueue* queue = nullptr;
    Faults* faults = nullptr;
    Storage* disk = nullptr;
    Watchers* watchers = nullptr;
    Generation generation;
    LlamaShape shape;
    std::vector<FragmentLayout> layout;
    SliceHost::Options slices;  // its callbacks and first attempt are set here
    uint32_t checkpoints_kept = 2;
    uint64_t first_attempt = 1;
    uint64_t seed = 0;  // of how long commands take
    std::function<void(EventBody)> post;
    std::function<void(absl::Status)> fail;
    std::function<void(Route, const Message&)> send_control;
    std::function<void(Route, const ChunkHeader&, std::string payload)> send_chunk;
    std::function<bool()> alive;  // false: the process has ended; asked between any two effects
  };

  // `newest`: the checkpoint that is served to joiners.
  ReducerHost(Options options, std::vector<std::unique_ptr<Reducer>> reducers,
              const CheckpointState& newest);

  void Expect(const ExpectContribution& request, const WorkerKey& user, Route route);
  void RouteChanged(SessionId session, const WorkerKey& key, Route route);
  void Slices(const ReduceSlices& request);
  void Assemble(const AssembleRound& request);
  void Chunk(const WorkerKey& user, std::string header, std::string payload);
  void Serve(Route route, const Fetch& fetch);
  void Drop(const DropContribution& request);
  void Reduce(const ReduceRound& request);
  void Install(const InstallRound& request);
  void Checkpoint(const StoreCheckpoint& request, const CheckpointState& state);
  void Tick();

  size_t most_waiting() const { return most_waiting_; }

 private:
  struct Upload {
    ObjectInfo object;
    WorkerKey user;
    Route route = kNoRoute;
    uint64_t attempt = 0;
    uint64_t consumed_bytes = 0;
    uint64_t stated_bytes = 0;
    uint32_t tries = 0;
    Timestamp last_chunk;
  };

  void Command(std::function<void()> command);
  bool Check(const absl::Status& status);
  void StartAttempt(ContributionId id, Upload& upload);
  void Grant(const Upload& upload, std::vector<ChunkRun> missing);
  void DoExpect(const ExpectContribution& request, const WorkerKey& user, Route route);
  void DoChunk(const WorkerKey& user, const std::string& header, const std::string& payload);
  void DoServe(Route route, const Fetch& fetch);
  void DoCheckpoint(const StoreCheckpoint& request, CheckpointState state);
  absl::Status WriteModel(const std::string& path, const std::string& leases,
                          const CheckpointState& state);
  void FindKept();
  Reducer& Of(FragmentId fragment) { return *reducers_.at(fragment.value); }
  void DoInstall(const InstallRound& request);
  void AfterProgress(FragmentId fragment, ContributionId id,
                     const absl::StatusOr<Reducer::Progress>& progress);
  void TryReduce(FragmentId fragment);
  void TellPrepared(const ObjectInfo& aggregate);
  void Lose(const ReduceRound& reduce, std::vector<ContributionId> lost);
  void LoseStalled();
  void TellSlices();
  void DoAssemble(const AssembleRound& request);
  void TryAssemble(FragmentId fragment);
  absl::StatusOr<StoredChunk> ReadChunk(const ObjectId& object, uint32_t chunk);
  absl::StatusOr<StoredChunk> ReadStateChunk(const ObjectId& object, uint32_t chunk);

  const Options options_;
  std::vector<std::unique_ptr<Reducer>> reducers_;  // by fragment
  bool failed_ = false;
  Timestamp busy_until_;
  uint64_t commands_ = 0;
  size_t waiting_ = 0;
  size_t most_waiting_ = 0;
  uint64_t next_attempt_;
  std::map<ContributionId, Upload> uploads_;
  std::map<uint64_t, ContributionId> attempts_;
  std::map<FragmentId, ReduceRound> reduce_;
  std::unique_ptr<SliceHost> slices_;
  std::map<WorkerKey, Route> routes_;
  struct Assembly {
    AssembleRound request;
    PartedFetch fetch;
  };
  std::map<FragmentId, Assembly> assemblies_;
  uint64_t transfers_ = 0;
  Timestamp adds_from_;  // not before
  std::map<std::pair<Route, ObjectId>, Outgoing> downloads_;
  std::map<std::string, std::vector<CheckpointFragment>> served_;  // by folder
};

}  // namespace longhaul::sim
