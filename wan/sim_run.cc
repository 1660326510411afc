#include "wan/sim_run.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/config.h"
#include "cli/run_inputs.h"
#include "common/rng.h"
#include "common/status_macros.h"
#include "compression/codec.h"
#include "proto/chunk.h"
#include "wan/sim/coordinator_process.h"
#include "wan/sim/worker_process.h"
#include "wan/sim_network.h"

namespace longhaul::wan {
namespace {

// Measured on a two-core machine with the model of the scenarios: coding or applying a fragment.
constexpr Duration kSmallJob = Milliseconds(2);
constexpr Duration kProcessStart = Milliseconds(500);
constexpr uint64_t kPositions = 1'000'000'000;
constexpr uint64_t kTokensPerPosition = 1024;
constexpr size_t kMaxProcesses = 1000;

double SecondsOf(Duration d) { return std::chrono::duration<double>(d).count(); }

// What an object of the run takes on the wire, a mean over fragments.
using WireBytes = std::map<ObjectKind, uint64_t>;

// A codec with a bit budget fills it.
uint64_t CodedBytes(const std::string& codec, double bits, uint64_t elements) {
  const Codec* fixed = FindCodec(*CodecByName(codec));
  if (fixed && fixed->fixed_size()) return fixed->EncodedBytes(elements);
  return static_cast<uint64_t>(bits * static_cast<double>(elements) / 8);
}

WireBytes WireBytesOf(const RunConfig& config) {
  uint64_t elements = 0;
  const std::vector<FragmentLayout> layout = LayoutOf(config);
  for (const FragmentLayout& fragment : layout) elements += fragment.elements;
  elements /= layout.size();
  const SyncSection& sync = config.sync;
  return {{ObjectKind::kContribution, CodedBytes(sync.codec, sync.bits, elements)},
          {ObjectKind::kAggregate, CodedBytes(sync.codec_down, sync.bits_down, elements)},
          {ObjectKind::kState, 2 * sizeof(float) * elements}};
}

// A model of the same depth whose fragments fit one chunk: what the simulator computes with, while
// the network carries the sizes of the real one.
void StandIn(RunConfig& config) {
  ModelSection& m = config.model;
  m.vocab_size = m.hidden_size = m.intermediate_size = 8;
  m.num_attention_heads = m.num_key_value_heads = 2;
  for (std::string* codec : {&config.sync.codec, &config.sync.codec_down}) {
    const Codec* fixed = FindCodec(*CodecByName(*codec));
    if (!fixed || !fixed->fixed_size()) *codec = "int8";
  }
}

struct Simulated {
  sim::Scenario scenario;
  WireBytes wire_bytes;
};

// The simulator's view of the scenario. Faults are the schedule's alone.
absl::StatusOr<Simulated> SimulatorScenario(const Scenario& scenario) {
  ConfigOverrides overrides;
  overrides.sets = RunSettings(scenario);
  overrides.sets.push_back("run.output_dir=run");
  ASSIGN_OR_RETURN(LoadedConfig loaded, ParseRunConfig("", scenario.file, overrides));
  sim::Scenario out;
  out.seed = scenario.seed;
  out.config = std::move(loaded.config);
  RETURN_IF_ERROR(ResolveModel(out.config));
  WireBytes wire_bytes = WireBytesOf(out.config);
  StandIn(out.config);
  out.shape = ShapeOf(out.config);
  out.layout = LayoutOf(out.config);
  out.positions = kPositions;
  out.small_job = kSmallJob;
  out.job_spread_per_mille = 0;
  for (uint32_t node = 0; node < scenario.nodes.size(); ++node) {
    if (node == scenario.coordinator) continue;
    sim::Machine machine;
    machine.step_time =
        Milliseconds(scenario.nodes[node].step_ms.value_or(out.config.train.toy_step_ms));
    out.machines.push_back(machine);
  }
  return Simulated{std::move(out), std::move(wire_bytes)};
}

class SimRun {
 public:
  SimRun(const Scenario& scenario, Simulated simulated, const SimOptions& options)
      : scenario_(scenario),
        simulated_(std::move(simulated.scenario)),
        wire_bytes_(std::move(simulated.wire_bytes)),
        options_(options),
        faults_(scenario.seed, ~uint64_t{0}),
        disk_(faults_),
        network_(queue_, scenario),
        schedule_(scenario.incidents),
        history_([this](const Record& record, const State& state) { OnRecord(record, state); },
                 [this](const std::string& what) { Fail("journal: " + what); }) {
    for (uint32_t node = 0; node < scenario.nodes.size(); ++node) {
      if (node != scenario.coordinator) nodes_.push_back(node);
    }
    for (size_t i = 0; i < nodes_.size(); ++i) {
      keys_.emplace_back();
      keys_.back().bytes[0] = static_cast<uint8_t>(i + 1);
      keys_.back().bytes[1] = static_cast<uint8_t>((i + 1) >> 8);
    }
    disks_.resize(nodes_.size());
    running_.assign(nodes_.size(), SIZE_MAX);
  }

