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
    for (auto& [id, upload] : uploads_) {
      upload.outgoing = Outgoing(upload.sizes);  // credit of the old connection lapsed
      if (auto fetch = std::exchange(upload.waiting, std::nullopt)) OnFetch(*fetch);
    }
    AskForChunks(/*new_attempt=*/true);
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
  if (const auto* fetch = std::get_if<FetchObject>(&request)) return StartDownload(fetch->object);
  if (std::holds_alternative<StopFetching>(request)) return download_.reset();
  if (const auto* exit = std::get_if<ExitWorker>(&request)) {
    alive_ = false;
    return options_.exited(*exit);
  }
  if (const auto* resolve = std::get_if<ResolveContribution>(&request)) {
    std::erase_if(uploads_, [&](const auto& upload) {
      return upload.second.object.fragment == resolve->fragment;
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
  Later(options_.scenario->small_job, [this, identity = load.identity] {
    Step(DataLoaded{identity, "sim"});
  });
}

// One job after the other; what it does happens when it ends.
void WorkerProcess::StartJob(const WorkerRequest& request) {
  const bool needs_object =
      std::holds_alternative<LoadState>(request) || std::holds_alternative<ApplyCommit>(request);
  Fetched fetched = needs_object ? std::exchange(fetched_, nullptr) : nullptr;
  const bool step = std::holds_alternative<TrainStep>(request);
  Duration takes =
      step ? options_.scenario->machines[options_.machine].step_time : options_.scenario->small_job;
  takes = takes * static_cast<int64_t>(slow_per_mille_) / 1000;
  const uint64_t spread = options_.scenario->job_spread_per_mille;
  const uint64_t draw = Draw(options_.scenario->seed, {6, options_.process, jobs_++});
  if (spread > 0) takes += takes * static_cast<int64_t>(draw % spread) / 1000;
  const Timestamp now = options_.queue->now();
  trainer_busy_until_ = std::max(trainer_busy_until_, now) + takes;
  options_.queue->At(trainer_busy_until_, [this, request, fetched] {
    Guard([this, request, fetched] {
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
  absl::StatusOr<Replica::Coded> coded = replicas_.at(job.fragment.value)->Code();
  LONGHAUL_CHECK(coded.ok(), "closed-form values are finite");
  coded->object.id = object.id;
  chunks = coded->chunks;
  options_.watchers->Tell([&](Watcher& w) { w.OnCoded(options_.process, coded->object, *chunks); });
  return ContributionCoded{coded->object};
}

void WorkerProcess::TellState(const Generation& generation, const Replica& replica) {
  options_.watchers->Tell(
      [&](Watcher& w) { w.OnReplica(options_.process, generation, replica.state()); });
}

void WorkerProcess::Finished(const WorkerEvent& event, const Chunks& chunks) {
  if (const auto* coded = std::get_if<ContributionCoded>(&event); coded && chunks) {
    auto sizes = std::make_shared<std::vector<uint32_t>>();
    for (const std::string& c : *chunks) sizes->push_back(static_cast<uint32_t>(c.size()));
    const ObjectId id = coded->object.id;
    uploads_.emplace(id.contribution, Upload{id, chunks, sizes, Outgoing(sizes), std::nullopt});
    if (uploads_.size() > kMaxUploads) uploads_.erase(uploads_.begin());
  }
  Step(event);
}

// ---- messages ----

void WorkerProcess::Send(const Message& message) {
  Envelope envelope{
      .run = options_.run_id, .generation = core_->generation(), .session = core_->session()};
  envelope.sequence = ++sequence_;
  envelope.body = message;
  if (options_.byzantine && options_.faults->Happens(FaultKind::kByzantine))
    Falsify(envelope, *options_.faults);
  absl::StatusOr<std::string> bytes = EncodeEnvelope(envelope);
  LONGHAUL_CHECK(bytes.ok(), "what a worker says can be encoded");
  options_.send({.control = std::move(*bytes)});
}

void WorkerProcess::SendHeartbeat() {
  if (core_->session().value == 0) return;
  Heartbeat h;
  h.fragments = core_->states();
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
  if (download_ && now - download_->last_chunk > kDownloadStall) AskForChunks(true);
}

void WorkerProcess::Receive(Packet packet) {
  if (!alive_) return;
  auto shared = std::make_shared<Packet>(std::move(packet));
  Guard([this, shared] {
    last_heard_ = options_.queue->now();
    if (shared->is_chunk()) return OnChunk(*shared);
    absl::StatusOr<Envelope> envelope = DecodeEnvelope(AsBytes(shared->control));
    if (envelope.ok() && envelope->run == options_.run_id) OnMessage(*envelope);
  });
}

void WorkerProcess::OnMessage(const Envelope& envelope) {
  if (const auto* fetch = std::get_if<Fetch>(&envelope.body)) return OnFetch(*fetch);
  if (const auto* gone = std::get_if<FetchRefused>(&envelope.body)) {
    if (download_ && download_->object.id == gone->object) download_.reset();
    return Step(ObjectGone{gone->object});
  }
  Step(WorkerReceived{envelope.generation, envelope.sequence, envelope.body});
}

// ---- objects ----

void WorkerProcess::StartDownload(const ObjectInfo& object) {
  auto receiver =
      ChunkReceiver::Create({object.chunks, object.bytes, object.root, kDownloadWindowBytes});
  LONGHAUL_CHECK(receiver.ok(), "the coordinator names objects that can be");
  download_ =
      Download{object, std::move(*receiver),
               std::make_shared<std::vector<std::string>>(object.chunks), options_.queue->now()};
  AskForChunks(/*new_attempt=*/true);
}

void WorkerProcess::AskForChunks(bool new_attempt) {
  if (!download_) return;
  ChunkReceiver& receiver = download_->receiver;
  Fetch fetch{.object = download_->object.id};
  if (new_attempt) {
    receiver.StartAttempt();
    download_->last_chunk = options_.queue->now();
    for (const ChunkSpan& s : receiver.MissingRuns(kMaxMissingRuns))
      fetch.missing.push_back({s.first, s.count});
  }
  fetch.attempt = receiver.attempt();
  fetch.granted_bytes = receiver.GrantedBytes();
  Send(fetch);
  receiver.NoteGrantSent();
}

void WorkerProcess::OnChunk(const Packet& packet) {
  absl::StatusOr<ChunkHeader> header = DecodeChunkHeader(AsBytes(packet.chunk_header));
  if (!download_ || !header.ok() || header->bytes != packet.payload.size() ||
      header->kind != download_->object.id.kind ||
      Xxh3(AsBytes(packet.payload)) != header->checksum) {
    return;
  }
  ChunkReceiver& receiver = download_->receiver;
  if (header->transfer != receiver.attempt()) return;
  if (receiver.Accept(header->transfer, header->chunk, AsBytes(packet.payload)) ==
      ChunkReceiver::Verdict::kNew) {
    (*download_->chunks)[header->chunk] = packet.payload;
    download_->last_chunk = options_.queue->now();
  }
  if (!receiver.complete()) {
    if (receiver.GrantDue()) AskForChunks(/*new_attempt=*/false);
    return;
  }
  if (!receiver.Verified()) {
    receiver.Reset();
    return AskForChunks(/*new_attempt=*/true);
  }
  fetched_ = download_->chunks;
  const ObjectId id = download_->object.id;
  download_.reset();
  Step(ObjectFetched{id});
}

void WorkerProcess::OnFetch(const Fetch& fetch) {
  auto it = uploads_.find(fetch.object.contribution);
  if (fetch.object.kind != ObjectKind::kContribution || it == uploads_.end() ||
      it->second.object != fetch.object) {
    return;
  }
  if (!connected_) {
    it->second.waiting = fetch;
    return;
  }
  std::vector<ChunkSpan> missing;
  for (const ChunkRun& run : fetch.missing) missing.push_back({run.first, run.count});
  if (it->second.outgoing.OnFetch(fetch.attempt, missing, fetch.granted_bytes).ok())
    Pump(it->second);
}

void WorkerProcess::Pump(Upload& upload) {
  while (std::optional<uint32_t> chunk = upload.outgoing.Next()) {
    std::string payload = (*upload.chunks)[*chunk];
    if (options_.byzantine && options_.faults->Happens(FaultKind::kByzantine))
      FalsifyChunk(payload, *options_.faults);
    ChunkHeader header{
        .kind = ObjectKind::kContribution, .transfer = upload.outgoing.attempt(), .chunk = *chunk};
    header.codec = codec_up_;
    header.elements = options_.scenario->layout.at(upload.object.fragment.value).elements;
    header.bytes = payload.size();
    header.checksum = Xxh3(AsBytes(payload));
    options_.send({.chunk_header = EncodeChunkHeader(header), .payload = std::move(payload)});
    upload.outgoing.MarkSent();
  }
}

}  // namespace longhaul::sim
