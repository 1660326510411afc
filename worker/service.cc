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

WorkerService::WorkerService(Options options) : options_(std::move(options)) {
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
  core_ = std::make_unique<Worker>(identity);
}

WorkerService::~WorkerService() {
  events_.Close();
  control_.reset();
  bulk_.reset();
  if (samples_) samples_->Close();
  training_.reset();
  feed_.reset();
}

absl::StatusOr<WorkerService::Outcome> WorkerService::Run(const std::atomic<int>& stop) {
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
  bulk_.reset();
  bulk_up_ = false;
  enrolling_ = enrolling;
  const std::string& address = options_.invitation.addresses[address_];
  const CurveKeyPair keys = enrolling ? options_.invitation.one_off_keys() : options_.keys;
  ASSIGN_OR_RETURN(control_, StartClient(/*bulk=*/false, keys, address));
  if (!enrolling) {
    ASSIGN_OR_RETURN(bulk_, StartClient(/*bulk=*/true, keys, address));
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
      for (auto& [id, upload] : uploads_) {
        upload.outgoing = Outgoing(upload.sizes);  // credit of the old one lapsed
        if (auto fetch = std::exchange(upload.waiting, std::nullopt)) OnFetch(*fetch);
      }
      if (coordinator_blobs_) coordinator_blobs_->AskAgain(/*if_silent=*/false);
      return AskForChunks(/*new_attempt=*/true);
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

bool WorkerService::Send(DealerClient* client, const Message& message) {
  if (!client) return false;
  Envelope envelope{.run = options_.invitation.run_id(),
                    .generation = core_->generation(),
                    .session = core_->session()};
  envelope.sequence = ++sequence_;
  envelope.body = message;
  absl::StatusOr<std::string> bytes = EncodeEnvelope(envelope);
  if (!bytes.ok()) {
    LogError("a message could not be encoded: " + std::string(bytes.status().message()));
    return false;
  }
  std::vector<Frame> frames;
  frames.emplace_back(std::move(*bytes));
  return client->Send(std::move(frames));
}

// ---- the loop ----

void WorkerService::Fail(absl::Status status) {
  if (!failure_) failure_ = std::move(status);
}

void WorkerService::Handle(ShellEvent&& event) {
  if (auto* connection = std::get_if<Connection>(&event)) return OnConnection(*connection);
  if (auto* inbox = std::get_if<Inbox>(&event)) return OnFrames(inbox->frames);
  if (std::holds_alternative<Room>(event)) {
    for (auto& [id, upload] : uploads_) Pump(upload);
    return;
  }
  if (auto* request = std::get_if<FetchBlob>(&event)) return (void)Send(bulk_.get(), *request);
  if (auto* ready = std::get_if<FeedReady>(&event)) return OnFeedReady(ready->status);
  auto& answer = std::get<Answer>(event);
  if (const auto* coded = std::get_if<ContributionCoded>(&answer.event); coded && answer.chunks) {
    auto sizes = std::make_shared<std::vector<uint32_t>>();
    for (const std::string& c : *answer.chunks) sizes->push_back(static_cast<uint32_t>(c.size()));
    const ContributionId id = coded->object.id.contribution;
    uploads_.emplace(id, Upload{coded->object.id, answer.chunks, sizes, Outgoing(sizes)});
    if (uploads_.size() > kMaxUploads) uploads_.erase(uploads_.begin());
  }
  Step(answer.event);
}

void WorkerService::OnFrames(const std::vector<Frame>& frames) {
  last_heard_ns_ = MonotonicNs();
  if (frames.size() == 2) return OnChunk(frames);
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
  if (const auto* fetch = std::get_if<Fetch>(&envelope.body)) return OnFetch(*fetch);
  if (const auto* gone = std::get_if<FetchRefused>(&envelope.body)) {
    if (download_ && download_->object.id == gone->object) download_.reset();
    return Step(ObjectGone{gone->object});
  }
  if (const auto* refused = std::get_if<BlobRefused>(&envelope.body)) {
    if (coordinator_blobs_) coordinator_blobs_->OnRefused(refused->transfer, refused->reason);
    return;
  }
  if (const auto* welcome = std::get_if<Welcome>(&envelope.body); welcome && !joined_) {
    joined_ = true;
    manifest_id_ = welcome->manifest_id;
    manifest_bytes_ = welcome->manifest_bytes;
    if (options_.say)
      options_.say("joined run " + std::get<Welcome>(envelope.body).config.run.name + " as " +
                   options_.name);
  }
  Step(WorkerReceived{envelope.generation, envelope.sequence, envelope.body});
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
  if (const auto* fetch = std::get_if<FetchObject>(&request)) return StartDownload(fetch->object);
  if (std::holds_alternative<StopFetching>(request)) return download_.reset();
  if (const auto* exit = std::get_if<ExitWorker>(&request)) {
    exit_ = *exit;
    return;
  }
  if (const auto* resolve = std::get_if<ResolveContribution>(&request)) {
    std::erase_if(uploads_, [&](const auto& upload) {  // it is decided
      return upload.second.object.fragment == resolve->fragment;
    });
  }
  const bool needs_object =
      std::holds_alternative<LoadState>(request) || std::holds_alternative<ApplyCommit>(request);
  training_->Start(request, needs_object ? std::exchange(fetched_, nullptr) : nullptr);
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

absl::Status WorkerService::OpenFeed(const LoadData& load) {
  coordinator_blobs_ = std::make_shared<CoordinatorSource>([this](const FetchBlob& request) {
    events_.TryPush(ShellEvent(request));  // what does not fit is asked for again
  });
  BlockFeed::Options o;
  o.manifest_id = manifest_id_;
  o.manifest_bytes = manifest_bytes_;
  o.sources = options_.sources;
  o.sources.push_back(coordinator_blobs_);
  o.coordinator = coordinator_blobs_;
  ASSIGN_OR_RETURN(o.cache, OpenFileStorage(options_.blocks_folder));
  o.cache_bytes = options_.blocks_bytes;
  o.make_order = [this, load](const Manifest& manifest) -> absl::StatusOr<MixedOrder> {
    if (manifest.Identity() != load.identity) {
      return absl::InvalidArgumentError("the manifest is of data " + ToHex(manifest.Identity()) +
                                        ", but this run trains on " + ToHex(load.identity));
    }
    return options_.make_order(load.config, manifest);
  };
  o.on_ready = [this](absl::Status status) {
    events_.Push(ShellEvent(FeedReady{std::move(status)}));
  };
  o.say = [](const std::string& text) { LogWarning(text); };
  loading_ = load;
  feed_ = std::make_unique<BlockFeed>(std::move(o));
  return absl::OkStatus();
}

void WorkerService::OnFeedReady(const absl::Status& status) {
  if (!status.ok()) return Fail(status);
  const LoadData load = *std::exchange(loading_, std::nullopt);
  const DataLoaded loaded{load.identity, "manifest " + ShortHex(manifest_id_)};
  samples_ = SamplesOf(std::move(feed_), load.config.model.vocab_size);
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
  if (core_->session().value != 0) Send(control_.get(), h);
}

Duration WorkerService::BeatEvery() const {
  return core_->welcome() ? std::clamp(core_->welcome()->heartbeat_every, kLeastBeat, kMostBeat)
                          : kFirstBeatEvery;
}

void WorkerService::Beat() {
  SendHeartbeat();
  // A connection that is up but brings no answers is replaced.
  if (core_->welcome() && control_->connected() &&
      MonotonicNs() - last_heard_ns_ >
          std::max(core_->welcome()->silence_limit, kMostBeat).count()) {
    last_heard_ns_ = MonotonicNs();
    if (absl::Status status = Connect(/*enrolling=*/false); !status.ok()) Fail(status);
    return;
  }
  if (!enrolling_ && control_ && control_->connected()) Step(WorkerTick{});
  if (download_ && MonotonicNs() - download_->last_chunk_ns > kDownloadStall.count())
    AskForChunks(/*new_attempt=*/true);
  if (coordinator_blobs_) coordinator_blobs_->AskAgain(/*if_silent=*/true);
}

// ---- objects that come ----

void WorkerService::StartDownload(const ObjectInfo& object) {
  auto receiver =
      ChunkReceiver::Create({object.chunks, object.bytes, object.root, kDownloadWindowBytes});
  if (!receiver.ok()) return Fail(receiver.status());
  download_ = Download{object, std::move(*receiver),
                       std::make_shared<std::vector<std::string>>(object.chunks)};
  AskForChunks(/*new_attempt=*/true);
}

void WorkerService::AskForChunks(bool new_attempt) {
  if (!download_ || !bulk_) return;
  ChunkReceiver& receiver = download_->receiver;
  Fetch fetch{.object = download_->object.id};
  if (new_attempt) {
    receiver.StartAttempt();
    download_->last_chunk_ns = MonotonicNs();
    for (const ChunkSpan& s : receiver.MissingRuns(kMaxMissingRuns))
      fetch.missing.push_back({s.first, s.count});
  }
  fetch.attempt = receiver.attempt();
  fetch.granted_bytes = receiver.GrantedBytes();
  if (Send(bulk_.get(), fetch)) receiver.NoteGrantSent();
}

void WorkerService::OnChunk(const std::vector<Frame>& frames) {
  absl::StatusOr<ChunkHeader> header = DecodeChunkHeader(frames[0].bytes());
  if (header.ok() && header->kind == ObjectKind::kBlob) {
    if (coordinator_blobs_ && header->bytes == frames[1].size())
      coordinator_blobs_->OnChunk(header->transfer, frames[1].bytes());
    return;
  }
  if (samples_) samples_->NoteExchange();
  if (!download_ || !header.ok() || header->bytes != frames[1].size() ||
      header->kind != download_->object.id.kind)
    return;
  if (Xxh3(frames[1].bytes()) != header->checksum) return;
  ChunkReceiver& receiver = download_->receiver;
  if (header->transfer != receiver.attempt()) return;  // of something else, or late
  if (receiver.Accept(header->transfer, header->chunk, frames[1].bytes()) ==
      ChunkReceiver::Verdict::kNew) {
    (*download_->chunks)[header->chunk] = frames[1].ToString();
    download_->last_chunk_ns = MonotonicNs();
  }
  if (!receiver.complete()) {
    if (receiver.GrantDue()) AskForChunks(/*new_attempt=*/false);
    return;
  }
  if (!receiver.Verified()) {
    LogWarning("an object came with the wrong root; it is fetched again");
    receiver.Reset();
    return AskForChunks(/*new_attempt=*/true);
  }
  fetched_ = download_->chunks;
  const ObjectId id = download_->object.id;
  download_.reset();
  Step(ObjectFetched{id});
}

// ---- contributions that go ----

void WorkerService::OnFetch(const Fetch& fetch) {
  auto it = uploads_.find(fetch.object.contribution);
  if (fetch.object.kind != ObjectKind::kContribution || it == uploads_.end() ||
      it->second.object != fetch.object)
    return;
  if (!bulk_up_) {
    it->second.waiting = fetch;
    return;
  }
  std::vector<ChunkSpan> missing;
  for (const ChunkRun& run : fetch.missing) missing.push_back({run.first, run.count});
  if (!it->second.outgoing.OnFetch(fetch.attempt, missing, fetch.granted_bytes).ok()) return;
  LogDebug("sends contribution " + Describe(it->first));
  Pump(it->second);
}

void WorkerService::Pump(Upload& upload) {
  const uint64_t elements = layout_.at(upload.object.fragment.value).elements;
  while (std::optional<uint32_t> chunk = upload.outgoing.Next()) {
    const std::string& payload = (*upload.chunks)[*chunk];
    ChunkHeader header{
        .kind = ObjectKind::kContribution, .transfer = upload.outgoing.attempt(), .chunk = *chunk};
    header.codec = codec_up_;
    header.elements = std::min(kChunkElements, elements - *chunk * kChunkElements);
    header.bytes = payload.size();
    header.checksum = Xxh3(AsBytes(payload));
    std::vector<Frame> frames;
    frames.emplace_back(EncodeChunkHeader(header));
    frames.emplace_back(std::string(payload));
    if (!bulk_ || !bulk_->Send(std::move(frames))) return;  // Room, or the next attempt, goes on
    upload.outgoing.MarkSent();
    if (upload.outgoing.finished())
      LogDebug("has sent contribution " + Describe(upload.object.contribution));
  }
}

}  // namespace longhaul
