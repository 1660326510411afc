#include "wan/sim/world.h"

#include <algorithm>
#include <utility>

#include "common/rng.h"
#include "model/parameter_table.h"
#include "wan/sim/checkers/queues.h"
#include "wan/sim/checkers/round_twin.h"
#include "wan/sim/checkers/said_early.h"
#include "wan/sim/checkers/sessions.h"
#include "wan/sim/packet_text.h"

namespace longhaul::sim {
namespace {

constexpr size_t kMaxViolations = 20;
constexpr size_t kMaxProcesses = 2000;

template <class T>
T* Add(Watchers& watchers, std::unique_ptr<T> watcher) {
  T* raw = watcher.get();
  watchers.Add(std::move(watcher));
  return raw;
}

// Of a round that is opened now: a broken contract is waited for until the deadline.
Duration NextLimit(const Fragment& fragment, const Scenario& scenario) {
  const auto limit = static_cast<double>((4 * fragment.last_round_time + Seconds(10)).count());
  return Duration(static_cast<int64_t>(limit * scenario.config.run.patience));
}

}  // namespace

World::World(WorldOptions options)
    : options_(std::move(options)),
      scenario_(options_.scenario ? *options_.scenario : DrawScenario(options_.seed)),
      faults_(options_.seed, options_.faults_off),
      trace_(options_.trace),
      disk_(faults_),
      network_(queue_, faults_, [this](size_t machine, Direction direction, Packet&& packet) {
        Deliver(machine, direction, std::move(packet));
      }) {
  scenario_.faulty = scenario_.faulty * options_.length_per_mille / 1000;
  AddWatchers();
  disk_.OnStop([this] {
    if (coordinator_alive()) coordinator().Kill(Death::kKilled);
  });
  for (size_t i = 0; i < scenario_.machines.size(); ++i) {
    network_.AddLink(scenario_.machines[i].link);
    machines_.emplace_back();
    machines_.back().key.bytes[0] = static_cast<uint8_t>(i + 1);
  }
}

void World::AddWatchers() {
  replicas_ = Add(watchers_, std::make_unique<Replicas>());
  ledger_ = Add(watchers_, std::make_unique<LedgerTwin>(scenario_.config, scenario_.layout.size()));
  Add(watchers_, std::make_unique<RoundTwin>(scenario_.config, *ledger_));
  Add(watchers_, std::make_unique<Sessions>(scenario_.config));
  Add(watchers_, std::make_unique<Queues>());
  provenance_ = Add(watchers_, std::make_unique<Provenance>(scenario_.config, scenario_.layout));
  policies_ = Add(watchers_, std::make_unique<Policies>());
  Add(watchers_, std::make_unique<SaidEarly>());
  history_ = std::make_unique<History>(
      [this](const Record& record, const State& state) {
        watchers_.Tell([&](Watcher& w) { w.OnRecord(record, state); });
      },
      [this](const std::string& what) { Complain("history", what); });
}

void World::Complain(const std::string& checker, const std::string& what) {
  trace_.Say(queue_.now(), [&] { return "VIOLATION (" + checker + "): " + what; });
  if (violations_.size() < kMaxViolations) violations_.push_back({queue_.now(), checker, what});
  ended_ = true;
}

void World::CollectComplaints() {
  if (!violations_.empty()) return;
  for (const auto& w : watchers_.list()) {
    for (const std::string& what : w->complaints()) Complain(w->name(), what);
  }
}

WorldResult World::Run() {
  trace_.Say(queue_.now(), [this] {
    return "seed " + std::to_string(options_.seed) + ", " +
           std::to_string(scenario_.machines.size()) + " machines; faults: " + faults_.Describe();
  });
  DriftClocks();
  StartCoordinator(/*power_lost=*/false);
  PlanFaults();
  auto stop = [this] {
    CollectComplaints();
    return ended_;
  };
  queue_.RunUntil(Timestamp{scenario_.faulty}, stop);
  if (!ended_) Calm();
  CheckEnd();
  return MakeResult();
}

// ---- the coordinator ----

void World::StartCoordinator(bool power_lost) {
  if (ended_ || coordinator_alive()) return;
  disk_.Start(power_lost);
  if (faults_.enabled(FaultKind::kBitFlip) && !lives_.empty() &&
      faults_.Happens(FaultKind::kBitFlip)) {
    disk_.FlipSomewhere();
  }
  CoordinatorProcess::Options o;
  o.queue = &queue_;
  o.faults = &faults_;
  o.trace = &trace_;
  o.disk = &disk_;
  o.history = history_.get();
  o.watchers = &watchers_;
  o.scenario = &scenario_;
  o.life = lives_.size() + 1;
  // A machine that was started again counts its time from zero.
  const bool back = faults_.Happens(FaultKind::kClockBack);
  o.first_attempt = back ? 1 : static_cast<uint64_t>(queue_.now().since_epoch.count()) + 1;
  o.roll_back_to = roll_back_to_;
  o.send = [this, life = o.life](Route route, Packet packet) {
    packet.process = route;
    packet.life = life;
    network_.Send(processes_[route]->machine(), Direction::kDown, std::move(packet));
  };
  o.died = [this](Death how, const absl::Status& status) { CoordinatorDied(how, status); };
  lives_.push_back(std::make_unique<CoordinatorProcess>(std::move(o)));
  trace_.Note(queue_.now(), "coordinator starts", power_lost ? "power" : "");
  const absl::Status started = coordinator().Start();
  trace_.Note(queue_.now(), "coordinator started", std::string(started.message()),
              [&] { return std::string(started.message()); });
  if (!started.ok()) return StartFailed(started);
  roll_back_to_.clear();
  const bool first = run_id_.empty();
  run_id_ = coordinator().run_id();
  for (const MachineState& m : machines_) {
    if (coordinator_alive()) coordinator().Allow(m.key, MachineName(m.key));
  }
  for (size_t i = 0; i < machines_.size(); ++i) {
    if (first) {
      queue_.After(scenario_.machines[i].joins_at, [this, i] { StartWorker(i); });
    } else if (WorkerProcess* w = LiveWorkerOn(i)) {
      w->Connected();
    }
  }
}

// A disk that failed is repaired by its operator; damage must be known damage.
bool World::Excusable(const absl::Status& status) const {
  return absl::IsUnavailable(status) || absl::IsResourceExhausted(status) || status.ok();
}

void World::StartFailed(const absl::Status& status) {
  disk_.Stop();
  if (Excusable(status)) {
    queue_.After(Seconds(1), [this] { StartCoordinator(/*power_lost=*/false); });
    return;
  }
  const bool damaged = faults_.counts()[static_cast<size_t>(FaultKind::kBitFlip)] > 0;
  if (!damaged) return Complain("start", std::string(status.message()));
  refused_ = ended_ = true;
}

void World::CoordinatorDied(Death how, const absl::Status& status) {
  static constexpr const char* kHow[] = {"killed", "power lost", "failed", "finished"};
  trace_.Note(queue_.now(), "coordinator died", kHow[static_cast<int>(how)],
              [&] { return kHow[static_cast<int>(how)] + (": " + std::string(status.message())); });
  for (size_t i = 0; i < machines_.size(); ++i) {
    if (WorkerProcess* w = LiveWorkerOn(i)) w->Disconnected();
  }
  if (how == Death::kFinished) {
    finished_ = true;
    return;
  }
  const bool damaged = faults_.counts()[static_cast<size_t>(FaultKind::kBitFlip)] > 0;
  if (how == Death::kFailed && !Excusable(status) && !damaged)
    Complain("coordinator", "it ended: " + std::string(status.message()));
  const Duration down = faults_.Between(FaultKind::kCoordinatorKill, Milliseconds(50), Seconds(15));
  const bool power = how == Death::kPowerLost ||
                     (how == Death::kFailed && faults_.Below(FaultKind::kPowerLoss, 2) == 0);
  queue_.After(down, [this, power] { StartCoordinator(power); });
}

// ---- the workers ----

WorkerProcess* World::LiveWorkerOn(size_t machine) {
  const size_t process = machines_[machine].process;
  if (process == SIZE_MAX || !processes_[process]->alive()) return nullptr;
  return processes_[process].get();
}

void World::StartWorker(size_t machine) {
  if (ended_ || machines_[machine].gone || LiveWorkerOn(machine) ||
      processes_.size() >= kMaxProcesses)
    return;
  WorkerProcess::Options o;
  o.queue = &queue_;
  o.faults = &faults_;
  o.trace = &trace_;
  o.watchers = &watchers_;
  o.scenario = &scenario_;
  o.process = processes_.size();
  o.machine = machine;
  o.key = machines_[machine].key;
  o.disk = &machines_[machine].disk;
  o.run_id = run_id_;
  o.byzantine = faults_.enabled(FaultKind::kByzantine) && o.process % 3 == 0;
  o.send = [this, process = o.process, machine](Packet packet) {
    packet.process = process;
    packet.life = lives_.size();
    network_.Send(machine, Direction::kUp, std::move(packet));
  };
  o.exited = [this, process = o.process](const ExitWorker& exit) { WorkerExited(process, exit); };
  trace_.Note(queue_.now(), "worker starts", std::to_string(o.process),
              [&] { return std::to_string(o.process) + " on machine " + std::to_string(machine); });
  machines_[machine].process = o.process;
  processes_.push_back(std::make_unique<WorkerProcess>(std::move(o)));
  processes_.back()->Start();
}

void World::WorkerExited(size_t process, const ExitWorker& exit) {
  const size_t machine = processes_[process]->machine();
  trace_.Note(queue_.now(), "worker exits", std::to_string(process) + exit.reason,
              [&] { return std::to_string(process) + ": " + exit.reason; });
  // A superseded process never comes back; everybody else's owner starts it again some time.
  if (exit.refusal == RefusalCode::kSuperseded) return;
  if (exit.refusal == RefusalCode::kRunOver) return;
  queue_.After(Seconds(5), [this, machine] { StartWorker(machine); });
}

// Half of the pairs of machines reach each other; the others go through the coordinator. Of two
// machines with one key it is the one whose process lives, and of two of these the newer.
std::optional<size_t> World::Reachable(size_t machine, const WorkerKey& peer) const {
  std::optional<size_t> to;
  for (size_t i = 0; peer != WorkerKey{} && i < machines_.size(); ++i) {
    const size_t process = machines_[i].process;
    if (machines_[i].key != peer || process == SIZE_MAX) continue;
    const auto rank = [&](size_t p) { return std::pair(processes_[p]->alive(), p); };
    if (!to || rank(process) > rank(machines_[*to].process)) to = i;
  }
  if (!to) return to;
  const uint64_t pair =
      Draw(scenario_.seed, {0xd1, std::min(*to, machine), std::max(*to, machine)});
  return pair % 2 == 0 ? to : std::nullopt;
}

void World::Deliver(size_t machine, Direction direction, Packet&& packet) {
  trace_.Note(queue_.now(), direction == Direction::kUp ? "up" : "down",
              packet.is_chunk() ? packet.payload : packet.control,
              [&] { return DescribePacket(packet); });
  if (direction == Direction::kDown) {
    if (machines_[machine].process == packet.process)
      processes_[packet.process]->Receive(std::move(packet));
  } else if (const std::optional<size_t> peer = Reachable(machine, packet.peer)) {
    packet.peer = machines_[machine].key;
    packet.process = machines_[*peer].process;
    network_.Send(*peer, Direction::kDown, std::move(packet));
  } else if (coordinator_alive() && packet.life == lives_.size()) {
    coordinator().Receive(packet.process, machines_[machine].key, packet);
  }
}

// ---- faults over time ----

void World::Plan(FaultKind kind, Duration mean, void (World::*happen)()) {
  const Duration next = faults_.NextAfter(kind, mean);
  if (next < Duration(0)) return;
  queue_.After(next, [this, kind, mean, happen] {
    if (ended_ || !faults_.running()) return;
    (this->*happen)();
    Plan(kind, mean, happen);
  });
}

void World::PlanFaults() {
  PlanChurn();
  Plan(FaultKind::kWorkerKill, Seconds(25), &World::KillWorker);
  Plan(FaultKind::kWorkerPause, Seconds(20), &World::PauseWorker);
  Plan(FaultKind::kWorkerSlow, Seconds(20), &World::SlowWorker);
  Plan(FaultKind::kWorkerLeave, Seconds(60), &World::WorkerLeaves);
  Plan(FaultKind::kTwin, Seconds(60), &World::StartTwin);
  Plan(FaultKind::kPartition, Seconds(30), &World::Partition);
  Plan(FaultKind::kOneWayPartition, Seconds(30), &World::OneWayPartition);
  Plan(FaultKind::kSwizzle, Seconds(45), &World::Swizzle);
  Plan(FaultKind::kSlowLink, Seconds(30), &World::SlowLink);
  Plan(FaultKind::kRollBack, Seconds(120), &World::RollBack);
  Plan(FaultKind::kReplan, Seconds(30), &World::Replan);
}

size_t World::Victim(FaultKind kind) {
  faults_.Count(kind);
  const size_t machine = faults_.Below(kind, machines_.size());
  trace_.Note(queue_.now(), "fault", FaultName(kind), [&] {
    return std::string(FaultName(kind)) + " on machine " + std::to_string(machine);
  });
  return machine;
}

void World::KillWorker() {
  const size_t machine = Victim(FaultKind::kWorkerKill);
  Kill(machine, faults_.Between(FaultKind::kWorkerKill, Milliseconds(100), Seconds(25)));
}

void World::Kill(size_t machine, Duration down) {
  if (WorkerProcess* w = LiveWorkerOn(machine)) w->Kill();
  queue_.After(down, [this, machine] { StartWorker(machine); });
}

void World::PlanChurn() {
  if (options_.churn.interval == Duration(0) || !faults_.running()) return;
  for (size_t i = 0; i < machines_.size(); ++i) {
    if (faults_.Below(FaultKind::kWorkerKill, 1000) >= options_.churn.killed_per_mille) continue;
    const Duration when =
        faults_.Between(FaultKind::kWorkerKill, Duration(0), options_.churn.interval);
    queue_.After(when, [this, i] {
      faults_.Count(FaultKind::kWorkerKill);
      Kill(i, faults_.Between(FaultKind::kWorkerKill, Seconds(2), Seconds(20)));
    });
  }
  queue_.After(options_.churn.interval, [this] { PlanChurn(); });
}

void World::PauseWorker() {
  const size_t machine = Victim(FaultKind::kWorkerPause);
  if (WorkerProcess* w = LiveWorkerOn(machine))
    w->Pause(faults_.Between(FaultKind::kWorkerPause, Milliseconds(500), Seconds(40)));
}

void World::SlowWorker() {
  const size_t machine = Victim(FaultKind::kWorkerSlow);
  WorkerProcess* w = LiveWorkerOn(machine);
  if (!w) return;
  w->SetSlowness(static_cast<uint32_t>(1500 + faults_.Below(FaultKind::kWorkerSlow, 8000)));
  queue_.After(faults_.Between(FaultKind::kWorkerSlow, Seconds(5), Seconds(60)),
               [w] { w->SetSlowness(1000); });
}

void World::WorkerLeaves() {
  if (WorkerProcess* w = LiveWorkerOn(Victim(FaultKind::kWorkerLeave)))
    w->Leave(/*hand_in=*/faults_.Below(FaultKind::kWorkerLeave, 3) > 0);
}

// Another machine of the same owner, with the same key.
void World::StartTwin() {
  const size_t machine = Victim(FaultKind::kTwin);
  scenario_.machines.push_back(scenario_.machines[machine]);
  network_.AddLink(scenario_.machines[machine].link);
  machines_.push_back({.key = machines_[machine].key});
  machines_[machine].gone = true;
  StartWorker(machines_.size() - 1);
}

void World::Partition() {
  const size_t machine = Victim(FaultKind::kPartition);
  for (Direction d : {Direction::kUp, Direction::kDown}) network_.SetCut(machine, d, true);
  queue_.After(faults_.Between(FaultKind::kPartition, Milliseconds(500), Seconds(40)),
               [this, machine] {
                 for (Direction d : {Direction::kUp, Direction::kDown})
                   network_.SetCut(machine, d, false);
               });
}

void World::OneWayPartition() {
  const size_t machine = Victim(FaultKind::kOneWayPartition);
  const auto direction = static_cast<Direction>(faults_.Below(FaultKind::kOneWayPartition, 2));
  network_.SetCut(machine, direction, true);
  queue_.After(faults_.Between(FaultKind::kOneWayPartition, Milliseconds(500), Seconds(40)),
               [this, machine, direction] { network_.SetCut(machine, direction, false); });
}

// Clogs links one after the other and unclogs them in random order (FoundationDB's best bug
// finder).
void World::Swizzle() {
  const size_t first = Victim(FaultKind::kSwizzle);
  const size_t count = 1 + faults_.Below(FaultKind::kSwizzle, machines_.size());
  Duration clog{0};
  for (size_t i = 0; i < count; ++i) {
    const size_t machine = (first + i) % machines_.size();
    clog += faults_.Between(FaultKind::kSwizzle, Milliseconds(0), Seconds(1));
    queue_.After(clog, [this, machine] {
      if (faults_.running()) network_.SetClogged(machine, true);
    });
  }
  for (size_t i = 0; i < count; ++i) {
    const size_t machine = (first + i) % machines_.size();
    const Duration open = clog + faults_.Between(FaultKind::kSwizzle, Milliseconds(0), Seconds(20));
    queue_.After(open, [this, machine] { network_.SetClogged(machine, false); });
  }
}

void World::SlowLink() {
  const size_t machine = Victim(FaultKind::kSlowLink);
  const uint64_t rate = scenario_.machines[machine].link.bytes_per_s;
  network_.SetRate(machine, std::max<uint64_t>(2000, rate / 50));
  queue_.After(faults_.Between(FaultKind::kSlowLink, Seconds(1), Seconds(60)),
               [this, machine, rate] { network_.SetRate(machine, rate); });
}

// The operator stops the coordinator and starts it again from a checkpoint.
void World::RollBack() {
  if (!coordinator_alive() || coordinator().over()) return;
  const std::vector<std::string> paths = ListCheckpoints(disk_, kCheckpoints);
  if (paths.empty()) return;
  Victim(FaultKind::kRollBack);
  roll_back_to_ = paths[faults_.Below(FaultKind::kRollBack, paths.size())];
  coordinator().Kill(Death::kKilled);
}

// Some workers get another number of steps per round, as after a measurement of their speed.
void World::Replan() {
  Victim(FaultKind::kReplan);
  if (!coordinator_alive() || coordinator().over()) return;
  PlanEvent plan;
  for (const auto& [id, session] : coordinator().state().sessions) {
    if (faults_.Below(FaultKind::kReplan, 2) == 0) continue;
    const uint64_t most = 2 * scenario_.config.sync.inner_steps;
    plan.steps.push_back({id, 1 + faults_.Below(FaultKind::kReplan, most)});
  }
  coordinator().Plan(plan);
  if (scenario_.config.reduce.placement != "workers" || !coordinator_alive()) return;
  LinksEvent measured;
  for (const auto& [id, session] : coordinator().state().sessions) {
    measured.links.push_back({id, 1'000 + faults_.Below(FaultKind::kReplan, 100'000),
                              1'000 + faults_.Below(FaultKind::kReplan, 100'000)});
  }
  coordinator().Plan(measured);
}