  RunOutcome Run() {
    StartCoordinator();
    ArmSchedule();
    queue_.RunUntil(Timestamp{scenario_.time_limit}, [this] { return over_; });
    RunOutcome out;
    out.elapsed_s = SecondsOf(queue_.now().since_epoch);
    out.finished = finished_;
    out.problem = problem_;
    if (!over_) {
      out.problem =
          absl::StrCat("not finished within time_limit_s = ", SecondsOf(scenario_.time_limit));
    }
    for (const Link& link : network_.links()) out.network.links.push_back(link.counters());
    Measure(&out);
    return out;
  }

 private:
  bool CoordinatorAlive() const { return !lives_.empty() && lives_.back()->alive(); }
  void Say(const std::string& text) const {
    if (options_.say) options_.say(text);
  }
  void Fail(std::string problem) {
    if (problem_.empty()) problem_ = std::move(problem);
    over_ = true;
  }

  // ---- processes ----

  void StartCoordinator() {
    disk_.Start(/*power_lost=*/false);
    sim::CoordinatorProcess::Options o;
    o.queue = &queue_;
    o.faults = &faults_;
    o.trace = &trace_;
    o.disk = &disk_;
    o.history = &history_;
    o.watchers = &watchers_;
    o.scenario = &simulated_;
    o.life = lives_.size() + 1;
    o.first_attempt = static_cast<uint64_t>(queue_.now().since_epoch.count()) + 1;
    o.send = [this, life = o.life](sim::Route route, sim::Packet packet) {
      packet.process = route;
      packet.life = life;
      Send(processes_[route]->machine(), sim::Direction::kDown, std::move(packet));
    };
    o.died = [this](sim::Death how, const absl::Status& status) { CoordinatorDied(how, status); };
    lives_.push_back(std::make_unique<sim::CoordinatorProcess>(std::move(o)));
    const absl::Status started = lives_.back()->Start();
    if (!started.ok()) return Fail("the coordinator did not start: " + started.ToString());
    const bool first = run_id_.empty();
    run_id_ = lives_.back()->run_id();
    for (const WorkerKey& key : keys_) lives_.back()->Allow(key, sim::MachineName(key));
    for (size_t i = 0; i < nodes_.size(); ++i) {
      if (first) {
        queue_.After(kProcessStart, [this, i] { StartWorker(i); });
      } else if (WorkerAlive(i)) {
        processes_[running_[i]]->Connected();
      }
    }
  }

  void CoordinatorDied(sim::Death how, const absl::Status& status) {
    network_.Forget(scenario_.coordinator);
    for (size_t i = 0; i < nodes_.size(); ++i) {
      if (WorkerAlive(i)) processes_[running_[i]]->Disconnected();
    }
    if (how == sim::Death::kKilled) return;
    finished_ = how == sim::Death::kFinished;
    if (!finished_) return Fail("the coordinator ended: " + status.ToString());
    over_ = true;
  }

  bool WorkerAlive(size_t machine) const {
    return running_[machine] != SIZE_MAX && processes_[running_[machine]]->alive();
  }

