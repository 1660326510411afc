// One simulated run: a coordinator, workers, links and a disk in one thread on virtual time, and
// what goes wrong. First faults happen and nothing may be lost, repeated or said too early; then
// they stop, and the run must go on within a bound. A function of its options alone.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "wan/sim/checkers/ledger_twin.h"
#include "wan/sim/checkers/provenance.h"
#include "wan/sim/checkers/replicas.h"
#include "wan/sim/coordinator_process.h"
#include "wan/sim/policies.h"
#include "wan/sim/worker_process.h"

namespace longhaul::sim {

// In every interval this share of the machines loses its worker process, which is started again
// after some seconds.
struct Churn {
  Duration interval{0};  // 0: none
  uint32_t killed_per_mille = 0;
};

struct WorldOptions {
  uint64_t seed = 0;
  uint64_t faults_off = 0;             // mask of FaultBit: kinds that must not happen
  uint32_t length_per_mille = 1000;    // of the faulty phase: shorter for shrinking
  Trace::Sink trace;                   // empty: no text
  const Scenario* scenario = nullptr;  // instead of the seed's own; outlives the world
  Churn churn;
};

struct WorldResult {
  uint64_t seed = 0;
  uint64_t trace_hash = 0;
  std::vector<Violation> violations;
  FaultCounts faults{};
  Duration simulated{0};
  uint64_t actions = 0;
  uint64_t leases = 0;
  uint64_t commits = 0;
  uint64_t committed = 0;  // positions, summed over fragments
  uint64_t lost = 0;       // committed in the ledger, but not in the model
  uint64_t twice = 0;
  PolicyShares policies;  // what others would have lost and repeated
  uint64_t restarts = 0;  // of the coordinator
  bool refused = false;   // the coordinator found damage that cannot be repaired, and said so
  bool finished = false;  // all rounds were done
};

class World {
 public:
  explicit World(WorldOptions options);
  WorldResult Run();

 private:
  struct MachineState {
    WorkerKey key;
    size_t process = SIZE_MAX;  // the newest one
    bool gone = false;          // nobody will start a process here again
    WorkerDisk disk;
  };

  void AddWatchers();
  void Complain(const std::string& checker, const std::string& what);
  void CollectComplaints();
  // Coordinator.
  void StartCoordinator(bool power_lost);
  void CoordinatorDied(Death how, const absl::Status& status);
  void StartFailed(const absl::Status& status);
  bool Excusable(const absl::Status& status) const;
  CoordinatorProcess& coordinator() { return *lives_.back(); }
  bool coordinator_alive() const { return !lives_.empty() && lives_.back()->alive(); }
  // Workers.
  void StartWorker(size_t machine);
  void WorkerExited(size_t process, const ExitWorker& exit);
  WorkerProcess* LiveWorkerOn(size_t machine);
  // The machine of this worker, if there is a direct way to it.
  std::optional<size_t> Reachable(size_t machine, const WorkerKey& peer) const;
  void Deliver(size_t machine, Direction direction, Packet&& packet);
  // Faults over time.
  void PlanFaults();
  void Plan(FaultKind kind, Duration mean, void (World::*happen)());
  size_t Victim(FaultKind kind);
  void KillWorker();
  void Kill(size_t machine, Duration down);
  void PlanChurn();
  void PauseWorker();
  void SlowWorker();
  void WorkerLeaves();
  void StartTwin();
  void Partition();
  void OneWayPartition();
  void Swizzle();
  void SlowLink();
  void RollBack();
  void Replan();
  void DriftClocks();
  // Phases.
  void Calm();
  bool CaughtUp(const std::vector<Version>& target);
  bool DataIsUsedUp() const;
  void CheckEnd();
  WorldResult MakeResult();

  const WorldOptions options_;
  Scenario scenario_;
  EventQueue queue_;
  Faults faults_;
  Trace trace_;
  SimulatedDisk disk_;
  Network network_;
  Watchers watchers_;
  Replicas* replicas_ = nullptr;
  LedgerTwin* ledger_ = nullptr;
  Provenance* provenance_ = nullptr;
  Policies* policies_ = nullptr;
  std::unique_ptr<History> history_;
  std::vector<std::unique_ptr<CoordinatorProcess>> lives_;
  std::vector<std::unique_ptr<WorkerProcess>> processes_;
  std::deque<MachineState> machines_;  // pointers to them stay
  std::string run_id_;
  std::string roll_back_to_;
  std::vector<Violation> violations_;
  bool ended_ = false;
  bool finished_ = false;
  bool refused_ = false;
};

}  // namespace longhaul::sim