void World::DriftClocks() {
  if (!faults_.enabled(FaultKind::kWorkerDrift)) return;
  for (Machine& m : scenario_.machines) {
    if (!faults_.Happens(FaultKind::kWorkerDrift)) continue;
    m.clock_per_mille = static_cast<uint32_t>(850 + faults_.Below(FaultKind::kWorkerDrift, 300));
  }
}

// ---- the second phase ----

bool World::DataIsUsedUp() const {
  const LeaseBook::Totals& t = history_->state().leases.totals(FragmentId{0});
  const uint64_t round = SamplesPerStep(scenario_.config) * scenario_.config.sync.inner_steps;
  return t.free < 2 * round * machines_.size();
}

// Every fragment has committed its `target`, and everybody who lives has it.
bool World::CaughtUp(const std::vector<Version>& target) {
  const State& state = history_->state();
  for (size_t f = 0; f < target.size(); ++f) {
    if (state.fragments[f].version < target[f]) return false;
    for (size_t i = 0; i < machines_.size(); ++i) {
      WorkerProcess* w = LiveWorkerOn(i);
      if (!w) continue;
      const std::vector<FragmentState> states = w->core().states();
      if (states.size() != target.size() || states[f].version < target[f]) return false;
    }
  }
  return true;
}

// Nothing goes wrong any more: a round of every fragment must be committed, and everybody must get
// it, in time.
void World::Calm() {
  faults_.Stop();
  network_.Heal();
  const State& state = history_->state();
  if (!state.started || DataIsUsedUp()) return;
  for (size_t i = 0; i < machines_.size(); ++i) {
    if (!LiveWorkerOn(i) && !run_id_.empty()) StartWorker(i);
  }
  std::vector<Version> target;
  Duration limit{0};
  for (const Fragment& f : state.fragments) {
    target.push_back(f.version.value < scenario_.config.run.rounds ? f.version.Next() : f.version);
    limit = std::max(limit, f.round ? f.round->time_limit : NextLimit(f, scenario_));
  }
  const Duration bound = ProgressBound(scenario_, limit);
  auto done = [&] {
    CollectComplaints();
    return ended_ || finished_ || CaughtUp(target);
  };
  queue_.RunUntil(queue_.now() + bound, done);
  if (!done()) {
    Complain("liveness",
             "after the faults stopped, not every fragment had a new version "
             "everywhere within " +
                 std::to_string(bound / Milliseconds(1)) + " ms");
  }
}

