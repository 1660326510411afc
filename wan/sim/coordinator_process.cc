#include "wan/sim/coordinator_process.h"

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/rng.h"
#include "common/status_macros.h"
#include "compression/codec.h"
#include "coordinator/service.h"
#include "proto/codec.h"
#include "sync/state_hash.h"

namespace longhaul::sim {

absl::Status CoordinatorProcess::Start() {
  const Scenario& scenario = *options_.scenario;
  History& history = *options_.history;
  bool recovered = false;
  RunStartOptions start_options{.config = scenario.config,
                                .shape = scenario.shape,
                                .layout = scenario.layout,
                                .positions = scenario.positions,
                                .resume_path = options_.roll_back_to,
                                .journal = scenario.journal,
                                .random_run = Draw(scenario.seed, {1}),
                                .random_generation = Draw(scenario.seed, {2, options_.life})};
  start_options.on_decision = [&](const State& before, const Record& record) {
    if (!std::exchange(recovered, true)) history.Recovered(before);
    history.Writing(record);
  };
  ASSIGN_OR_RETURN(RunStart start, StartRun(*options_.disk, start_options));
  if (!std::exchange(recovered, true)) history.Recovered(start.state);
  history.Written();
  journal_ = std::move(start.journal);
  sequence_ = journal_->last_sequence() << 32;
  run_id_ = start.state.run_id;
  generation_ = start.state.generation;
  epoch_ = start.state.now;
  started_ = options_.queue->now();
  ASSIGN_OR_RETURN(std::vector<std::unique_ptr<Reducer>> reducers, OpenReducers(start));
  core_ = std::make_unique<Coordinator>(scenario.config);
  core_->Restore(std::move(start.state));
  if (scenario.config.round.plan == "auto")
    planner_.emplace(RoundPlanner::OptionsOf(scenario.config));
  StartReducerHost(std::move(reducers), start.checkpoint.state);
  alive_ = true;
  Step(BootEvent{.restarted = start.restarted});
  Tick();
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::unique_ptr<Reducer>>> CoordinatorProcess::OpenReducers(
    const RunStart& start) {
  const SyncSection& sync = options_.scenario->config.sync;
  const std::vector<FragmentLayout>& layout = options_.scenario->layout;
  const Checkpoint& c = start.checkpoint;
  std::vector<std::unique_ptr<Reducer>> reducers;
  RETURN_IF_ERROR(options_.disk->MakeFolder(kReducerFolder));
  for (uint64_t i = 0; i < layout.size(); ++i) {
    const Version from = c.state.fragments[i].version;
    ASSIGN_OR_RETURN(std::unique_ptr<Reducer> reducer,
                     Reducer::Open({.storage = options_.disk,
                                    .folder = std::string(kReducerFolder) + "/" + std::to_string(i),
                                    .fragment = FragmentId{i},
                                    .elements = layout[i].elements,
                                    .codec_up = *CodecByName(sync.codec),
                                    .codec_down = *CodecByName(sync.codec_down),
                                    .beta_down = static_cast<float>(sync.error_feedback)}));
    RETURN_IF_ERROR(reducer->Load(start.state.generation, from, PartOf(layout[i], c.parameters),
                                  PartOf(layout[i], c.momentum), PartOf(layout[i], c.residual)));
    std::vector<CommitView> commits;
    const Fragment& f = start.state.fragments[i];
    for (auto it = f.commits.upper_bound(from); it != f.commits.end(); ++it)
      commits.push_back(it->second.view);
    ASSIGN_OR_RETURN(Reducer::Recovered recovered, reducer->Recover(commits));
    const ReducerView view{
        generation_,           FragmentId{i},
        reducer->version(),    StateHash(reducer->parameters(), reducer->momentum()),
        reducer->parameters(), reducer->momentum(),
        reducer->residual()};
    options_.watchers->Tell([&](Watcher& w) { w.OnReducer(view, recovered.residual_reset); });
    reducers.push_back(std::move(reducer));
  }
  return reducers;
}

void CoordinatorProcess::StartReducerHost(std::vector<std::unique_ptr<Reducer>> reducers,
                                          const CheckpointState& newest) {
  ReducerHost::Options o;
  o.queue = options_.queue;
  o.faults = options_.faults;
  o.disk = options_.disk;
  o.watchers = options_.watchers;
  o.generation = generation_;
  o.shape = options_.scenario->shape;
  o.layout = options_.scenario->layout;
  o.checkpoints_kept = std::max<uint32_t>(2, options_.scenario->config.checkpoint.keep);
  o.first_attempt = options_.first_attempt;
  o.slices = SliceOptions(*options_.scenario, options_.disk, kSliceFolder);
  o.seed = Draw(options_.scenario->seed, {3, options_.life});
  o.post = [this](EventBody body) {
    options_.queue->After(Duration(0), [this, body = std::move(body)] {
      if (alive_) Step(body);
    });
  };
  o.fail = [this](absl::Status status) { Die(Death::kFailed, status); };
  o.send_control = [this](Route route, const Message& message) { SendTo(route, message); };
  o.send_chunk = [this](Route route, const ChunkHeader& header, std::string payload) {
    if (Survives())
      options_.send(route,
                    {.chunk_header = EncodeChunkHeader(header), .payload = std::move(payload)});
  };
  o.alive = [this] { return Survives(); };
  reducer_ = std::make_unique<ReducerHost>(std::move(o), std::move(reducers), newest);
}

Timestamp CoordinatorProcess::Now() const { return epoch_ + (options_.queue->now() - started_); }

bool CoordinatorProcess::Survives() {
  if (!alive_) return false;
  if (options_.faults->Happens(FaultKind::kCoordinatorKill)) {
    Die(Death::kKilled, absl::OkStatus());
  } else if (options_.faults->Happens(FaultKind::kPowerLoss)) {
    Die(Death::kPowerLost, absl::OkStatus());
  }
  return alive_;
}

void CoordinatorProcess::Die(Death how, const absl::Status& status) {
  if (!std::exchange(alive_, false)) return;
  options_.disk->Stop();
  options_.died(how, status);
}

void CoordinatorProcess::Tick() {
  if (!Survives()) return;
  Step(TickEvent{});
  CheckSilence();
  if (!alive_) return;
  if (std::exchange(plan_due_, false)) PlanRounds();
  if (!alive_) return;
  reducer_->Tick();
  if (over_ && (peers_.empty() || Now() - over_since_ > kFarewell))
    return Die(Death::kFinished, absl::OkStatus());
  options_.queue->After(kTickEvery, [this] { Tick(); });
}

void CoordinatorProcess::Allow(const WorkerKey& key, const std::string& name) {
  if (alive_) Step(AllowEvent{key, name});
}

void CoordinatorProcess::Plan(const EventBody& plan) {
  if (alive_) Step(plan);
}

// ---- what comes in ----

void CoordinatorProcess::Receive(Route route, const WorkerKey& user, const Packet& packet) {
  if (!alive_) return;
  if (packet.peer != WorkerKey{}) return Relay(user, packet);
  if (packet.is_chunk()) return reducer_->Chunk(user, packet.chunk_header, packet.payload);
  absl::StatusOr<Envelope> envelope = DecodeEnvelope(AsBytes(packet.control));
  if (!envelope.ok() || envelope->protocol_version != kProtocolVersion ||
      envelope->run != run_id_) {
    return;
  }
  if (const auto* hello = std::get_if<Hello>(&envelope->body)) {
    replying_to_ = route;
    return Step(HelloEvent{{1}, user, *hello});
  }
  if (const auto* fetch = std::get_if<Fetch>(&envelope->body)) {
    if (fetch->object.generation == core_->state().generation) reducer_->Serve(route, *fetch);
    return;
  }
  HandleSession(route, user, *envelope);
}

void CoordinatorProcess::HandleSession(Route route, const WorkerKey& user,
                                       const Envelope& envelope) {
  const SessionId session = envelope.session;
  if (auto refused = core_->WhyNotLive(session)) return SendTo(route, *refused);
  if (core_->state().sessions.at(session).key != user) return;
  if (envelope.generation != core_->state().generation) {
    return SendTo(route,
                  Refused{RefusalCode::kWrongGeneration, "the run went back to a checkpoint"});
  }
  Peer& peer = peers_[session];
  peer.last_heard = Now();
  options_.watchers->Tell([&](Watcher& w) { w.OnHeard(session, Now()); });
  if (peer.route != route) {
    peer.route = route;
    reducer_->RouteChanged(session, user, route);
  }
  if (const auto* heartbeat = std::get_if<Heartbeat>(&envelope.body)) {
    HandleHeartbeat(session, *heartbeat);
  } else if (const auto* ready = std::get_if<ContributionReady>(&envelope.body)) {
    Step(ContributionEvent{session, *ready});
  } else if (const auto* done = std::get_if<RequestDone>(&envelope.body)) {
    Step(RequestDoneEvent{session, *done});
  } else if (const auto* report = std::get_if<SliceReport>(&envelope.body)) {
    Step(SliceReportEvent{session, *report});
  } else if (const auto* held = std::get_if<AggregateHeld>(&envelope.body)) {
    Step(AggregateHeldEvent{session, held->object});
  } else if (const auto* leave = std::get_if<Leave>(&envelope.body)) {
    Step(LeaveEvent{session, leave->hand_in});
  }
}

void CoordinatorProcess::HandleHeartbeat(SessionId session, const Heartbeat& heartbeat) {
  Peer& peer = peers_[session];
  if (planner_) planner_->OnHeartbeat(session, heartbeat);
  if (peer.stated != heartbeat.fragments) {
    peer.stated = heartbeat.fragments;
    Step(StatedEvent{session, heartbeat.fragments});
  }
  if (alive_) SendAssignment(session);
}

void CoordinatorProcess::CheckSilence() {
  const Duration beat =
      Seconds(1) * static_cast<int64_t>(options_.scenario->config.run.patience * 1000) / 1000;
  std::vector<SessionId> silent, late;
  for (const auto& [id, session] : core_->state().sessions) {
    auto [peer, is_new] = peers_.try_emplace(id);
    if (is_new) peer->second.last_heard = Now();
    const Duration unheard = Now() - peer->second.last_heard;
    if (unheard > kSilentBeats * beat) silent.push_back(id);
    if (unheard > kLateBeats * beat) late.push_back(id);
  }
  if (late != late_) Step(LateEvent{late_ = late});
  if (!alive_) return;
  if (silent.empty() && !core_->state().frozen_until) return;
  Step(SilentEvent{silent});
  for (SessionId id : silent) {
    if (!core_->state().sessions.contains(id)) peers_.erase(id);
  }
}

// ---- what goes out ----

void CoordinatorProcess::Step(const EventBody& body) {
  const Effects effects = core_->Step(Event{Now(), body});
  if (!effects.fatal.empty()) return Die(Death::kFailed, absl::DataLossError(effects.fatal));
  options_.watchers->Tell([&](Watcher& w) { w.OnEvent(body, effects); });
  if (!Journal(effects.records)) return;
  for (const Reply& reply : effects.replies) {
    if (!Survives()) return;
    Answer(reply);
  }
  for (const Request& request : effects.requests) {
    if (!Survives()) return;
    Do(request);
  }
  for (SessionId session : effects.notify) {
    if (!Survives()) return;
    SendAssignment(session);
  }
}

bool CoordinatorProcess::Journal(const std::vector<Record>& records) {
  if (records.empty()) return true;
  for (const Record& record : records) {
    options_.history->Writing(record);
    options_.trace->Note(options_.queue->now(), "record", EncodeRecord(record),
                         [&] { return DescribeRecord(record); });
  }
  if (!Survives()) return false;
  if (absl::Status status = AppendRecords(*journal_, records); !status.ok()) {
    Die(Death::kFailed, status);
    return false;
  }
  options_.history->Written();
  for (const Record& record : records) OnRecord(record);
  if (journal_->snapshot_due()) {
    if (!Survives()) return false;
    // A failure costs nothing but a longer restart.
    (void)journal_->StoreSnapshot(EncodeState(core_->state()));
  }
  return alive_;
}

void CoordinatorProcess::OnRecord(const Record& record) {
  if (!planner_) return;
  planner_->OnRecord(record);
  plan_due_ = plan_due_ || std::holds_alternative<RoundCommitted>(record.body) ||
              std::holds_alternative<MemberReady>(record.body) ||
              std::holds_alternative<SessionEnded>(record.body);
}

void CoordinatorProcess::PlanRounds() {
  if (core_->state().phase != Phase::kRunning) return;
  std::map<SessionId, uint64_t> steps;
  for (const auto& [id, session] : core_->state().sessions) {
    if (session.ready && !session.finishing) steps[id] = session.steps;
  }
  PlanEvent event = planner_->Plan(steps);
  if (!event.steps.empty()) Step(std::move(event));
}

void CoordinatorProcess::Answer(const Reply& reply) {
  SessionId session;
  if (const auto* welcome = std::get_if<Welcome>(&reply.message)) {
    session = welcome->session;
    peers_[session].route = replying_to_;
    peers_[session].last_heard = Now();
    reducer_->RouteChanged(session, core_->state().sessions.at(session).key, replying_to_);
  }
  SendTo(replying_to_, reply.message, session);
}

void CoordinatorProcess::SendAssignment(SessionId session) {
  auto peer = peers_.find(session);
  if (peer == peers_.end()) return;
  if (auto refused = core_->WhyNotLive(session)) {
    SendTo(peer->second.route, *refused, session);
    peers_.erase(peer);
    return;
  }
  SendTo(peer->second.route, core_->AssignmentFor(session, peer->second.stated), session);
}

void CoordinatorProcess::SendTo(Route route, const Message& message, SessionId session) {
  if (route == kNoRoute || !alive_) return;
  options_.watchers->Tell([&](Watcher& w) { w.OnSaid(message, options_.history->state()); });
  Envelope envelope{.run = run_id_, .generation = generation_, .session = session, .body = message};
  envelope.sequence = ++sequence_;
  absl::StatusOr<std::string> bytes = EncodeEnvelope(envelope);
  LONGHAUL_CHECK(bytes.ok(), "what the coordinator says can be encoded");
  options_.send(route, {.control = std::move(*bytes)});
}

// Between workers that do not reach each other.
void CoordinatorProcess::Relay(const WorkerKey& from, Packet packet) {
  auto worker = core_->state().workers.find(packet.peer);
  if (worker == core_->state().workers.end()) return;
  auto peer = peers_.find(worker->second.session);
  if (peer == peers_.end() || peer->second.route == kNoRoute) return;
  packet.peer = from;
  options_.send(peer->second.route, std::move(packet));
}

void CoordinatorProcess::Do(const Request& request) {
  if (const auto* r = std::get_if<ExpectContribution>(&request)) {
    DoExpect(*r);
  } else if (const auto* r = std::get_if<DropContribution>(&request)) {
    reducer_->Drop(*r);
  } else if (const auto* r = std::get_if<ReduceRound>(&request)) {
    reducer_->Reduce(*r);
  } else if (const auto* r = std::get_if<InstallRound>(&request)) {
    reducer_->Install(*r);
  } else if (const auto* r = std::get_if<StoreCheckpoint>(&request)) {
    DoCheckpoint(*r);
  } else if (const auto* r = std::get_if<ReduceSlices>(&request)) {
    reducer_->Slices(*r);
  } else if (const auto* r = std::get_if<AssembleRound>(&request)) {
    reducer_->Assemble(*r);
  } else if (const auto* r = std::get_if<ShutDown>(&request)) {
    if (!over_) over_since_ = Now();
    over_ = *r;
  }
}

void CoordinatorProcess::DoExpect(const ExpectContribution& request) {
  const ObjectId& object = request.object.id;
  const std::optional<Round>& round = core_->state().fragment(object.fragment).round;
  if (!round) return;  // decided in the same step
  auto c = round->contributions.find(object.contribution.session);
  if (c == round->contributions.end()) return;
  auto peer = peers_.find(object.contribution.session);
  reducer_->Expect(request, c->second.key, peer == peers_.end() ? kNoRoute : peer->second.route);
}

void CoordinatorProcess::DoCheckpoint(const StoreCheckpoint& request) {
  const State& state = core_->state();
  reducer_->Checkpoint(request, CheckpointState{.run = state.run_id,
                                                .generation = state.generation,
                                                .round = request.round.value,
                                                .data_identity = state.data_identity,
                                                .seed = options_.scenario->config.run.seed});
}

}  // namespace longhaul::sim
