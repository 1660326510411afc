// One life of the coordinator's process: the simulated twin of CoordinatorService. It drives the
// production core, journal and reducer; sockets, timers and the disk are simulated. It may end
// between any two effects.
//
// Owned by the World, which keeps it after its death so that actions that are still pending find
// it.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "coordinator/core/coordinator.h"
#include "coordinator/round_planner.h"
#include "coordinator/run_folder.h"
#include "wan/sim/disk.h"
#include "wan/sim/event_queue.h"
#include "wan/sim/faults.h"
#include "wan/sim/history.h"
#include "wan/sim/network.h"
#include "wan/sim/reducer_host.h"
#include "wan/sim/scenario.h"
#include "wan/sim/trace.h"

namespace longhaul::sim {

enum class Death : uint8_t { kKilled, kPowerLost, kFailed, kFinished };

class CoordinatorProcess {
 public:
  struct Options {
    EventQueue* queue = nullptr;
    Faults* faults = nullptr;
    Trace* trace = nullptr;
    SimulatedDisk* disk = nullptr;
    History* history = nullptr;
    Watchers* watchers = nullptr;
    const Scenario* scenario = nullptr;
    uint64_t life = 0;
    uint64_t first_attempt = 1;
    std::string roll_back_to;  // a checkpoint's path on the disk
    std::function<void(Route, Packet)> send;
    std::function<void(Death, const absl::Status&)> died;  // once, after Start
  };

  explicit CoordinatorProcess(Options options) : options_(std::move(options)) {}

  // From the journal, or a new run. An error: this life is over before it began.
  absl::Status Start();
  void Receive(Route route, const WorkerKey& user, const Packet& packet);
  void Kill(Death how) { Die(how, absl::OkStatus()); }
  // The operator allows a worker's key.
  void Allow(const WorkerKey& key, const std::string& name);
  // New numbers of steps, from whoever plans.
  void Plan(const EventBody& plan);  // PlanEvent, LinksEvent

  bool alive() const { return alive_; }
  const State& state() const { return core_->state(); }
  bool over() const { return over_.has_value(); }
  size_t most_waiting() const { return reducer_ ? reducer_->most_waiting() : 0; }
  const std::string& run_id() const { return run_id_; }

 private:
  struct Peer {
    Route route = kNoRoute;
    Timestamp last_heard;
    std::vector<FragmentState> stated;
  };

  absl::StatusOr<std::vector<std::unique_ptr<Reducer>>> OpenReducers(const RunStart& start);
  void StartReducerHost(std::vector<std::unique_ptr<Reducer>> reducers,
                        const CheckpointState& newest);
  Timestamp Now() const;
  bool Survives();  // between two effects
  void Die(Death how, const absl::Status& status);
  void Tick();
  void Step(const EventBody& body);
  bool Journal(const std::vector<Record>& records);
  void OnRecord(const Record& record);
  void PlanRounds();
  void Answer(const Reply& reply);
  void Do(const Request& request);
  void DoExpect(const ExpectContribution& request);
  void DoCheckpoint(const StoreCheckpoint& request);
  void HandleSession(Route route, const WorkerKey& user, const Envelope& envelope);
  void HandleHeartbeat(SessionId session, const Heartbeat& heartbeat);
  void SendTo(Route route, const Message& message, SessionId session = {});
  void Relay(const WorkerKey& from, Packet packet);
  void SendAssignment(SessionId session);
  void CheckSilence();

  const Options options_;
  bool alive_ = false;
  std::string run_id_;
  Generation generation_;
  Timestamp epoch_;    // the core's time when this life began
  Timestamp started_;  // virtual time then
  std::unique_ptr<longhaul::Journal> journal_;
  std::unique_ptr<Coordinator> core_;
  std::unique_ptr<ReducerHost> reducer_;
  uint64_t sequence_ = 0;
  std::map<SessionId, Peer> peers_;
  std::vector<SessionId> late_;  // as the core knows it
  Route replying_to_ = kNoRoute;
  std::optional<ShutDown> over_;
  Timestamp over_since_;
  std::optional<RoundPlanner> planner_;  // with round.plan = "auto"
  bool plan_due_ = false;
};

}  // namespace longhaul::sim