void World::CheckEnd() {
  CollectComplaints();
  const State& state = history_->state();
  if (!state.started || refused_ || !violations_.empty()) return;
  for (uint64_t f = 0; f < scenario_.layout.size(); ++f) {
    const uint64_t in_ledger = state.leases.totals(FragmentId{f}).committed;
    const uint64_t in_model = provenance_->committed_positions(FragmentId{f});
    if (in_ledger != in_model) {
      Complain("provenance", "the ledger has " + std::to_string(in_ledger) +
                                 " committed positions, the model " + std::to_string(in_model));
    }
  }
}

WorldResult World::MakeResult() {
  WorldResult r;
  r.seed = options_.seed;
  r.trace_hash = trace_.hash();
  r.violations = violations_;
  r.faults = faults_.counts();
  r.simulated = queue_.now().since_epoch;
  r.actions = queue_.actions_run();
  r.leases = ledger_->leases();
  r.commits = replicas_->commits();
  for (uint64_t f = 0; f < scenario_.layout.size() && history_->state().started; ++f) {
    const uint64_t in_model = provenance_->committed_positions(FragmentId{f});
    const uint64_t in_ledger = history_->state().leases.totals(FragmentId{f}).committed;
    r.committed += in_model;
    r.lost += in_ledger > in_model ? in_ledger - in_model : 0;
  }
  r.twice = provenance_->twice();
  r.policies = policies_->shares();
  r.restarts = lives_.size() - 1;
  r.refused = refused_;
  r.finished = finished_;
  return r;
}

}  // namespace longhaul::sim