  void StartWorker(size_t machine) {
    if (over_ || WorkerAlive(machine) || processes_.size() >= kMaxProcesses) return;
    sim::WorkerProcess::Options o;
    o.queue = &queue_;
    o.faults = &faults_;
    o.trace = &trace_;
    o.watchers = &watchers_;
    o.scenario = &simulated_;
    o.process = processes_.size();
    o.machine = machine;
    o.key = keys_[machine];
    o.disk = &disks_[machine];
    o.run_id = run_id_;
    o.send = [this, process = o.process, machine](sim::Packet packet) {
      packet.process = process;
      packet.life = lives_.size();
      Send(machine, sim::Direction::kUp, std::move(packet));
    };
    o.exited = [](const ExitWorker&) {};
    running_[machine] = o.process;
    processes_.push_back(std::make_unique<sim::WorkerProcess>(std::move(o)));
    processes_.back()->Start();
  }

  void Send(size_t machine, sim::Direction direction, sim::Packet packet) {
    const bool up = direction == sim::Direction::kUp;
    const bool bulk = packet.is_chunk();
    const uint64_t bytes = SizeOf(packet);
    (up ? bytes_up_ : bytes_down_) += bytes;
    auto shared = std::make_shared<sim::Packet>(std::move(packet));
    const uint32_t from = up ? nodes_[machine] : scenario_.coordinator;
    const uint32_t to = up ? scenario_.coordinator : nodes_[machine];
    network_.Send(from, to, bulk, bytes, [this, shared, machine, up] {
      if (!up) {
        if (running_[machine] == shared->process)
          processes_[shared->process]->Receive(std::move(*shared));
      } else if (CoordinatorAlive() && shared->life == lives_.size()) {
        lives_.back()->Receive(shared->process, keys_[machine], *shared);
      }
    });
  }

  uint64_t SizeOf(const sim::Packet& packet) const {
    if (!packet.is_chunk()) return packet.control.size();
    const auto header = DecodeChunkHeader(AsBytes(packet.chunk_header));
    return packet.chunk_header.size() + (header.ok() ? wire_bytes_.at(header->kind) : 0);
  }

  // ---- incidents ----

  void ArmSchedule() {
    const std::optional<Duration> next = schedule_.Next();
    if (!next) return;
    queue_.At(Timestamp{*next}, [this] {
      for (const Schedule::Step& step : schedule_.Take(queue_.now().since_epoch)) Do(step);
      ArmSchedule();
    });
  }

  void Do(const Schedule::Step& step) {
    const Incident& incident = scenario_.incidents[step.incident];
    Say(DescribeStep(scenario_, step));
    if (incident.action != Action::kKill) return network_.Apply(step);
    const bool coordinator = incident.target == scenario_.coordinator;
    const auto machine = static_cast<size_t>(
        std::find(nodes_.begin(), nodes_.end(), incident.target) - nodes_.begin());
    if (!step.begins) {
      if (coordinator) {
        StartCoordinator();
      } else {
        queue_.After(kProcessStart, [this, machine] { StartWorker(machine); });
      }
      return;
    }
    if (coordinator && CoordinatorAlive()) {
      ++killed_;
      lives_.back()->Kill(sim::Death::kKilled);
    } else if (!coordinator && WorkerAlive(machine)) {
      ++killed_;
      processes_[running_[machine]]->Kill();
      network_.Forget(incident.target);
    }
  }

  // ---- what is seen ----

  void OnRecord(const Record& record, const State& state) {
    const auto* opened = std::get_if<RoundOpened>(&record.body);
    const auto* closed = std::get_if<RoundClosed>(&record.body);
    const auto* committed = std::get_if<RoundCommitted>(&record.body);
    if (opened) {
      if (open_round_ == 0) {
        first_opened_ = last_commit_ = queue_.now();
        for (const Link& link : network_.links()) before_.push_back(link.counters());
      }
      open_round_ = opened->round.value;
      Reached(open_round_, RoundState::kOpened);
    } else if (std::holds_alternative<ContributionAccepted>(record.body)) {
      Reached(open_round_, RoundState::kOffered);
    } else if (std::holds_alternative<ContributionHeld>(record.body)) {
      Reached(open_round_, RoundState::kHeld);
    } else if (closed) {
      Reached(closed->round.value, RoundState::kClosed);
    } else if (committed) {
      const Timestamp now = queue_.now();
      round_s_.push_back(SecondsOf(now - std::exchange(last_commit_, now)));
      Say(absl::StrFormat("round %u committed after %.3f s", committed->commit.round.value,
                          round_s_.back()));
      Reached(committed->commit.round.value, RoundState::kCommitted);
    } else if (std::holds_alternative<StateDisputed>(record.body)) {
      ++disputed_;
    }
    committed_positions_ = 0;
    for (uint64_t f = 0; f < simulated_.layout.size(); ++f)
      committed_positions_ += state.leases.totals(FragmentId{f}).committed;
  }

