#include "coordinator/service.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>

#include "common/log.h"
#include "common/rng.h"
#include "common/status_macros.h"
#include "compression/codec.h"
#include "coordinator/coverage.h"
#include "coordinator/exchange.h"
#include "coordinator/human.h"
#include "proto/codec.h"

namespace longhaul {
namespace {

int64_t MonotonicNs() {
  return std::chrono::duration_cast<Duration>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

uint64_t UnixSeconds() { return static_cast<uint64_t>(std::time(nullptr)); }

// On the fragment that is furthest behind.
uint64_t CommittedPositions(const LeaseBook& leases) {
  uint64_t least = leases.total();
  for (uint64_t i = 0; i < leases.fragments(); ++i)
    least = std::min(least, leases.totals(FragmentId{i}).committed);
  return least;
}

Role RoleOf(const AdmitKey& admit) { return admit.invitation ? Role::kInvitation : Role::kWorker; }

}  // namespace

CoordinatorService::CoordinatorService(Options options, Observer observer)
    : options_(std::move(options)),
      observer_(std::move(observer)),
      planner_(RoundPlanner::OptionsOf(options_.config)) {}

CoordinatorService::~CoordinatorService() {
  events_.Close();
  if (reducer_) reducer_->Stop();  // they send through the server
  if (blobs_) blobs_->Stop();
  server_.reset();  // its thread hands messages to the reducer, which refuses them
  reducer_.reset();
  blobs_.reset();
}

absl::StatusOr<std::unique_ptr<CoordinatorService>> CoordinatorService::Start(
    const Options& options, Observer observer) {
  std::unique_ptr<CoordinatorService> service(new CoordinatorService(options, std::move(observer)));
  RETURN_IF_ERROR(service->Open());
  return service;
}

absl::Status CoordinatorService::Open() {
  ASSIGN_OR_RETURN(folder_, RunFolder::Open(options_.folder));
  ASSIGN_OR_RETURN(RunStart start,
                   StartRun(folder_->storage(), {.config = options_.config,
                                                 .shape = options_.shape,
                                                 .layout = options_.layout,
                                                 .data_identity = options_.data_identity,
                                                 .positions = options_.positions,
                                                 .resume_from = options_.resume_from,
                                                 .random_run = Draw(options_.random, {1}),
                                                 .random_generation = Draw(options_.random, {2})}));
  journal_ = std::move(start.journal);
  // Every life begins with a record of its own, so its messages come after those of earlier lives.
  sequence_ = journal_->last_sequence() << 32;
  restarted_ = start.restarted;
  run_id_ = start.state.run_id;
  generation_ = start.state.generation;
  epoch_ = start.state.now;
  zero_ns_ = MonotonicNs();

  ASSIGN_OR_RETURN(std::vector<std::unique_ptr<Reducer>> reducers, OpenReducers(start));
  core_ = std::make_unique<Coordinator>(options_.config);
  core_->Restore(std::move(start.state));
  for (uint64_t i = 0; i < core_->state().fragments.size(); ++i) {
    const std::optional<Round>& round = core_->state().fragments[i].round;
    if (round) rounds_[FragmentId{i}] = {round->opened, std::nullopt, round->members.size()};
  }
  StartReducers(std::move(reducers), start.checkpoint.state);
  if (options_.data) {
    StartBlobs();
    domains_ = DomainCoverageOf(core_->state(), *options_.data);
  }
  // Before the port is open: whoever is enrolled must not be turned away.
  Step(BootEvent{.restarted = restarted_});
  if (failure_) return *failure_;
  return StartServer();
}

absl::StatusOr<std::vector<std::unique_ptr<Reducer>>> CoordinatorService::OpenReducers(
    const RunStart& start) {
  const Checkpoint& c = start.checkpoint;
  const SyncSection& sync = options_.config.sync;
  std::vector<std::unique_ptr<Reducer>> reducers;
  RETURN_IF_ERROR(folder_->storage().MakeFolder(kReducerFolder));
  for (uint64_t i = 0; i < options_.layout.size(); ++i) {
    const FragmentLayout& layout = options_.layout[i];
    const Version from = c.state.fragments[i].version;
    ASSIGN_OR_RETURN(
        std::unique_ptr<Reducer> reducer,
        Reducer::Open({.storage = &folder_->storage(),
                       .folder = std::string(kReducerFolder) + "/" + std::to_string(i),
                       .fragment = FragmentId{i},
                       .elements = layout.elements,
                       .codec_up = *CodecSpecByName(sync.codec, sync.bits),
                       .codec_down = *CodecSpecByName(sync.codec_down, BitsDown(options_.config)),
                       .beta_down = static_cast<float>(sync.error_feedback),
                       .layout = i < options_.tensors.size() ? options_.tensors[i]
                                                             : std::vector<TensorSpan>(),
                       .rules = RulesOf(sync)}));
    RETURN_IF_ERROR(reducer->Load(start.state.generation, from, PartOf(layout, c.parameters),
                                  PartOf(layout, c.momentum), PartOf(layout, c.residual)));
    std::vector<CommitView> commits;
    const Fragment& f = start.state.fragments[i];
    for (auto it = f.commits.upper_bound(from); it != f.commits.end(); ++it)
      commits.push_back(it->second.view);
    ASSIGN_OR_RETURN(Reducer::Recovered recovered, reducer->Recover(commits));
    if (recovered.residual_reset)
      LogWarning("the reducer's residual was lost and starts again at zero");
    reducers.push_back(std::move(reducer));
  }
  return reducers;
}

void CoordinatorService::StartReducers(std::vector<std::unique_ptr<Reducer>> reducers,
                                       const CheckpointState& newest) {
  ReducerThread::Options o;
  o.storage = &folder_->storage();
  o.shape = options_.shape;
  o.layout = options_.layout;
  o.checkpoints_kept = std::max<uint32_t>(2, options_.config.checkpoint.keep);
  o.first_attempt = static_cast<uint64_t>(MonotonicNs());
  o.slices.storage = &folder_->storage();
  o.slices.folder = kSliceFolder;
  for (size_t i = 0; i < options_.layout.size(); ++i) {
    o.slices.fragments.push_back({options_.layout[i].elements, i < options_.tensors.size()
                                                                   ? options_.tensors[i]
                                                                   : std::vector<TensorSpan>()});
  }
  const SyncSection& sync = options_.config.sync;
  o.slices.codec_up = *CodecSpecByName(sync.codec, sync.bits);
  o.slices.codec_down = *CodecSpecByName(sync.codec_down, BitsDown(options_.config));
  o.slices.beta_down = static_cast<float>(sync.error_feedback);
  o.slices.rules = RulesOf(sync);
  o.post = [this](EventBody body) { events_.Push(ShellEvent(std::move(body))); };
  o.fail = [this](absl::Status status) { events_.Push(ShellEvent(Failure{std::move(status)})); };
  o.send_control = [this](const std::string& route, const Message& message) {
    SendTo(route, message);
  };
  o.send_bulk = [this](const std::string& route, std::vector<Frame>&& frames) {
    if (blobs_) blobs_->NoteExchange();
    return server_->Send(route, std::move(frames));
  };
  o.link = [this](const WorkerKey& key) -> std::optional<LinkRow> {
    RouterServer* server = serving_;  // a restarted run begins before it
    return server ? server->Link(key) : std::nullopt;
  };
  o.cut_overrun = [this](const WorkerKey& key) {
    LogWarning("a worker sent more than it was granted: its connections are cut");
    if (RouterServer* server = serving_) server->Cut(key, CutReason::kCreditOverrun);
  };
  reducer_ = std::make_unique<ReducerThread>(std::move(o), std::move(reducers), newest);
}

absl::Status CoordinatorService::StartServer() {
  ServerOptions o;
  o.listen = options_.config.network.listen;
  o.keys = folder_->keys();
  o.key_table = &key_table_;
  o.on_message = [this](Inbound&& inbound) { OnMessage(std::move(inbound)); };
  o.note = EncodeRunConfig(options_.config);  // for doctor's verdict
  o.on_room = [this](const std::string& route) {
    reducer_->Room(route);
    relay_.Room(route);
    if (blobs_) blobs_->Room(route);
  };
  key_table_.Add(folder_->admin_keys().public_key, Role::kAdmin);
  auto server = RouterServer::Start(std::move(o));
  if (!server.ok()) {
    return absl::FailedPreconditionError(std::string(server.status().message()) +
                                         "; set network.listen to another address:port");
  }
  server_ = std::move(*server);
  serving_ = server_.get();
  // Who administers it does so on this machine.
  std::string endpoint = ReachableAddresses(server_->address()).back() + " " + run_id_;
  for (const std::string& address : JoinAddresses()) endpoint += " " + address;
  return WriteAtomically(folder_->storage(), kEndpoint, AsBytes(endpoint + "\n"));
}

// On the socket thread: chunks go to the reducer, everything else to the loop. What does not fit is
// dropped; its sender says it again.
void CoordinatorService::OnMessage(Inbound&& inbound) {
  if (relay_.Take(inbound)) return;
  if (inbound.frames.size() == 2 && inbound.role == Role::kWorker) {
    reducer_->Chunk(inbound.user, std::move(inbound.frames));
  } else if (inbound.frames.size() == 1) {
    events_.TryPush(ShellEvent(std::move(inbound)));
  }
}

Timestamp CoordinatorService::Now() const { return epoch_ + Duration(MonotonicNs() - zero_ns_); }

absl::StatusOr<CoordinatorService::Outcome> CoordinatorService::Run(const std::atomic<int>& stop) {
  Timestamp next_tick = Now();
  const Timestamp started = Now();
  while (stop == 0) {
    if (auto event = events_.PopFor(std::max(Duration(0), next_tick - Now())))
      Handle(std::move(*event));
    if (failure_) return *failure_;
    if (Now() < next_tick) continue;
    next_tick = Now() + kTickEvery;
    Step(TickEvent{});
    CheckSilence();
    if (std::exchange(plan_due_, false)) {
      PlanRounds();
      MeasureLinks();
    }
    reducer_->Tick(Now());
    PublishStatus();
    if (over_ && (peers_.empty() || Now() - over_since_ > kFarewell)) break;
    if (options_.worker_wait > Duration(0) && !anybody_joined_ &&
        Now() - started > options_.worker_wait) {
      return absl::DeadlineExceededError("no worker joined within " +
                                         std::to_string(options_.worker_wait / Seconds(1)) + " s");
    }
  }
  if (blobs_) LogInfo("training data: " + std::to_string(blobs_->sent_bytes()) + " bytes sent");
  return MakeOutcome();
}

void CoordinatorService::Handle(ShellEvent&& event) {
  if (auto* inbound = std::get_if<Inbound>(&event)) return HandleInbound(*inbound);
  if (auto* failure = std::get_if<Failure>(&event)) {
    failure_ = failure->status;
    return;
  }
  Step(std::move(std::get<EventBody>(event)));
}

void CoordinatorService::HandleInbound(const Inbound& inbound) {
  absl::StatusOr<Envelope> envelope = DecodeEnvelope(inbound.frames[0].bytes());
  if (!envelope.ok())
    return LogDebug("a message was refused: " + std::string(envelope.status().message()));
  if (envelope->protocol_version != kProtocolVersion) {
    return SendTo(inbound.route, Refused{RefusalCode::kVersionMismatch,
                                         "the coordinator speaks protocol version " +
                                             std::to_string(kProtocolVersion) + ", this worker " +
                                             std::to_string(envelope->protocol_version) +
                                             "; install the same release on both"});
  }
  if (envelope->run != run_id_) {
    return SendTo(inbound.route,
                  Refused{RefusalCode::kInvitationUnknown, "this coordinator runs another run"});
  }
  HandleEnvelope(inbound, *envelope);
}

void CoordinatorService::HandleEnvelope(const Inbound& inbound, const Envelope& envelope) {
  if (const auto* enroll = std::get_if<Enroll>(&envelope.body))
    return HandleEnroll(inbound, *enroll);
  if (inbound.role == Role::kAdmin) return HandleAdmin(inbound, envelope);
  if (inbound.role != Role::kWorker) return;
  if (const auto* hello = std::get_if<Hello>(&envelope.body)) return HandleHello(inbound, *hello);
  if (const auto* fetch = std::get_if<Fetch>(&envelope.body)) {
    if (fetch->object.generation == core_->state().generation)
      reducer_->Serve(inbound.route, *fetch);
    return;
  }
  if (const auto* fetch = std::get_if<FetchBlob>(&envelope.body)) {
    return HandleFetchBlob(inbound, *fetch);
  }
  HandleSession(inbound, envelope);
}

void CoordinatorService::HandleEnroll(const Inbound& inbound, const Enroll& enroll) {
  EnrollEvent event{.reply = {1}, .enroll = enroll, .unix_s = UnixSeconds()};
  const std::string statement =
      EnrollmentStatement(run_id_, enroll.invitation, enroll.key, enroll.ed25519_public);
  event.signature_valid =
      VerifySignature(enroll.ed25519_public, AsBytes(statement), enroll.signature);
  event.one_off_key_used =
      inbound.role == Role::kInvitation && InvitationId(inbound.user) == enroll.invitation;
  replies_[1] = inbound.route;
  Step(std::move(event));
}

void CoordinatorService::HandleAdmin(const Inbound& inbound, const Envelope& envelope) {
  replies_[1] = inbound.route;
  if (const auto* invite = std::get_if<AdminInvite>(&envelope.body)) {
    Step(InviteEvent{ReplyTo{1}, invite->invitation, invite->one_off_key, invite->expires_unix_s,
                     invite->uses});
  } else if (const auto* revoke = std::get_if<AdminRevoke>(&envelope.body)) {
    Step(RevokeEvent{ReplyTo{1}, revoke->invitation});
  }
}

void CoordinatorService::HandleHello(const Inbound& inbound, const Hello& hello) {
  const bool toy_run = options_.config.train.optimizer == "toy";
  if (hello.toy != toy_run) {
    return SendTo(inbound.route,
                  Refused{RefusalCode::kWrongData, toy_run ? "this run is for longhaul-worker-toy"
                                                           : "this run needs longhaul-worker"});
  }
  replies_[1] = inbound.route;
  Step(HelloEvent{{1}, inbound.user, hello});
  NoteOffer(inbound.user, hello.peer_address);
}

void CoordinatorService::HandleSession(const Inbound& inbound, const Envelope& envelope) {
  const SessionId session = envelope.session;
  if (auto refused = core_->WhyNotLive(session)) return SendTo(inbound.route, *refused);
  if (core_->state().sessions.at(session).key != inbound.user) return;  // somebody else's session
  if (envelope.generation != core_->state().generation) {
    return SendTo(inbound.route,
                  Refused{RefusalCode::kWrongGeneration, "the run went back to a checkpoint"});
  }
  Peer& peer = peers_[session];
  peer.last_heard = Now();
  if (peer.route != inbound.route) {  // after a restart its Hello may have been lost
    peer.route = inbound.route;
    reducer_->RouteChanged(session, inbound.user, inbound.route);
  }
  if (const auto* heartbeat = std::get_if<Heartbeat>(&envelope.body)) {
    HandleHeartbeat(session, *heartbeat);
  } else if (const auto* ready = std::get_if<ContributionReady>(&envelope.body)) {
    auto round = rounds_.find(ready->object.id.fragment);
    if (round != rounds_.end() && !round->second.first_ready) round->second.first_ready = Now();
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

void CoordinatorService::HandleHeartbeat(SessionId session, const Heartbeat& heartbeat) {
  Peer& peer = peers_[session];
  peer.heartbeat = heartbeat;
  planner_.OnHeartbeat(session, heartbeat);
  if (peer.stated != heartbeat.fragments) {
    for (const FragmentState& stated : heartbeat.fragments) CountHashCheck(peer.stated, stated);
    peer.stated = heartbeat.fragments;
    Step(StatedEvent{session, heartbeat.fragments});
  }
  SendAssignment(session);
}

void CoordinatorService::CountHashCheck(const std::vector<FragmentState>& before,
                                        const FragmentState& stated) {
  const State& state = core_->state();
  if (stated.fragment.value >= state.fragments.size() ||
      std::find(before.begin(), before.end(), stated) != before.end())
    return;
  const Fragment& f = state.fragment(stated.fragment);
  auto hash = f.hashes.find(stated.version);
  if (hash == f.hashes.end()) return;
  ++hash_checks_;
  if (hash->second != stated.state_hash) ++hash_mismatches_;
}

void CoordinatorService::Step(EventBody body) {
  if (failure_) return;
  Effects effects = core_->Step(Event{Now(), std::move(body)});
  if (!effects.fatal.empty()) {
    failure_ = absl::DataLossError(effects.fatal);
    return;
  }
  if (absl::Status status = AppendRecords(*journal_, effects.records); !status.ok()) {
    failure_ = absl::Status(status.code(),
                            "the journal cannot be written: " + std::string(status.message()));
    return;
  }
  if (!effects.records.empty() && journal_->snapshot_due()) {
    absl::Status stored = journal_->StoreSnapshot(EncodeState(core_->state()));
    if (!stored.ok()) LogWarning("no snapshot: " + std::string(stored.message()));
  }
  for (const Record& record : effects.records) OnRecord(record);
  if (!effects.records.empty()) TellRelay();
  for (const Ignored& ignored : effects.ignored) {
    metrics_.Ignored();
    LogDebug("a message of session " + std::to_string(ignored.session.value) +
             " was not acted upon: " + ignored.reason);
  }
  for (const Reply& reply : effects.replies) {
    const std::string& route = replies_[reply.to.token];
    SessionId session;
    if (const auto* welcome = std::get_if<Welcome>(&reply.message)) {
      session = welcome->session;
      peers_[session].route = route;
      peers_[session].name = core_->state().sessions.at(session).name;
      peers_[session].last_heard = Now();
      reducer_->RouteChanged(session, core_->state().sessions.at(session).key, route);
    }
    if (const auto* refused = std::get_if<Refused>(&reply.message)) metrics_.Refused(refused->code);
    Message message = reply.message;
    if (auto* welcome = std::get_if<Welcome>(&message); welcome && options_.data) {
      welcome->manifest_id = options_.data->manifest_id();
      welcome->manifest_bytes = options_.data->encoded().size();
    }
    SendTo(route, message, session);
  }
  for (const Request& request : effects.requests) {
    if (!Do(request))
      failure_ = absl::ResourceExhaustedError("the reducer does not keep up with its commands");
  }
  for (SessionId session : effects.notify) SendAssignment(session);
}

void CoordinatorService::TellRelay() {
  if (options_.config.reduce.placement != "workers") return;
  std::set<WorkerKey> keys;
  for (const auto& [id, session] : core_->state().sessions) {
    if (!session.peer_address.empty()) keys.insert(session.key);
  }
  relay_.SetReducers(std::move(keys));
}

void CoordinatorService::SendAssignment(SessionId session) {
  auto peer = peers_.find(session);
  if (peer == peers_.end()) return;
  if (auto refused = core_->WhyNotLive(session)) {
    SendTo(peer->second.route, *refused, session);
    peers_.erase(peer);
    return;
  }
  Assignment assignment = core_->AssignmentFor(session, peer->second.stated);
  if (directory_.Offers(session)) AddReaders(assignment.peers);
  SendTo(peer->second.route, assignment, session);
}

void CoordinatorService::SendTo(const std::string& route, const Message& message,
                                SessionId session) {
  if (route.empty()) return;
  Envelope envelope{.run = run_id_, .generation = generation_, .session = session, .body = message};
  envelope.sequence = ++sequence_;
  absl::StatusOr<std::string> bytes = EncodeEnvelope(envelope);
  if (!bytes.ok())
    return LogError("a message could not be encoded: " + std::string(bytes.status().message()));
  std::vector<Frame> frames;
  frames.emplace_back(std::move(*bytes));
  server_->Send(route,
                std::move(frames));  // a full queue: the next heartbeat's answer says it again
}

bool CoordinatorService::Do(const Request& request) {
  if (const auto* r = std::get_if<ExpectContribution>(&request)) return DoExpect(*r);
  if (const auto* r = std::get_if<DropContribution>(&request)) return reducer_->Drop(*r);
  if (const auto* r = std::get_if<ReduceRound>(&request)) return reducer_->Reduce(*r);
  if (const auto* r = std::get_if<InstallRound>(&request)) return reducer_->Install(*r);
  if (const auto* r = std::get_if<StoreCheckpoint>(&request)) return DoCheckpoint(*r);
  if (const auto* r = std::get_if<ReduceSlices>(&request))
    return reducer_->Slices(core_->state().generation, *r);
  if (const auto* r = std::get_if<AssembleRound>(&request)) return reducer_->Assemble(*r);
  if (const auto* r = std::get_if<AdmitKey>(&request)) key_table_.Add(r->key, RoleOf(*r));
  if (const auto* r = std::get_if<ExpelKey>(&request)) key_table_.Remove(r->key);
  if (const auto* r = std::get_if<ShutDown>(&request)) {
    if (!over_) over_since_ = Now();
    over_ = *r;
  }
  return true;
}

bool CoordinatorService::DoExpect(const ExpectContribution& request) {
  const ObjectId& object = request.object.id;
  const std::optional<Round>& round = core_->state().fragment(object.fragment).round;
  if (!round) return true;  // decided in the same step
  auto c = round->contributions.find(object.contribution.session);
  if (c == round->contributions.end()) return true;
  auto peer = peers_.find(object.contribution.session);
  return reducer_->Expect(request, c->second.key, peer == peers_.end() ? "" : peer->second.route);
}

bool CoordinatorService::DoCheckpoint(const StoreCheckpoint& request) {
  const State& state = core_->state();
  return reducer_->Checkpoint(request, CheckpointState{.run = state.run_id,
                                                       .generation = state.generation,
                                                       .round = request.round.value,
                                                       .data_identity = state.data_identity,
                                                       .seed = options_.config.run.seed});
}

void CoordinatorService::CheckSilence() {
  const Duration beat =
      Seconds(1) * static_cast<int64_t>(options_.config.run.patience * 1000) / 1000;
  std::vector<SessionId> silent, late;
  for (const auto& [id, session] : core_->state().sessions) {
    auto [peer, is_new] = peers_.try_emplace(id);
    if (is_new)
      peer->second.last_heard =
          Now();  // restored from the journal: it has the full time to come back
    const Duration unheard = Now() - peer->second.last_heard;
    if (unheard > kSilentBeats * beat) silent.push_back(id);
    if (unheard > kLateBeats * beat) late.push_back(id);
  }
  if (late != late_) Step(LateEvent{late_ = late});
  if (silent.empty() && !core_->state().frozen_until) return;
  Step(SilentEvent{silent});
  for (SessionId id : silent) {
    if (!core_->state().sessions.contains(id)) peers_.erase(id);
  }
}

std::vector<std::string> CoordinatorService::JoinAddresses() const {
  const std::string& advertise = options_.config.network.advertise;
  return advertise.empty() ? ReachableAddresses(server_->address())
                           : std::vector<std::string>{advertise};
}

absl::StatusOr<std::string> CoordinatorService::Invite(uint32_t uses, uint64_t expires_unix_s) {
  const CurveKeyPair one_off = CurveKeyPair::Generate();
  ASSIGN_OR_RETURN(Invitation invitation,
                   MakeInvitation(JoinAddresses(), folder_->keys().public_key, run_id_, one_off,
                                  uses, expires_unix_s));
  events_.Push(ShellEvent(EventBody(
      InviteEvent{std::nullopt, invitation.id(), one_off.public_key, expires_unix_s, uses})));
  key_table_.Add(one_off.public_key, Role::kInvitation);  // whoever is quick must not be refused
  return EncodeInvitation(invitation);
}

// ---- what people see ----

void CoordinatorService::OnRecord(const Record& record) {
  LogDebug(DescribeRecord(record));
  if (observer_.on_record) observer_.on_record(record);
  planner_.OnRecord(record);
  plan_due_ = plan_due_ || std::holds_alternative<RoundCommitted>(record.body) ||
              std::holds_alternative<MemberReady>(record.body) ||
              std::holds_alternative<SessionEnded>(record.body);
  if (const auto* r = std::get_if<RoundOpened>(&record.body)) {
    rounds_[r->fragment] = {record.now, std::nullopt, r->members.size()};
    TellPlacement(r->fragment);
  } else if (const auto* r = std::get_if<RoundCommitted>(&record.body)) {
    OnCommitted(r->commit);
  } else if (const auto* r = std::get_if<SlicesMoved>(&record.body)) {
    LogWarning(DescribeMoves(core_->state(), *r, [this](SessionId id) {
      const auto peer = peers_.find(id);
      return peer == peers_.end() ? std::string("?") : peer->second.name;
    }));
  } else if (std::holds_alternative<RoundAborted>(record.body)) {
    metrics_.RoundAborted();
    LogWarning(DescribeRecord(record));
  } else if (std::holds_alternative<ContributionRefused>(record.body) ||
             std::holds_alternative<ContractBroken>(record.body) ||
             std::holds_alternative<ExpiryFrozen>(record.body) ||
             std::holds_alternative<StateDisputed>(record.body)) {
    LogWarning(DescribeRecord(record));
  } else if (const auto* r = std::get_if<SessionOpened>(&record.body)) {
    anybody_joined_ = true;
    peers_[r->session].name = r->name;
    LogInfo(r->name + " joined");
  } else if (const auto* r = std::get_if<SessionEnded>(&record.body)) {
    directory_.Withdraw(r->session);
    auto peer = peers_.find(r->session);
    if (peer == peers_.end()) return;
    LogInfo((peer->second.name.empty() ? std::string("a worker") : peer->second.name) + ": " +
            DescribeRecord(record));
    const Heartbeat& h = peer->second.heartbeat;
    ended_.bytes_sent += h.bytes_sent;
    ended_.bytes_received += h.bytes_received;
    ended_.steps += h.steps;
    ended_.computing_ns += h.computing_ns;
    ended_.total_ns += h.total_ns;
  } else if (const auto* r = std::get_if<RequestClosed>(&record.body)) {
    if (!r->error.empty()) return LogWarning("a request failed: " + r->error);
    if (!r->text.empty()) sample_ = r->text;
    if (r->tokens == 0 || !r->text.empty() || !(r->loss > 0)) return;
    if (!first_validation_) first_validation_ = r->loss;
    validation_loss_ = new_validation_loss_ = r->loss;
    if (observer_.on_evaluation) observer_.on_evaluation(core_->state().outer_steps(), r->loss);
  }
}

// Said once, and again when it is others.
void CoordinatorService::TellPlacement(FragmentId fragment) {
  const State& state = core_->state();
  const std::optional<Round>& round = state.fragment(fragment).round;
  if (!round) return;
  predicted_seconds_ = ExchangeSeconds(state, options_.config, fragment, round->slices);
  const bool nobody = round->slices.empty() && options_.config.reduce.placement == "workers";
  const std::string text =
      DescribeSlices(state, round->slices) + (nobody ? ": no trusted worker offers to" : "");
  if (std::exchange(placement_[fragment], text) == text) return;
  LogInfo("fragment " + std::to_string(fragment.value) + " is reduced by " + text +
          PredictedTime());
}

std::string CoordinatorService::PredictedTime() const {
  if (!predicted_seconds_) return "";
  return ", at least " + HumanDuration(Duration(static_cast<int64_t>(*predicted_seconds_ * 1e9))) +
         " a round";
}

std::string CoordinatorService::ReducedBy() const {
  std::vector<PeerLink> links;
  for (const auto& [id, peer] : peers_)
    links.insert(links.end(), peer.heartbeat.links.begin(), peer.heartbeat.links.end());
  return DescribeReducers(placement_, links) + PredictedTime();
}

// Up: what a worker's own kernel says. Down: what arrives there from us, or from another worker.
void CoordinatorService::MeasureLinks() {
  if (options_.config.reduce.placement != "workers" || !server_) return;
  std::map<WorkerKey, uint64_t> down;
  for (const auto& [id, peer] : peers_) {
    for (const PeerLink& link : peer.heartbeat.links)
      down[link.key] = std::max(down[link.key], link.bytes_per_s);
  }
  std::vector<LinkRates> measured;
  for (const auto& [id, session] : core_->state().sessions) {
    const auto peer = peers_.find(id);
    const auto stats = server_->Stats(relay_.RouteOf(session.key));
    if (peer == peers_.end()) continue;
    const uint64_t from_us = stats ? stats->delivery_rate_bytes_per_s : 0;
    measured.push_back(
        {id, peer->second.heartbeat.up_bytes_per_s, std::max(from_us, down[session.key])});
  }
  LinksEvent event{ChangedLinks(core_->state(), options_.config, measured)};
  if (!event.links.empty()) Step(std::move(event));
}

// P1 from what has been measured; the core takes the steps over with the next round.
void CoordinatorService::PlanRounds() {
  if (core_->state().phase != Phase::kRunning) return;
  std::map<SessionId, uint64_t> steps;
  for (const auto& [id, session] : core_->state().sessions) {
    if (session.ready && !session.finishing) steps[id] = session.steps;
  }
  const int64_t begin = MonotonicNs();
  PlanEvent event = planner_.Plan(steps);
  planner_.SetSolverSeconds(1e-9 * static_cast<double>(MonotonicNs() - begin));
  const PlanView& plan = planner_.view();
  metrics_.SetPlan(plan);
  if (plan.compared_rounds > 0) {
    LogDebug("the last round took " + std::to_string(plan.last_measured_s) + " s, predicted were " +
             std::to_string(plan.last_predicted_s) + " s");
  }
  if (options_.config.round.plan != "auto" || event.steps.empty()) return;
  LogInfo("plan: steps of " + std::to_string(event.steps.size()) + " workers change; deadline " +
          std::to_string(plan.deadline_s) + " s, " + std::to_string(plan.ratio()) +
          " of the bound");
  Step(std::move(event));
}

uint64_t CoordinatorService::Tokens() const {
  return CommittedPositions(core_->state().leases) * kSampleTokens;
}

double CoordinatorService::ComputingPercent() const {
  auto computing = static_cast<double>(ended_.computing_ns);
  auto total = static_cast<double>(ended_.total_ns);
  for (const auto& [id, peer] : peers_) {
    computing += static_cast<double>(peer.heartbeat.computing_ns);
    total += static_cast<double>(peer.heartbeat.total_ns);
  }
  return total > 0 ? 100.0 * computing / total : 0;
}

void CoordinatorService::OnCommitted(const CommitView& commit) {
  const State& state = core_->state();
  const Commit& c = state.fragment(commit.fragment).commits.at(commit.version);
  const RoundTimes& times = rounds_[commit.fragment];
  last_loss_ = std::bit_cast<double>(c.loss_bits);
  if (!first_loss_) first_loss_ = last_loss_;
  RoundReport report;
  report.round = state.outer_steps();
  report.rounds = options_.config.run.rounds * state.fragments.size();
  report.tokens = Tokens();
  report.loss = last_loss_;
  report.validation_loss = std::exchange(new_validation_loss_, std::nullopt);
  const double seconds = std::chrono::duration<double>(Now() - times.opened).count();
  report.tokens_per_second = seconds > 0 ? static_cast<double>(c.tokens) / seconds : 0;
  report.workers_included = c.contributions;
  report.workers_expected = static_cast<uint32_t>(times.members);
  uint64_t up = 0;
  uint64_t down = 0;
  for (auto& [id, peer] : peers_) {
    up += peer.heartbeat.bytes_sent - peer.bytes_up_at_round;
    down += peer.heartbeat.bytes_received - peer.bytes_down_at_round;
    peer.bytes_up_at_round = peer.heartbeat.bytes_sent;
    peer.bytes_down_at_round = peer.heartbeat.bytes_received;
  }
  if (!peers_.empty()) {
    report.bytes_up_per_worker = up / peers_.size();
    report.bytes_down_per_worker = down / peers_.size();
  }
  if (times.first_ready) report.sync = Now() - *times.first_ready;
  report.computing_percent = ComputingPercent();
  metrics_.RoundCommitted();
  metrics_.SetRound(report.round);
  metrics_.SetTokens(Tokens());
  metrics_.SetLoss(last_loss_);
  metrics_.SetSyncSeconds(std::chrono::duration<double>(report.sync).count());
  metrics_.SetComputingPercent(report.computing_percent);
  if (options_.data) domains_ = DomainCoverageOf(state, *options_.data);
  history_.push_back({report.round, report.loss, report.validation_loss});
  last_report_ = report;
  if (observer_.on_round) observer_.on_round(report);
}

WorkerRow CoordinatorService::RowOf(const Session& session, const Peer& peer) const {
  WorkerRow row{.name = session.name, .state = session.ready ? "training" : "joining"};
  const Heartbeat& h = peer.heartbeat;
  const double total_s = static_cast<double>(h.total_ns) * 1e-9;
  row.steps = h.steps;
  row.loss = h.loss;
  if (total_s > 0) {
    row.tokens_per_second =
        static_cast<double>(h.steps * SamplesPerStep(options_.config) * kSampleTokens) / total_s;
    row.computing_percent = 100e-9 * static_cast<double>(h.computing_ns) / total_s;
  }
  row.planned_steps = session.steps;
  row.bytes_up = h.bytes_sent;
  row.bytes_down = h.bytes_received;
  row.last_seen = Now() - peer.last_heard;
  return row;
}

void CoordinatorService::PublishStatus() {
  const State& state = core_->state();
  RunStatus status;
  status.run = options_.config.run.name;
  status.phase = PhaseName(state.phase);
  status.reason = state.reason.empty() ? core_->WaitingFor() : state.reason;
  if (!state.degraded.empty()) status.reason = "degraded: " + state.degraded;
  status.reduced_by = ReducedBy();
  status.elapsed = Now() - epoch_;
  status.last_round = last_report_;
  status.rounds = options_.config.run.rounds * state.fragments.size();
  const ServerCounters counters = server_->counters();
  status.bytes_in = counters.socket_bytes_in;
  status.bytes_out = counters.socket_bytes_out;
  status.workers_total = state.sessions.size();
  most_workers_ = std::max<uint32_t>(most_workers_, static_cast<uint32_t>(state.sessions.size()));
  for (const auto& [id, session] : state.sessions) {
    if (status.workers.size() == kMaxStatusWorkers) break;
    status.workers.push_back(RowOf(session, peers_[id]));
    status.workers.back().step_seconds = planner_.StepSeconds(id).value_or(0);
  }
  status.history = history_;
  status.plan = planner_.view();
  status.coverage = CoverageOf(state);
  status.coverage.domains = domains_;
  if (blobs_) status.data_bytes_out = blobs_->sent_bytes();
  metrics_.SetDataBytesOut(status.data_bytes_out);
  metrics_.SetWorkersLive(state.sessions.size());
  board_.Set(ToJson(status));
}

CoordinatorService::Outcome CoordinatorService::MakeOutcome() const {
  const State& state = core_->state();
  Outcome outcome;
  outcome.finished = over_ && over_->success;
  RunSummary& s = outcome.summary;
  s.first_loss = first_validation_.value_or(first_loss_.value_or(0));
  s.final_loss = validation_loss_.value_or(last_loss_);
  s.validation_loss = validation_loss_;
  s.workers = most_workers_;
  s.rounds = state.outer_steps();
  s.tokens = Tokens();
  uint64_t up = ended_.bytes_sent;
  uint64_t down = ended_.bytes_received;
  uint64_t steps = ended_.steps;
  for (const auto& [id, peer] : peers_) {
    up += peer.heartbeat.bytes_sent;
    down += peer.heartbeat.bytes_received;
    steps += peer.heartbeat.steps;
  }
  if (most_workers_ > 0) {
    s.bytes_up_per_worker = up / most_workers_;
    s.bytes_down_per_worker = down / most_workers_;
    s.fp32_allreduce_bytes_per_worker =
        Fp32AllReduceBytesPerWorker(steps / most_workers_, state.parameters(), most_workers_);
  }
  s.hash_checks = hash_checks_;
  s.hash_mismatches = hash_mismatches_;
  s.computing_percent = ComputingPercent();
  s.elapsed = Now() - epoch_;
  s.checkpoint = options_.folder + "/" + CheckpointFolder(kCheckpoints, state.snapshot_steps());
  s.sample_prompt = kSamplePrompt;
  s.sample_text = sample_.substr(std::min(sample_.size(), s.sample_prompt.size()));
  return outcome;
}

}  // namespace longhaul
