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

#include "common/fault_storage.h"
#include "reducer/parted_fetch.h"
#include "reducer/slice_host.h"
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
  struct Upload {
    ObjectId object;
    Chunks chunks;
  };
  struct Sending {
    Outgoing::Sizes sizes;
    Outgoing outgoing;
    std::optional<Fetch> waiting;
  };
  using SendingId = std::pair<WorkerKey, ObjectId>;  // zero key: to the coordinator

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
  void SendTo(const WorkerKey& to, const Message& message);
  void SendPacket(const WorkerKey& to, Packet packet);
  void OnPeer(const WorkerKey& from, const Packet& packet);
  void OnChunk(const WorkerKey& from, const Packet& packet);
  void OnFetch(const WorkerKey& from, const Fetch& fetch);
  void OnRefused(const WorkerKey& from, const ObjectId& object);
  void Pump(const SendingId& id, Sending& sending);
  void StartDownload(const FetchObject& request);
  void CheckDownload();
  void StartReducing();
  void FollowOrders();
  void Report(bool again);
  std::string Encode(const Message& message);

  const Options options_;
  std::unique_ptr<Worker> core_;
  std::unique_ptr<Trainer> trainer_;
  const WorkerDisk found_;                          // when it began
  std::vector<std::unique_ptr<Replica>> replicas_;  // by fragment
  bool alive_ = true;
  bool connected_ = false;
  Timestamp paused_until_;
  uint32_t slow_per_mille_ = 1000;
  uint64_t steps_ = 0;  // inner steps, and the time in them
  Duration computing_{0};
  Timestamp trainer_busy_until_;
  uint64_t sequence_ = 0;
  uint64_t jobs_ = 0;
  uint64_t fetches_ = 0;
  uint32_t codec_up_ = 0;
  std::optional<PartedFetch> download_;
  std::map<FragmentId, Fetched> fetched_;
  std::map<ContributionId, Upload> uploads_;
  std::map<SendingId, Sending> sendings_;
  FaultStorage disk_;  // does not fail; of the slices that it reduces
  std::unique_ptr<SliceHost> slices_;
  Timestamp last_heard_;
};

}  // namespace longhaul::sim