  // After the step that made the record: a kill must not happen in the middle of it.
  void Reached(uint64_t round, RoundState reached) {
    queue_.After(Duration(0), [this, round, reached] {
      schedule_.OnState(queue_.now().since_epoch, round, reached);
      ArmSchedule();
    });
  }

  void Measure(RunOutcome* out) {
    std::map<std::string, double>& m = out->metrics;
    const auto workers = static_cast<double>(nodes_.size());
    m["rounds"] = static_cast<double>(round_s_.size());
    m["committed_tokens"] = static_cast<double>(committed_positions_ * kTokensPerPosition) /
                            static_cast<double>(simulated_.layout.size());
    m["bytes_up_per_worker"] = static_cast<double>(bytes_up_) / workers;
    m["bytes_down_per_worker"] = static_cast<double>(bytes_down_) / workers;
    m["hash_mismatches"] = static_cast<double>(disputed_);
    m["killed"] = killed_;
    m["elapsed_seconds"] = out->elapsed_s;
    MeasureRounds(round_s_, {}, m);
    std::erase_if(m, [](const auto& metric) { return std::isnan(metric.second); });
    MeasureUplinks(scenario_, before_, LinksOf(*out), SecondsOf(last_commit_ - first_opened_), m);
    MeasureSolo(scenario_, SecondsOf(last_commit_ - first_opened_), m);
    out->checks = CheckAssertions(
        scenario_, m, [&](const Metric& metric) { return NotSimulated().contains(metric.name); });
  }
  static const std::vector<LinkCounters>& LinksOf(const RunOutcome& out) {
    return out.network.links;
  }
  static const std::set<std::string, std::less<>>& NotSimulated() {
    static const std::set<std::string, std::less<>> names = {
        "first_loss",       "final_loss",        "hash_checks",        "sync_seconds_p50",
        "sync_seconds_max", "computing_percent", "queue_drop_percent", "loss_percent"};
    return names;
  }

  const Scenario& scenario_;
  const sim::Scenario simulated_;
  const WireBytes wire_bytes_;
  const SimOptions& options_;
  sim::EventQueue queue_;
  sim::Faults faults_;
  sim::Trace trace_;
  sim::SimulatedDisk disk_;
  SimNetwork network_;
  Schedule schedule_;
  sim::Watchers watchers_;
  sim::History history_;
  std::vector<uint32_t> nodes_;  // by machine
  std::vector<WorkerKey> keys_;  // by machine, as the next
  std::vector<sim::WorkerDisk> disks_;
  std::vector<size_t> running_;  // by machine: the newest process
  std::vector<std::unique_ptr<sim::CoordinatorProcess>> lives_;
  std::vector<std::unique_ptr<sim::WorkerProcess>> processes_;
  std::string run_id_;
  std::string problem_;
  bool over_ = false;
  bool finished_ = false;
  uint64_t open_round_ = 0;
  Timestamp first_opened_;
  Timestamp last_commit_;
  std::vector<double> round_s_;
  std::vector<LinkCounters> before_;
  uint64_t bytes_up_ = 0;
  uint64_t bytes_down_ = 0;
  uint64_t committed_positions_ = 0;  // summed over fragments
  uint64_t disputed_ = 0;
  uint32_t killed_ = 0;
};

}  // namespace

absl::StatusOr<RunOutcome> SimulateScenario(const Scenario& scenario, const SimOptions& options) {
  ASSIGN_OR_RETURN(Simulated simulated, SimulatorScenario(scenario));
  return SimRun(scenario, std::move(simulated), options).Run();
}

}  // namespace longhaul::wan
