#include "wan/sim/reducer_host.h"

#include <algorithm>
#include <bit>

#include "common/hash.h"
#include "common/rng.h"
#include "common/status_macros.h"
#include "coordinator/reducer_thread.h"
#include "coordinator/run_folder.h"
#include "sync/state_hash.h"

namespace longhaul::sim {
namespace {

std::string CheckpointPath(Version v) { return CheckpointFolder(kCheckpoints, v.value); }

}  // namespace

// In order, one at a time, each after a random while: as a thread with a queue would.
void ReducerHost::Command(std::function<void()> command) {
  const Duration takes = Duration(Draw(options_.seed, {commands_++}) % 5'000'000);
  busy_until_ = std::max(busy_until_, options_.queue->now()) + takes;
  most_waiting_ = std::max(most_waiting_, ++waiting_);
  options_.queue->At(busy_until_, [this, command = std::move(command)] {
    --waiting_;
    if (!failed_ && options_.alive()) command();
  });
}

bool ReducerHost::Check(const absl::Status& status) {
  if (status.ok()) return true;
  failed_ = true;
  options_.fail(status);
  return false;
}

void ReducerHost::Expect(const ExpectContribution& request, const WorkerKey& user, Route route) {
  Command([=, this] { DoExpect(request, user, route); });
}

void ReducerHost::RouteChanged(SessionId session, Route route) {
  Command([=, this] {
    for (auto& [id, upload] : uploads_) {
      if (id.session != session) continue;
      upload.route = route;
      StartAttempt(id, upload);
    }
    std::erase_if(downloads_, [&](const auto& d) { return d.first.first == route; });
  });
}

void ReducerHost::Chunk(const WorkerKey& user, std::string header, std::string payload) {
  Command([=, this] { DoChunk(user, header, payload); });
}

void ReducerHost::Serve(Route route, const Fetch& fetch) {
  Command([=, this] { DoServe(route, fetch); });
}

void ReducerHost::Drop(const DropContribution& request) {
  Command([=, this] {
    if (auto it = uploads_.find(request.id); it != uploads_.end()) {
      attempts_.erase(it->second.attempt);
      uploads_.erase(it);
    }
    Check(reducer_->Drop(request.id));
  });
}

void ReducerHost::Reduce(const ReduceRound& request) {
  Command([=, this] {
    reduce_ = request;
    TryReduce();
  });
}

void ReducerHost::Install(const InstallRound& request) {
  Command([=, this] { DoInstall(request); });
}

void ReducerHost::DoInstall(const InstallRound& request) {
  if (!Check(reducer_->Install(request.round, request.attempt))) return;
  const ReducerView view{options_.generation,    FragmentId{0},        reducer_->version(),
                         reducer_->parameters(), reducer_->momentum(), reducer_->residual()};
  options_.watchers->Tell([&](Watcher& w) { w.OnReducer(view, /*residual_reset=*/false); });
}

void ReducerHost::Checkpoint(const StoreCheckpoint& request, const CheckpointState& state,
                             const std::string& ledger) {
  Command([=, this] { DoCheckpoint(request.version, state, ledger); });
}

void ReducerHost::Tick() {
  Command([this] {
    for (auto& [id, upload] : uploads_) {
      if (options_.queue->now() - upload.last_chunk > kUploadStall) StartAttempt(id, upload);
    }
  });
}

void ReducerHost::DoExpect(const ExpectContribution& request, const WorkerKey& user, Route route) {
  const ContributionId id = request.object.id.contribution;
  absl::StatusOr<Reducer::Progress> progress = reducer_->Expect(request.object, request.weight);
  if (progress.ok() && !progress->held) {
    Upload& upload = uploads_[id];
    if (upload.attempt != 0 && upload.route == route) return;
    upload.object = request.object;
    upload.user = user;
    upload.route = route;
    StartAttempt(id, upload);
  }
  AfterProgress(id, progress);
}

void ReducerHost::StartAttempt(ContributionId id, Upload& upload) {
  attempts_.erase(upload.attempt);
  upload.attempt = next_attempt_++;
  attempts_[upload.attempt] = id;
  upload.consumed_bytes = 0;
  upload.last_chunk = options_.queue->now();
  upload.stated_bytes = kUploadWindowBytes;
  Grant(upload, reducer_->MissingChunks(id, kMaxMissingRuns));
}

void ReducerHost::Grant(const Upload& upload, std::vector<ChunkRun> missing) {
  if (upload.route == kNoRoute) return;
  options_.send_control(upload.route, Fetch{upload.object.id, upload.attempt, std::move(missing),
                                            upload.stated_bytes});
}

void ReducerHost::DoChunk(const WorkerKey& user, const std::string& header_bytes,
                          const std::string& payload) {
  absl::StatusOr<ChunkHeader> header = DecodeChunkHeader(AsBytes(header_bytes));
  if (!header.ok() || header->bytes != payload.size()) return;
  auto attempt = attempts_.find(header->transfer);
  if (attempt == attempts_.end()) return;
  const ContributionId id = attempt->second;
  Upload& upload = uploads_.at(id);
  if (upload.user != user) return;
  upload.consumed_bytes += header->bytes;
  upload.last_chunk = options_.queue->now();
  absl::StatusOr<Reducer::Progress> progress = reducer_->AddChunk(id, *header, AsBytes(payload));
  if (progress.ok() && !progress->held &&
      upload.consumed_bytes + kUploadWindowBytes / 2 >= upload.stated_bytes) {
    upload.stated_bytes = upload.consumed_bytes + kUploadWindowBytes;
    Grant(upload, {});
  }
  AfterProgress(id, progress);
}

void ReducerHost::AfterProgress(ContributionId id,
                                const absl::StatusOr<Reducer::Progress>& progress) {
  if (absl::IsDataLoss(progress.status()) || absl::IsNotFound(progress.status())) return;
  if (absl::IsInvalidArgument(progress.status()) || absl::IsFailedPrecondition(progress.status())) {
    options_.post(RefusedEvent{id, std::string(progress.status().message())});
  } else if (!Check(progress.status()) || !progress->held) {
    return;
  }
  if (auto it = uploads_.find(id); it != uploads_.end()) {
    attempts_.erase(it->second.attempt);
    uploads_.erase(it);
  }
  if (!progress.ok()) return;
  options_.post(HeldEvent{id});
  TryReduce();
}

void ReducerHost::TryReduce() {
  if (!reduce_) return;
  Reducer::CloseOrder order{.round = reduce_->round,
                            .attempt = reduce_->attempt,
                            .version = reduce_->version,
                            .divisor = reduce_->divisor,
                            .outer_lr = std::bit_cast<float>(reduce_->outer_lr_bits),
                            .outer_momentum = std::bit_cast<float>(reduce_->outer_momentum_bits)};
  for (const auto& [id, weight] : reduce_->included) {
    if (uploads_.contains(id)) return;
    order.include.push_back({id, weight});
  }
  absl::StatusOr<Reducer::Prepared> prepared = reducer_->Close(order);
  if (!Check(prepared.status())) return;
  TellPrepared(prepared->aggregate);
  options_.post(
      PreparedEvent{order.round, order.attempt, prepared->aggregate, prepared->state_hash});
  reduce_.reset();
}

void ReducerHost::TellPrepared(const ObjectInfo& aggregate) {
  std::vector<std::string> chunks;
  for (uint32_t i = 0; i < aggregate.chunks; ++i) {
    auto stored = reducer_->AggregateChunk(aggregate.id.version, i);
    if (stored.ok()) chunks.push_back(std::move(stored->payload));
  }
  options_.watchers->Tell([&](Watcher& w) { w.OnPrepared(aggregate, chunks); });
}

void ReducerHost::DoCheckpoint(Version version, CheckpointState state, const std::string& ledger) {
  if (reducer_->version() != version) return;
  const Digest hash = StateHash(reducer_->parameters(), reducer_->momentum());
  state.fragments = {{version, hash}};
  const CheckpointContents contents{
      options_.shape, reducer_->parameters(), reducer_->momentum(), reducer_->residual(), ledger,
      state};
  Storage& storage = *options_.disk;
  if (!Check(storage.Remove(CheckpointPath(version))) ||
      !Check(WriteCheckpoint(storage, CheckpointPath(version), contents)) ||
      !Check(KeepNewest(storage, kCheckpoints, options_.checkpoints_kept))) {
    return;
  }
  Version oldest = version;
  for (const std::string& path : ListCheckpoints(storage, kCheckpoints)) {
    for (uint64_t v = 0; v < oldest.value; ++v) {
      if (path == CheckpointPath(Version{v})) oldest = Version{v};
    }
  }
  if (!Check(reducer_->DeleteAggregatesBefore(oldest.Next()))) return;
  options_.post(CheckpointEvent{
      StateObject(state.generation, version, reducer_->parameters().size(), hash), oldest});
}

absl::StatusOr<StoredChunk> ReducerHost::ReadStateChunk(Version version, uint32_t chunk) {
  if (chunk != 0) return absl::NotFoundError("no such chunk");
  Storage& storage = *options_.disk;
  const std::string path = CheckpointPath(version);
  const uint64_t bytes = reducer_->parameters().size() * sizeof(float);
  ASSIGN_OR_RETURN(uint64_t offset, ParametersOffsetBytes(storage, path));
  ASSIGN_OR_RETURN(std::string payload, storage.Read(path + "/model.safetensors", offset, bytes));
  ASSIGN_OR_RETURN(std::string momentum, storage.Read(path + "/trainer/momentum.bin", 0, bytes));
  payload += momentum;
  if (payload.size() != 2 * bytes) return absl::DataLossError("a checkpoint file is too short");
  StoredChunk stored;
  stored.header = {ObjectKind::kState,
                   0,
                   chunk,
                   static_cast<uint32_t>(CodecId::kFloat32),
                   bytes / sizeof(float),
                   payload.size(),
                   Xxh3(AsBytes(payload))};
  stored.payload = std::move(payload);
  return stored;
}

absl::StatusOr<StoredChunk> ReducerHost::ReadChunk(const ObjectId& object, uint32_t chunk) {
  if (object.kind == ObjectKind::kState) return ReadStateChunk(object.version, chunk);
  if (object.kind == ObjectKind::kAggregate) return reducer_->AggregateChunk(object.version, chunk);
  return absl::NotFoundError("contributions are not served");
}

// Tiny models: every object is one chunk.
void ReducerHost::DoServe(Route route, const Fetch& fetch) {
  auto refuse = [&](const absl::Status& why) {
    options_.send_control(route, FetchRefused{fetch.object, std::string(why.message())});
  };
  const auto key = std::make_pair(route, fetch.object);
  auto it = downloads_.find(key);
  if (it == downloads_.end()) {
    const absl::StatusOr<StoredChunk> first = ReadChunk(fetch.object, 0);
    if (!first.ok()) return refuse(first.status());
    auto sizes =
        std::make_shared<std::vector<uint32_t>>(1, static_cast<uint32_t>(first->payload.size()));
    if (downloads_.size() >= kMaxDownloads) downloads_.erase(downloads_.begin());
    it = downloads_.emplace(key, Outgoing(sizes)).first;
  }
  std::vector<ChunkSpan> missing;
  for (const ChunkRun& run : fetch.missing) missing.push_back({run.first, run.count});
  Outgoing& outgoing = it->second;
  if (!outgoing.OnFetch(fetch.attempt, missing, fetch.granted_bytes).ok()) return;
  while (std::optional<uint32_t> chunk = outgoing.Next()) {
    absl::StatusOr<StoredChunk> stored = ReadChunk(fetch.object, *chunk);
    if (!stored.ok()) return refuse(stored.status());
    stored->header.transfer = outgoing.attempt();
    options_.send_chunk(route, stored->header, std::move(stored->payload));
    outgoing.MarkSent();
  }
}

}  // namespace longhaul::sim
