#include "wan/sim/worker_process.h"

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/hash.h"
#include "common/rng.h"
#include "compression/codec.h"
#include "proto/chunk.h"
#include "proto/codec.h"
#include "wan/sim/byzantine.h"
#include "wan/sim/closed_form.h"
#include "worker/service.h"

namespace longhaul::sim {
namespace {

constexpr Duration kFirstBeatEvery = Seconds(1);
constexpr Duration kMostSilence = Seconds(10);  // at least this long before a new connection
constexpr Duration kHandInTime = Seconds(60);

}  // namespace

WorkerProcess::WorkerProcess(Options options)
    : options_(std::move(options)), found_(*options_.disk) {
  WorkerIdentity identity;
  identity.process = {options_.scenario->seed, options_.process + 1};
  identity.name = "w" + std::to_string(options_.process);
  identity.toy = true;
  if (options_.scenario->machines[options_.machine].reduces) identity.peer_address = "sim";
  identity.saved = found_.saved;
  core_ = std::make_unique<Worker>(identity);
}

void WorkerProcess::Start() {
  last_heard_ = options_.queue->now();
  Later(Milliseconds(
            static_cast<int64_t>(Draw(options_.scenario->seed, {4, options_.process}) % 1000)),
        [this] { Beat(); });
  Connected();
}

Duration WorkerProcess::ByItsClock(Duration d) const {
  return d * 1000 / options_.scenario->machines[options_.machine].clock_per_mille;
}

void WorkerProcess::Guard(const std::function<void()>& action) {
  if (!alive_) return;
  if (options_.queue->now() < paused_until_) {
    return options_.queue->At(paused_until_, [this, action] { Guard(action); });
  }
  action();
}

void WorkerProcess::Later(Duration delay, std::function<void()> action) {
  options_.queue->After(ByItsClock(delay), [this, action = std::move(action)] { Guard(action); });
}

void WorkerProcess::Pause(Duration duration) {
  paused_until_ = std::max(paused_until_, options_.queue->now() + duration);
}

void WorkerProcess::Leave(bool hand_in) {
  Later(Duration(0), [this, hand_in] { Step(LeaveWanted{"stopped by its owner", hand_in}); });
  if (hand_in) Later(kHandInTime, [this] { Step(LeaveWanted{"stopped by its owner", false}); });
}

void WorkerProcess::Disconnected() { connected_ = false; }

void WorkerProcess::Connected() {
  const auto draw = [&](uint64_t n) {
    return Milliseconds(static_cast<int64_t>(
        Draw(options_.scenario->seed, {5, options_.process, sequence_, n}) % 800));
  };
  Later(draw(1), [this] { Step(WorkerConnected{}); });
  Later(draw(2), [this] {
    connected_ = true;
    for (auto& [id, sending] : sendings_) {
      sending.outgoing = Outgoing(sending.sizes);  // credit of the old connection lapsed
      if (auto fetch = std::exchange(sending.waiting, std::nullopt)) OnFetch(id.first, *fetch);
    }
    if (download_) {
      for (size_t i = 0; i < download_->parts().size(); ++i)
        download_->OnConnected(download_->parts()[i].holder, options_.queue->now());
    }
  });
}

// ---- the loop ----

void WorkerProcess::Step(const WorkerEvent& event) {
  if (!alive_) return;
  WorkerEffects effects = core_->Step(event);
  for (const Message& message : effects.messages) {
    if (std::holds_alternative<longhaul::Leave>(message)) SendHeartbeat();
    Send(message);
  }
  for (const WorkerRequest& request : effects.requests) Do(request);
}

void WorkerProcess::Do(const WorkerRequest& request) {
  if (const auto* load = std::get_if<LoadData>(&request)) return StartTrainer(*load);
  if (const auto* fetch = std::get_if<FetchObject>(&request)) return StartDownload(*fetch);
  if (std::holds_alternative<StopFetching>(request)) return download_.reset();
  if (const auto* exit = std::get_if<ExitWorker>(&request)) {
    alive_ = false;
    return options_.exited(*exit);
  }
  if (const auto* resolve = std::get_if<ResolveContribution>(&request)) {
    std::erase_if(uploads_, [&](const auto& upload) {
      return upload.second.object.fragment == resolve->fragment;
    });
    std::erase_if(sendings_, [&](const auto& sending) {
      return sending.first.second.fragment == resolve->fragment;
    });
  }
  StartJob(request);
}

void WorkerProcess::StartTrainer(const LoadData& load) {
  const SyncSection& sync = load.config.sync;
  codec_up_ = static_cast<uint32_t>(*CodecByName(sync.codec));
  const std::vector<FragmentLayout>& layout = options_.scenario->layout;
  trainer_ = MakeClosedFormTrainer(load.config.run.seed, layout);
  for (uint64_t i = 0; i < layout.size(); ++i) {
    replicas_.push_back(std::make_unique<Replica>(
        Replica::Options{*CodecByName(sync.codec), *CodecByName(sync.codec_down),
                         static_cast<float>(sync.error_feedback)},
        FragmentId{i}, layout[i], *trainer_));
  }
  StartReducing();
  Later(options_.scenario->small_job, [this, identity = load.identity] {
    Step(DataLoaded{identity, "sim"});
  });
}

// One job after the other; what it does happens when it ends.
void WorkerProcess::StartJob(const WorkerRequest& request) {
  Fetched fetched;
  if (const auto* load = std::get_if<LoadState>(&request))
    fetched = std::exchange(fetched_[load->object.id.fragment], nullptr);
  if (const auto* apply = std::get_if<ApplyCommit>(&request))
    fetched = std::exchange(fetched_[apply->commit.fragment], nullptr);
  const bool step = std::holds_alternative<TrainStep>(request);
  Duration takes =
      step ? options_.scenario->machines[options_.machine].step_time : options_.scenario->small_job;
  takes = takes * static_cast<int64_t>(slow_per_mille_) / 1000;
  const uint64_t spread = options_.scenario->job_spread_per_mille;
  const uint64_t draw = Draw(options_.scenario->seed, {6, options_.process, jobs_++});
  if (spread > 0) takes += takes * static_cast<int64_t>(draw % spread) / 1000;
  const Timestamp now = options_.queue->now();
  trainer_busy_until_ = std::max(trainer_busy_until_, now) + takes;
  options_.queue->At(trainer_busy_until_, [this, request, fetched, step, takes] {
    Guard([this, request, fetched, step, takes] {
      steps_ += step;
      if (step) computing_ += takes;
      Chunks chunks;
      const WorkerEvent event = RunJob(request, fetched, chunks);
      Finished(event, chunks);
    });
  });
}

WorkerEvent WorkerProcess::RunJob(const WorkerRequest& request, const Fetched& fetched,
                                  Chunks& chunks) {
  if (const auto* job = std::get_if<TrainStep>(&request)) {
    absl::StatusOr<StepOutput> out = trainer_->Step({job->step, job->positions, {}});
    options_.watchers->Tell([&](Watcher& w) { w.OnTrained(options_.process, job->positions); });
    return StepDone{out->loss, true};
  }
  if (const auto* job = std::get_if<CodeContribution>(&request)) return CodeJob(*job, chunks);
  if (const auto* job = std::get_if<ApplyCommit>(&request)) {
    Replica& replica = *replicas_.at(job->commit.fragment.value);
    const absl::Status status = replica.Apply(job->commit, *fetched);
    LONGHAUL_CHECK(status.ok(), "a verified aggregate can be applied");
    TellState(job->commit.aggregate.id.generation, replica);
    return CommitApplied{replica.state()};
  }
  if (const auto* job = std::get_if<LoadState>(&request)) {
    Replica& replica = *replicas_.at(job->object.id.fragment.value);
    const absl::Status status = replica.Load(job->object.id.version, std::move(*fetched));
    LONGHAUL_CHECK(status.ok(), "a verified state can be loaded");
    TellState(job->object.id.generation, replica);
    return StateLoaded{replica.state()};
  }
  if (const auto* job = std::get_if<RunRequest>(&request))
    return RequestFinished{{.request = job->request.id, .loss = 1.0, .tokens = 1}};
  if (const auto* job = std::get_if<ResolveContribution>(&request)) {
    replicas_.at(job->fragment.value)->Resolve(job->outcome);
  } else if (const auto* job = std::get_if<UnloadFragment>(&request)) {
    replicas_.at(job->fragment.value)->Unload();
  } else if (const auto* job = std::get_if<SaveSnapshot>(&request)) {
    Save(*job);
  } else if (std::holds_alternative<LoadSnapshot>(request)) {
    TakeResidual();
  } else {
    Reset(std::get<ResetProgress>(request));
  }
  return JobDone{};
}

void WorkerProcess::Save(const SaveSnapshot& job) {
  if (!options_.scenario->worker_snapshots) return;
  *options_.disk = {.saved = job, .saved_by = options_.process};
  for (const auto& replica : replicas_)
    options_.disk->residuals.emplace_back(replica->residual().begin(), replica->residual().end());
  options_.watchers->Tell([&](Watcher& w) { w.OnResidualSaved(options_.process); });
}

void WorkerProcess::TakeResidual() {
  for (size_t i = 0; i < replicas_.size(); ++i)
    LONGHAUL_CHECK(replicas_[i]->SetResidual(found_.residuals.at(i)).ok(), "it fits its fragment");
  options_.watchers->Tell(
      [&](Watcher& w) { w.OnResidualLoaded(options_.process, found_.saved_by); });
}

void WorkerProcess::Reset(const ResetProgress& job) {
  for (const auto& replica : replicas_) replica->ResetProgress(job.residual);
  if (job.inner_state) trainer_->ResetInnerState();
  options_.watchers->Tell([&](Watcher& w) { w.OnProgressVoid(options_.process); });
  if (job.residual)
    options_.watchers->Tell([&](Watcher& w) { w.OnResidualLost(options_.process); });
}

WorkerEvent WorkerProcess::CodeJob(const CodeContribution& job, Chunks& chunks) {
  ObjectInfo object{
      .id = {ObjectKind::kContribution, job.generation, job.fragment, job.base, job.id}};
  absl::StatusOr<Replica::Coded> coded = replicas_.at(job.fragment.value)->Code(job.slices);
  LONGHAUL_CHECK(coded.ok(), "closed-form values are finite");
  coded->object.id = object.id;
  chunks = coded->chunks;
  options_.watchers->Tell([&](Watcher& w) { w.OnCoded(options_.process, coded->object, *chunks); });
  return ContributionCoded{coded->object, coded->slices};
}

void WorkerProcess::TellState(const Generation& generation, const Replica& replica) {
  options_.watchers->Tell(
      [&](Watcher& w) { w.OnReplica(options_.process, generation, replica.state()); });
}

void WorkerProcess::Finished(const WorkerEvent& event, const Chunks& chunks) {
  if (const auto* coded = std::get_if<ContributionCoded>(&event); coded && chunks) {
    const ObjectId id = coded->object.id;
    uploads_.emplace(id.contribution, Upload{id, chunks});
    if (uploads_.size() > kMaxUploads) uploads_.erase(uploads_.begin());
  }
  Step(event);
}

// ---- messages ----

std::string WorkerProcess::Encode(const Message& message) {
  Envelope envelope{
      .run = options_.run_id, .generation = core_->generation(), .session = core_->session()};
  envelope.sequence = ++sequence_;
  envelope.body = message;
  if (options_.byzantine && options_.faults->Happens(FaultKind::kByzantine))
    Falsify(envelope, *options_.faults);
  absl::StatusOr<std::string> bytes = EncodeEnvelope(envelope);
  LONGHAUL_CHECK(bytes.ok(), "what a worker says can be encoded");
  return std::move(*bytes);
}

void WorkerProcess::Send(const Message& message) { SendTo(WorkerKey{}, message); }

void WorkerProcess::SendTo(const WorkerKey& to, const Message& message) {
  SendPacket(to, {.control = Encode(message)});
}

void WorkerProcess::SendPacket(const WorkerKey& to, Packet packet) {
  if (to == options_.key) {
    auto shared = std::make_shared<Packet>(std::move(packet));
    return Later(Duration(0), [this, shared] { OnPeer(options_.key, *shared); });
  }
  packet.peer = to;
  options_.send(std::move(packet));
}

void WorkerProcess::SendHeartbeat() {
  if (core_->session().value == 0) return;
  Heartbeat h;
  h.fragments = core_->states();
  h.steps = steps_;
  h.computing_ns = static_cast<uint64_t>(computing_.count());
  Send(h);
}

void WorkerProcess::Beat() {
  const std::optional<Welcome>& welcome = core_->welcome();
  Later(welcome ? welcome->heartbeat_every : kFirstBeatEvery, [this] { Beat(); });
  SendHeartbeat();
  options_.watchers->Tell(
      [&](Watcher& w) { w.OnQueue("uploads of a worker", uploads_.size(), kMaxUploads); });
  const Timestamp now = options_.queue->now();
  // A connection that is up but brings no answers is replaced.
  if (welcome && now - last_heard_ > std::max(welcome->silence_limit, kMostSilence)) {
    last_heard_ = now;
    return Connected();
  }
  Step(WorkerTick{});
  if (download_) download_->Tick(now);
  if (slices_) LONGHAUL_CHECK(slices_->Tick(now).ok(), "this disk does not fail");
  Report(/*again=*/true);
}

void WorkerProcess::Receive(Packet packet) {
  if (!alive_) return;
  auto shared = std::make_shared<Packet>(std::move(packet));
  Guard([this, shared] {
    last_heard_ = options_.queue->now();
    if (shared->peer != WorkerKey{}) return OnPeer(shared->peer, *shared);
    if (shared->is_chunk()) return OnChunk(WorkerKey{}, *shared);
    absl::StatusOr<Envelope> envelope = DecodeEnvelope(AsBytes(shared->control));
    if (envelope.ok() && envelope->run == options_.run_id) OnMessage(*envelope);
  });
}

void WorkerProcess::OnMessage(const Envelope& envelope) {
  if (const auto* fetch = std::get_if<Fetch>(&envelope.body)) return OnFetch(WorkerKey{}, *fetch);
  if (const auto* gone = std::get_if<FetchRefused>(&envelope.body))
    return OnRefused(WorkerKey{}, gone->object);
  Step(WorkerReceived{envelope.generation, envelope.sequence, envelope.body});
  if (std::holds_alternative<Assignment>(envelope.body)) FollowOrders();
}

// ---- objects ----

void WorkerProcess::StartDownload(const FetchObject& request) {
  PartedFetch::Options o;
  o.whole = request.object;
  ObjectId id = request.object.id;
  for (const SliceSource& source : request.slices) {
    o.parts.push_back(
        {{id, source.part.chunks, source.part.bytes, source.part.root}, source.reducer});
    id.first_chunk += source.part.chunks;
  }
  // Grows over the lives of this worker.
  o.next_transfer = [this] { return options_.process * 1'000'000 + ++fetches_; };
  o.ask = [this](const WorkerKey& holder, const Fetch& fetch) {
    SendTo(holder, fetch);
    return true;
  };
  absl::StatusOr<PartedFetch> fetch = PartedFetch::Create(std::move(o));
  LONGHAUL_CHECK(fetch.ok(), "the coordinator names objects that can be");
  download_ = std::move(*fetch);
  download_->Start(options_.queue->now());
}

void WorkerProcess::OnChunk(const WorkerKey& from, const Packet& packet) {
  const absl::StatusOr<ChunkHeader> header = DecodeChunkHeader(AsBytes(packet.chunk_header));
  if (!download_ || !header.ok()) return;
  download_->OnChunk(from, *header, AsBytes(packet.payload), options_.queue->now());
  CheckDownload();
}

void WorkerProcess::CheckDownload() {
  if (!download_->complete()) return;
  const ObjectId id = download_->whole().id;
  fetched_[id.fragment] = download_->Take();
  download_.reset();
  Step(ObjectFetched{id});
}

void WorkerProcess::OnRefused(const WorkerKey& from, const ObjectId& object) {
  if (!download_ || download_->OnRefused(from, object, options_.queue->now())) return;
  const ObjectId whole = download_->whole().id;
  download_.reset();
  Step(ObjectGone{whole});
}

void WorkerProcess::OnFetch(const WorkerKey& from, const Fetch& fetch) {
  if (fetch.object.kind == ObjectKind::kAggregate) {
    if (slices_) slices_->OnFetch(from, fetch);
    return;
  }
  auto it = uploads_.find(fetch.object.contribution);
  // Tiny models: every object is one chunk.
  if (fetch.object.kind != ObjectKind::kContribution || it == uploads_.end() ||
      it->second.object != fetch.object)
    return;
  const SendingId id{from, fetch.object};
  auto sending = sendings_.find(id);
  if (sending == sendings_.end()) {
    auto sizes = std::make_shared<std::vector<uint32_t>>();
    for (const std::string& c : *it->second.chunks)
      sizes->push_back(static_cast<uint32_t>(c.size()));
    sending = sendings_.emplace(id, Sending{sizes, Outgoing(sizes), std::nullopt}).first;
  }
  if (!connected_) {
    sending->second.waiting = fetch;
    return;
  }
  std::vector<ChunkSpan> missing;
  for (const ChunkRun& run : fetch.missing) missing.push_back({run.first, run.count});
  if (sending->second.outgoing.OnFetch(fetch.attempt, missing, fetch.granted_bytes).ok())
    Pump(id, sending->second);
}

void WorkerProcess::Pump(const SendingId& id, Sending& sending) {
  auto upload = uploads_.find(id.second.contribution);
  if (upload == uploads_.end()) return;
  const Chunks chunks = upload->second.chunks;
  while (std::optional<uint32_t> chunk = sending.outgoing.Next()) {
    std::string payload = (*chunks)[*chunk];
    if (options_.byzantine && options_.faults->Happens(FaultKind::kByzantine))
      FalsifyChunk(payload, *options_.faults);
    ChunkHeader header{
        .kind = ObjectKind::kContribution, .transfer = sending.outgoing.attempt(), .chunk = *chunk};
    header.codec = codec_up_;
    header.elements = options_.scenario->layout.at(id.second.fragment.value).elements;
    header.bytes = payload.size();
    header.checksum = Xxh3(AsBytes(payload));
    SendPacket(id.first,
               {.chunk_header = EncodeChunkHeader(header), .payload = std::move(payload)});
    sending.outgoing.MarkSent();
  }
}

// ---- slices that it reduces ----

void WorkerProcess::StartReducing() {
  if (!options_.scenario->machines[options_.machine].reduces) return;
  SliceHost::Options o = SliceOptions(*options_.scenario, &disk_, "slices");
  o.first_attempt = options_.process * 1'000'000 + 1;
  o.send = [this](const WorkerKey& to, const Message& message) { SendTo(to, message); };
  o.send_chunk = [this](const WorkerKey& to, const ChunkHeader& header, std::string&& payload) {
    SendPacket(to, {.chunk_header = EncodeChunkHeader(header), .payload = std::move(payload)});
    return true;
  };
  slices_ = std::make_unique<SliceHost>(std::move(o));
}

void WorkerProcess::FollowOrders() {
  if (!slices_ || !core_->assignment()) return;
  const Assignment& a = *core_->assignment();
  std::map<SessionId, WorkerKey> keys;
  for (const PeerView& peer : a.peers) keys[peer.session] = peer.key;
  LONGHAUL_CHECK(slices_->SetOrders(core_->generation(), a.orders, keys).ok(),
                 "this disk does not fail");
  Report(/*again=*/false);
}

void WorkerProcess::Report(bool again) {
  if (!slices_ || core_->session().value == 0 || (!slices_->TakeChanged() && !again)) return;
  for (const SliceReport& report : slices_->Reports()) Send(report);
}

void WorkerProcess::OnPeer(const WorkerKey& from, const Packet& packet) {
  if (packet.is_chunk()) {
    const absl::StatusOr<ChunkHeader> header = DecodeChunkHeader(AsBytes(packet.chunk_header));
    if (!header.ok()) return;
    if (header->kind == ObjectKind::kAggregate) return OnChunk(from, packet);
    if (!slices_ || header->bytes != packet.payload.size()) return;
    LONGHAUL_CHECK(slices_->OnChunk(from, *header, AsBytes(packet.payload)).ok(),
                   "this disk does not fail");
    return Report(/*again=*/false);
  }
  const absl::StatusOr<Envelope> envelope = DecodeEnvelope(AsBytes(packet.control));
  if (!envelope.ok() || envelope->run != options_.run_id) return;
  if (const auto* fetch = std::get_if<Fetch>(&envelope->body)) return OnFetch(from, *fetch);
  if (const auto* gone = std::get_if<FetchRefused>(&envelope->body))
    return OnRefused(from, gone->object);
}

}  // namespace longhaul::sim
