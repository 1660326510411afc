#include "worker/service.h"

#include <algorithm>
#include <chrono>

#include "common/hash.h"
#include "common/log.h"
#include "common/status_macros.h"
#include "compression/codec.h"
#include "proto/chunk.h"
#include "proto/codec.h"
#include "worker/describe.h"

namespace longhaul {
namespace {

constexpr Duration kFirstBeatEvery = Seconds(1);  // until the coordinator says how often
constexpr Duration kLeastBeat = Milliseconds(50);
constexpr Duration kMostBeat = Seconds(10);
constexpr Duration kFlushTime = Milliseconds(300);  // for the last messages of a leaving worker
constexpr int kWrongServerTries = 3;           // a coordinator that dies looks like a wrong one
constexpr Duration kLeaveTime = Seconds(5);    // for the coordinator to take note of a leave
constexpr Duration kHandInTime = Seconds(60);  // for what was trained to be included

int64_t MonotonicNs() {
  return std::chrono::duration_cast<Duration>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

Timestamp WorkerService::Now() { return Timestamp{Duration(MonotonicNs())}; }

WorkerService::WorkerService(Options options)
    : options_(std::move(options)), transfers_(static_cast<uint64_t>(MonotonicNs())) {
  WorkerIdentity identity{.process = options_.process,
                          .name = options_.name,
                          .software = "longhaul 0.1.0",
                          .memory_bytes = options_.memory_bytes,
                          .threads = options_.threads,
                          .toy = options_.toy};
  if (!options_.snapshot_folder.empty()) {
    if (auto storage = OpenFileStorage(options_.snapshot_folder); storage.ok()) {
      auto snapshot = ReadWorkerSnapshot(**storage, kSnapshotFile);
      if (snapshot.ok()) snapshot_ = std::move(*snapshot);
      if (absl::IsDataLoss(snapshot.status())) LogWarning(std::string(snapshot.status().message()));
    }
  }
  if (snapshot_) identity.saved = snapshot_->saved;
  absl::StatusOr<std::unique_ptr<Peers>> peers = Peers::Start(
      {.keys = options_.keys,
       .listen = options_.peer_listen,
       .uplink_bytes_per_s = options_.uplink_bytes_per_s,
       .on_message =
           [this](const WorkerKey& from, std::vector<Frame>&& frames) {
             events_.TryPush(ShellEvent(PeerInbox{from, std::move(frames)}));
           },
       .on_connected =
           [this](const WorkerKey& peer) { events_.TryPush(ShellEvent(PeerConnected{peer})); },
       .on_room = [this] { events_.TryPush(ShellEvent(Room{})); },
       .on_data_request =
           [this](const WorkerKey&, const std::string& route, Frame&& envelope) {
             events_.TryPush(ShellEvent(DataRequest{route, std::move(envelope)}));
           },
       .on_route_room =
           [this](const std::string& route) { events_.Push(ShellEvent(RouteRoom{route})); }});
  if (!peers.ok()) Fail(peers.status());  // Run says so
  if (peers.ok()) peers_ = std::move(*peers);
  if (peers_ && !options_.peer_listen.empty() && !options_.snapshot_folder.empty()) {
    identity.peer_address = options_.peer_advertise.empty()
                                ? ReachableAddresses(peers_->address()).front()
                                : options_.peer_advertise;
  }
  core_ = std::make_unique<Worker>(identity);
}

WorkerService::~WorkerService() {
  events_.Close();
  reducing_.reset();  // these send through the peers
  sharing_.reset();
  sources_.reset();
  if (peers_) peers_->Stop();
  control_.reset();
  bulk_.reset();
  if (samples_) samples_->Close();
  training_.reset();
  feed_.reset();
}

absl::StatusOr<WorkerService::Outcome> WorkerService::Run(const std::atomic<int>& stop) {
  if (failure_) return *failure_;
  RETURN_IF_ERROR(Connect(/*enrolling=*/false));
  const int64_t started = MonotonicNs();
  int64_t next_beat = started;
  std::optional<int64_t> finish_by;
  std::optional<int64_t> leave_by;
  while (!exit_ && !failure_) {
    const int64_t now = MonotonicNs();
    if (auto event = events_.PopFor(Duration(std::clamp<int64_t>(next_beat - now, 0, 100'000'000))))
      Handle(std::move(*event));
    if (std::exchange(switch_key_, false)) RETURN_IF_ERROR(Connect(!enrolling_));
    if (stop > 0 && !finish_by) {
      finish_by = MonotonicNs() + kHandInTime.count();
      if (options_.say) options_.say("handing in what is trained; once more to leave at once");
      Step(LeaveWanted{"stopped by its owner", /*hand_in=*/true});
    }
    if (!leave_by && finish_by && (stop > 1 || MonotonicNs() > *finish_by)) {
      leave_by = MonotonicNs() + kLeaveTime.count();
      Step(LeaveWanted{"stopped by its owner"});
    }
    if (leave_by && MonotonicNs() > *leave_by)
      exit_ = ExitWorker{true, std::nullopt, "left without an answer"};
    if (!joined_ && options_.give_up > Duration(0) &&
        MonotonicNs() - started > options_.give_up.count()) {
      return absl::UnavailableError("could not join " + options_.invitation.addresses[address_] +
                                    ": " + last_problem_);
    }
    if (MonotonicNs() < next_beat) continue;
    if (std::exchange(try_again_, false)) RETURN_IF_ERROR(Connect(enrolling_));
    next_beat = MonotonicNs() + BeatEvery().count();
    Beat();
  }
  if (failure_) return *failure_;
  if (samples_ && options_.say && !samples_->Describe().empty()) options_.say(samples_->Describe());
  if (sharing_ && options_.say)
    options_.say("training data: " + std::to_string(sharing_->sent_bytes()) +
                 " bytes given to other workers");
  const int64_t flushed = MonotonicNs() + kFlushTime.count();
  while (MonotonicNs() < flushed) events_.PopFor(Duration(flushed - MonotonicNs()));
  return Outcome{exit_->success, exit_->refusal, exit_->reason};
}

// ---- connecting ----

absl::StatusOr<std::unique_ptr<DealerClient>> WorkerService::StartClient(
    bool bulk, const CurveKeyPair& keys, const std::string& address) {
  ClientOptions o;
  o.address = address;
  o.server_key = options_.invitation.server_key;
  o.keys = keys;
  o.uplink_bytes_per_s = bulk ? options_.uplink_bytes_per_s : 0;
  o.on_message = [this](std::vector<Frame>&& frames) {
    events_.TryPush(ShellEvent(Inbox{std::move(frames)}));
  };
  o.on_event = [this, bulk](const ConnectionEvent& e) {
    events_.Push(ShellEvent(Connection{bulk, e}));
  };
  if (bulk) o.on_room = [this] { events_.Push(ShellEvent(Room{})); };
  return DealerClient::Start(std::move(o));
}

absl::Status WorkerService::Connect(bool enrolling) {
  for (DealerClient* client : {control_.get(), bulk_.get()}) {
    if (!client) continue;
    old_bytes_sent_ += client->counters().socket_bytes_out;
    old_bytes_received_ += client->counters().socket_bytes_in;
  }
  control_.reset();
  peers_->SetRelay(nullptr);
  bulk_.reset();
  bulk_up_ = false;
  enrolling_ = enrolling;
  const std::string& address = options_.invitation.addresses[address_];
  const CurveKeyPair keys = enrolling ? options_.invitation.one_off_keys() : options_.keys;
  ASSIGN_OR_RETURN(control_, StartClient(/*bulk=*/false, keys, address));
  if (!enrolling) {
    ASSIGN_OR_RETURN(bulk_, StartClient(/*bulk=*/true, keys, address));
    peers_->SetRelay(bulk_);
  }
  return absl::OkStatus();
}

void WorkerService::OnConnection(const Connection& connection) {
  const ConnectionEvent& e = connection.event;
  LogDebug(std::string(connection.bulk ? "bulk" : "control") + " connection: " + e.reason);
  if (e.change == ConnectionChange::kConnected) {
    last_heard_ns_ = MonotonicNs();
    if (connection.bulk) {
      bulk_up_ = true;
      peers_->Greet();
      for (auto& [id, sending] : sendings_) {
        if (id.first != WorkerKey{}) continue;
        sending.outgoing = Outgoing(sending.sizes);  // credit of the old one lapsed
        if (auto fetch = std::exchange(sending.waiting, std::nullopt)) OnFetch(id.first, *fetch);
      }
      if (coordinator_blobs_) coordinator_blobs_->AskAgain(/*if_silent=*/false);
      if (download_) download_->OnConnected(WorkerKey{}, Now());
      return;
    }
    if (enrolling_) return SendEnroll();
    SendHeartbeat();  // a coordinator that began again learns first what we hold
    return Step(WorkerConnected{});
  }
  // ZeroMQ does not try again after these.
  try_again_ = try_again_ || (e.change == ConnectionChange::kNotAllowed && joined_) ||
               e.change == ConnectionChange::kWrongServer;
  if (connection.bulk) {
    bulk_up_ = false;
    return;
  }
  last_problem_ = e.reason;
  if (e.change == ConnectionChange::kNotAllowed && !joined_) {
    if (enrolling_)
      return Fail(absl::PermissionDeniedError(
          "the invitation is not valid any more (used up, expired or revoked): " + e.reason));
    switch_key_ = true;  // our own key is not known there yet: use the invitation
    if (options_.say) options_.say("new to this run: enrolling with the invitation");
    return;
  } else if (e.change == ConnectionChange::kWrongServer && !joined_) {
    if (++wrong_server_ >= kWrongServerTries)
      Fail(absl::PermissionDeniedError("wrong coordinator: " + e.reason));
  } else if (e.change == ConnectionChange::kUnreachable && !joined_ &&
             options_.invitation.addresses.size() > 1) {
    address_ = (address_ + 1) % options_.invitation.addresses.size();
    enrolling_ = !enrolling_;
    switch_key_ = true;  // the same key, the next address
  }
  if (last_problem_ != said_ && options_.say) options_.say(said_ = last_problem_);
}

void WorkerService::SendEnroll() {
  const Invitation& invitation = options_.invitation;
  Enroll enroll{.invitation = invitation.id(),
                .key = options_.keys.public_key,
                .ed25519_public = options_.signing_keys.public_key,
                .name = options_.name};
  const std::string statement = EnrollmentStatement(invitation.run_id(), enroll.invitation,
                                                    enroll.key, enroll.ed25519_public);
  enroll.signature = options_.signing_keys.Sign(AsBytes(statement));
  Send(control_.get(), enroll);
}

std::optional<std::vector<Frame>> WorkerService::Encode(const Message& message) {
  Envelope envelope{.run = options_.invitation.run_id(),
                    .generation = core_->generation(),
                    .session = core_->session()};
  envelope.sequence = ++sequence_;
  envelope.body = message;
  absl::StatusOr<std::string> bytes = EncodeEnvelope(envelope);
  if (!bytes.ok()) {
    LogError("a message could not be encoded: " + std::string(bytes.status().message()));
    return std::nullopt;
  }
  std::vector<Frame> frames;
  frames.emplace_back(std::move(*bytes));
  return frames;
}

bool WorkerService::Send(DealerClient* client, const Message& message) {
  if (!client) return false;
  std::optional<std::vector<Frame>> frames = Encode(message);
  return frames && client->Send(std::move(*frames));
}

// ---- the loop ----

void WorkerService::Fail(absl::Status status) {
  if (!failure_) failure_ = std::move(status);
}

void WorkerService::Handle(ShellEvent&& event) {
  if (auto* connection = std::get_if<Connection>(&event)) return OnConnection(*connection);
  if (auto* inbox = std::get_if<Inbox>(&event)) return OnFrames(std::move(inbox->frames));
  if (auto* inbox = std::get_if<PeerInbox>(&event))
    return OnPeer(inbox->from, std::move(inbox->frames));
  if (auto* reports = std::get_if<Reports>(&event)) return OnReports(std::move(*reports));
  if (auto* said = std::get_if<PeerMessage>(&event)) {
    SendPeer(said->to, said->message);
    return;
  }
  if (auto* connected = std::get_if<PeerConnected>(&event)) {
    if (reducing_) reducing_->Connected(connected->peer);
    if (download_) download_->OnConnected(connected->peer, Now());
    for (auto& [id, sending] : sendings_) Pump(id, sending);
    return;
  }
  if (std::holds_alternative<Room>(event)) {
    for (auto& [id, sending] : sendings_) Pump(id, sending);
    if (reducing_) reducing_->Room();
    return;
  }
  if (HandleData(event)) return;
  if (auto* ready = std::get_if<FeedReady>(&event)) return OnFeedReady(ready->status);
  auto& answer = std::get<Answer>(event);
  if (const auto* coded = std::get_if<ContributionCoded>(&answer.event); coded && answer.chunks) {
    const ContributionId id = coded->object.id.contribution;
    uploads_.emplace(id, Upload{coded->object.id, answer.chunks});
    if (uploads_.size() > kMaxUploads) uploads_.erase(uploads_.begin());
  }
  Step(answer.event);
}

void WorkerService::OnFrames(std::vector<Frame>&& frames) {
  last_heard_ns_ = MonotonicNs();
  if (peers_->TakeRelayed(frames)) return;
  if (frames.size() == 2) return OnChunk(WorkerKey{}, frames);
  absl::StatusOr<Envelope> envelope = DecodeEnvelope(frames[0].bytes());
  if (!envelope.ok())
    return LogDebug("a message was refused: " + std::string(envelope.status().message()));
  if (envelope->protocol_version != kProtocolVersion &&
      !std::holds_alternative<Refused>(envelope->body))
    return;  // the coordinator says the same and why
  if (envelope->run == options_.invitation.run_id()) return OnMessage(*envelope);
  if (const auto* refused = std::get_if<Refused>(&envelope->body); refused && !joined_)
    exit_ = ExitWorker{false, refused->code, refused->reason};  // the invitation is of another run
}

void WorkerService::OnMessage(const Envelope& envelope) {
  if (std::holds_alternative<Enrolled>(envelope.body)) {
    if (enrolling_) switch_key_ = true;
    return;
  }
  if (const auto* refused = std::get_if<Refused>(&envelope.body); refused && enrolling_) {
    exit_ = ExitWorker{false, refused->code, refused->reason};
    return;
  }
  if (const auto* fetch = std::get_if<Fetch>(&envelope.body)) return OnFetch(WorkerKey{}, *fetch);
  if (const auto* gone = std::get_if<FetchRefused>(&envelope.body))
    return OnRefused(WorkerKey{}, gone->object);
  if (OnBlobMessage(WorkerKey{}, envelope.body)) return;
  if (const auto* welcome = std::get_if<Welcome>(&envelope.body); welcome && !joined_) {
    joined_ = true;
    manifest_id_ = welcome->manifest_id;
    manifest_bytes_ = welcome->manifest_bytes;
    if (options_.say)
      options_.say("joined run " + std::get<Welcome>(envelope.body).config.run.name + " as " +
                   options_.name);
  }
  Step(WorkerReceived{envelope.generation, envelope.sequence, envelope.body});
  if (std::holds_alternative<Assignment>(envelope.body)) FollowOrders();
}

void WorkerService::Step(const WorkerEvent& event) {
  if (exit_ || failure_) return;
  WorkerEffects effects = core_->Step(event);
  if (!effects.reason.empty() && options_.say) options_.say(effects.reason);
  for (const Message& message : effects.messages) {
    if (std::holds_alternative<Leave>(message)) SendHeartbeat();  // the last counts
    Send(control_.get(), message);
  }
  for (const WorkerRequest& request : effects.requests) Do(request);
  if (samples_ && core_->assignment()) samples_->SetLeases(core_->assignment()->leases);
}

void WorkerService::Do(const WorkerRequest& request) {
  LogDebug(Describe(request));
  if (const auto* load = std::get_if<LoadData>(&request)) return Load(*load);
  if (const auto* fetch = std::get_if<FetchObject>(&request)) return StartDownload(*fetch);
  if (std::holds_alternative<StopFetching>(request)) return download_.reset();
  if (const auto* exit = std::get_if<ExitWorker>(&request)) {
    exit_ = *exit;
    return;
  }
  if (const auto* resolve = std::get_if<ResolveContribution>(&request)) {
    std::erase_if(uploads_, [&](const auto& upload) {  // it is decided
      return upload.second.object.fragment == resolve->fragment;
    });
    std::erase_if(sendings_, [&](const auto& sending) {
      return sending.first.second.fragment == resolve->fragment;
    });
  }
  Fetched fetched;
  if (const auto* load = std::get_if<LoadState>(&request))
    fetched = std::exchange(fetched_[load->object.id.fragment], nullptr);
  if (const auto* apply = std::get_if<ApplyCommit>(&request))
    fetched = std::exchange(fetched_[apply->commit.fragment], nullptr);
  training_->Start(request, std::move(fetched));
}

void WorkerService::Load(const LoadData& load) {
  auto trainer = options_.make_trainer(load.config, load.parameters);
  if (!trainer.ok()) return Fail(trainer.status());
  trainer_ = std::move(*trainer);
  if (!load.config.data.manifest.empty()) {
    if (absl::Status status = OpenFeed(load); !status.ok()) Fail(status);
    return;
  }
  DataLoaded loaded{load.identity, "toy"};
  if (options_.load_data) {
    auto corpus = options_.load_data(load.config, load.identity);
    if (!corpus.ok()) return Fail(corpus.status());
    loaded = {(*corpus)->Identity(), (*corpus)->Describe()};
    samples_ = SamplesOf(std::move(*corpus), load.config.run.seed);
  }
  StartTraining(load, loaded);
}

void WorkerService::StartTraining(const LoadData& load, const DataLoaded& loaded) {
  layout_ = options_.make_layout(load.config);
  codec_up_ = static_cast<uint32_t>(*CodecByName(load.config.sync.codec));
  training_ = std::make_unique<TrainingThread>(
      TrainingThread::Options{load.config, std::move(trainer_), samples_, layout_,
                              options_.make_tensors(load.config), options_.snapshot_folder,
                              std::exchange(snapshot_, std::nullopt)},
      [this](WorkerEvent event, Chunks chunks) {
        events_.Push(ShellEvent(Answer{std::move(event), std::move(chunks)}));
      });
  if (!options_.peer_listen.empty() && !options_.snapshot_folder.empty()) StartReducing(load);
  Step(loaded);
}

void WorkerService::SendHeartbeat() {
  Heartbeat h;
  h.fragments = core_->states();
  if (training_) {
    const TrainingThread::Progress p = training_->progress();
    h.steps = p.steps;
    h.computing_ns = p.computing_ns;
    h.total_ns = p.total_ns;
    h.loss = p.loss;
  }
  h.bytes_sent = old_bytes_sent_;
  h.bytes_received = old_bytes_received_;
  for (DealerClient* client : {control_.get(), bulk_.get()}) {
    if (!client) continue;
    h.bytes_sent += client->counters().socket_bytes_out;
    h.bytes_received += client->counters().socket_bytes_in;
  }
  h.links = peers_->Links();
  if (bulk_) h.up_bytes_per_s = bulk_->stats().delivery_rate_bytes_per_s;
  for (const PeerLink& link : h.links)
    h.up_bytes_per_s = std::max(h.up_bytes_per_s, link.bytes_per_s);
  if (core_->session().value != 0) Send(control_.get(), h);
}

Duration WorkerService::BeatEvery() const {
  return core_->welcome() ? std::clamp(core_->welcome()->heartbeat_every, kLeastBeat, kMostBeat)
                          : kFirstBeatEvery;
}

void WorkerService::Beat() {
  SendHeartbeat();
  // A superseded process with this key may have taken the relay's line with its own greeting.
  if (bulk_up_ && core_->assignment() && !core_->assignment()->peers.empty()) peers_->Greet();
  // A connection that is up but brings no answers is replaced.
  if (core_->welcome() && control_->connected() &&
      MonotonicNs() - last_heard_ns_ >
          std::max(core_->welcome()->silence_limit, kMostBeat).count()) {
    last_heard_ns_ = MonotonicNs();
    if (absl::Status status = Connect(/*enrolling=*/false); !status.ok()) Fail(status);
    return;
  }
  if (!enrolling_ && control_ && control_->connected()) Step(WorkerTick{});
  if (download_) download_->Tick(Now());
  if (reducing_) reducing_->Tick(Now());
  OnReports(reports_);  // whatever was lost is said again
  if (coordinator_blobs_) coordinator_blobs_->AskAgain(/*if_silent=*/true);
}

}  // namespace longhaul
