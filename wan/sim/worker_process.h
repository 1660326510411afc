// One worker process: the simulated twin of WorkerService and TrainingThread. It drives the
// production core, replica, codec and transfers; sockets and time are simulated, the trainer is in
// closed form.
//
// Owned by the World, which keeps it after its death so that actions that are still pending find
// it.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "transport/transfer.h"
#include "wan/sim/event_queue.h"
#include "wan/sim/faults.h"
#include "wan/sim/network.h"
#include "wan/sim/scenario.h"
#include "wan/sim/trace.h"
#include "wan/sim/watcher.h"
#include "worker/core/worker.h"
#include "worker/replica.h"
#include "worker/trainer.h"

namespace longhaul::sim {

// What a machine keeps of its worker over processes.
struct WorkerDisk {
  std::optional<SaveSnapshot> saved;
  std::vector<std::vector<float>> residuals;  // by fragment
  size_t saved_by = 0;                        // process
};

class WorkerProcess {
 public:
  struct Options {
    EventQueue* queue = nullptr;
    Faults* faults = nullptr;
    Trace* trace = nullptr;
    Watchers* watchers = nullptr;
    const Scenario* scenario = nullptr;
    WorkerDisk* disk = nullptr;
    size_t process = 0;  // number in the world
    size_t machine = 0;
    WorkerKey key;
    std::string run_id;
    bool byzantine = false;  // some of what it says is false
    std::function<void(Packet)> send;
    std::function<void(const ExitWorker&)> exited;  // once
  };

  explicit WorkerProcess(Options options);

  void Start();
  void Receive(Packet packet);
  // The connections to the coordinator are gone, or there again.
  void Disconnected();
  void Connected();
  void Kill() { alive_ = false; }
  void Pause(Duration duration);
  void SetSlowness(uint32_t per_mille) { slow_per_mille_ = per_mille; }
  // `hand_in`: what it has trained shall be included first.
  void Leave(bool hand_in);

  bool alive() const { return alive_; }
  size_t machine() const { return options_.machine; }
  const WorkerKey& key() const { return options_.key; }
  const Worker& core() const { return *core_; }

 private:
  struct Download {
    ObjectInfo object;
    ChunkReceiver receiver;
    Fetched chunks;
    Timestamp last_chunk;
  };
  struct Upload {
    ObjectId object;
    Chunks chunks;
    Outgoing::Sizes sizes;
    Outgoing outgoing;
    std::optional<Fetch> waiting;
  };

  // Runs `action` after a while by this machine's clock, unless the process has ended; a paused
  // process runs it when it goes on.
  void Later(Duration delay, std::function<void()> action);
  void Guard(const std::function<void()>& action);
  Duration ByItsClock(Duration d) const;
  void Step(const WorkerEvent& event);
  void Do(const WorkerRequest& request);
  void StartTrainer(const LoadData& load);
  void StartJob(const WorkerRequest& request);
  WorkerEvent RunJob(const WorkerRequest& request, const Fetched& fetched, Chunks& chunks);
  void Reset(const ResetProgress& job);
  void Save(const SaveSnapshot& job);
  void TakeResidual();
  WorkerEvent CodeJob(const CodeContribution& job, Chunks& chunks);
  void Finished(const WorkerEvent& event, const Chunks& chunks);
  void TellState(const Generation& generation, const Replica& replica);
  void Beat();
  void SendHeartbeat();
  void Send(const Message& message);
  void OnMessage(const Envelope& envelope);
  void OnChunk(const Packet& packet);
  void OnFetch(const Fetch& fetch);
  void Pump(Upload& upload);
  void StartDownload(const ObjectInfo& object);
  void AskForChunks(bool new_attempt);

  const Options options_;
  std::unique_ptr<Worker> core_;
  std::unique_ptr<Trainer> trainer_;
  const WorkerDisk found_;                          // when it began
  std::vector<std::unique_ptr<Replica>> replicas_;  // by fragment
  bool alive_ = true;
  bool connected_ = false;
  Timestamp paused_until_;
  uint32_t slow_per_mille_ = 1000;
  Timestamp trainer_busy_until_;
  uint64_t sequence_ = 0;
  uint64_t jobs_ = 0;
  uint64_t fetches_ = 0;
  uint32_t codec_up_ = 0;
  std::optional<Download> download_;
  Fetched fetched_;
  std::map<ContributionId, Upload> uploads_;
  Timestamp last_heard_;
};

}  // namespace longhaul::sim
