#include "coordinator/reducer_thread.h"

#include <algorithm>
#include <bit>

#include "common/hash.h"
#include "common/log.h"
#include "common/status_macros.h"
#include "coordinator/run_folder.h"
#include "sync/state_hash.h"

namespace longhaul {
namespace {

std::string ModelFile(Version v) {
  return CheckpointFolder(kCheckpoints, v.value) + "/model.safetensors";
}
std::string MomentumFile(Version v) {
  return CheckpointFolder(kCheckpoints, v.value) + "/trainer/momentum.bin";
}

std::vector<Frame> ChunkFrames(StoredChunk&& chunk) {
  std::vector<Frame> frames;
  frames.emplace_back(EncodeChunkHeader(chunk.header));
  frames.emplace_back(std::move(chunk.payload));
  return frames;
}

}  // namespace

ReducerThread::ReducerThread(Options options, std::unique_ptr<Reducer> reducer)
    : options_(std::move(options)),
      reducer_(std::move(reducer)),
      next_attempt_(options_.first_attempt) {
  thread_ = std::thread([this] { Run(); });
}

ReducerThread::~ReducerThread() { Stop(); }

void ReducerThread::Stop() {
  stopping_ = true;
  commands_.Close();
  if (thread_.joinable()) thread_.join();
}

void ReducerThread::Run() {
  while (auto command = commands_.Pop()) {
    if (!failed_ && !stopping_) (*command)();
  }
}

template <class F>
bool ReducerThread::Post(F&& command) {
  return commands_.TryPush(std::function<void()>(std::forward<F>(command)));
}

bool ReducerThread::Expect(const ExpectContribution& request, const WorkerKey& user,
                           const std::string& route) {
  return Post([=, this] { DoExpect(request, user, route); });
}

bool ReducerThread::RouteChanged(SessionId session, const std::string& route) {
  return Post([=, this] {
    for (auto& [id, upload] : uploads_) {
      if (id.session != session || upload.route == route) continue;
      upload.route = route;
      StartAttempt(id, upload);
    }
  });
}

bool ReducerThread::Chunk(const WorkerKey& user, std::vector<Frame>&& frames) {
  auto shared =
      std::make_shared<std::vector<Frame>>(std::move(frames));  // std::function must be copyable
  return Post([this, user, shared] { DoChunk(user, *shared); });
}

bool ReducerThread::Serve(const std::string& route, const Fetch& fetch) {
  return Post([=, this] { DoServe(route, fetch); });
}

bool ReducerThread::Room(const std::string& route) {
  return Post([=, this] {
    for (auto& [key, download] : downloads_) {
      if (key.first == route) Pump(download);
    }
  });
}

bool ReducerThread::Drop(const DropContribution& request) {
  return Post([=, this] {
    auto it = uploads_.find(request.id);
    if (it != uploads_.end()) {
      attempts_.erase(it->second.attempt);
      uploads_.erase(it);
    }
    Check(reducer_->Drop(request.id));
  });
}

bool ReducerThread::Reduce(const ReduceRound& request) {
  return Post([=, this] {
    reduce_ = request;
    TryReduce();
  });
}

bool ReducerThread::Install(const InstallRound& request) {
  return Post([=, this] { Check(reducer_->Install(request.round, request.attempt)); });
}

bool ReducerThread::Checkpoint(const StoreCheckpoint& request, const CheckpointState& state,
                               const std::string& ledger) {
  return Post([=, this] { DoCheckpoint(request.version, state, ledger); });
}

bool ReducerThread::Tick(Timestamp now) {
  return Post([=, this] {
    now_ = now;
    for (auto& [id, upload] : uploads_) {
      if (now_ - upload.last_chunk > kUploadStall) StartAttempt(id, upload);
    }
  });
}

// False, and the process is told to end, unless OK.
bool ReducerThread::Check(const absl::Status& status) {
  if (status.ok()) return true;
  failed_ = true;
  options_.fail(status);
  return false;
}

void ReducerThread::DoExpect(const ExpectContribution& request, const WorkerKey& user,
                             const std::string& route) {
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

void ReducerThread::StartAttempt(ContributionId id, Upload& upload) {
  attempts_.erase(upload.attempt);
  upload.attempt = next_attempt_++;
  attempts_[upload.attempt] = id;
  upload.consumed_bytes = 0;
  upload.last_chunk = now_;
  upload.stated_bytes = kUploadWindowBytes;
  Grant(upload, reducer_->MissingChunks(id, kMaxMissingRuns));
}

void ReducerThread::Grant(const Upload& upload, std::vector<ChunkRun> missing) {
  if (upload.route.empty()) return;  // not connected
  options_.send_control(upload.route, Fetch{upload.object.id, upload.attempt, std::move(missing),
                                            upload.stated_bytes});
}

void ReducerThread::DoChunk(const WorkerKey& user, const std::vector<Frame>& frames) {
  if (frames.size() != 2) return;
  absl::StatusOr<ChunkHeader> header = DecodeChunkHeader(frames[0].bytes());
  if (!header.ok() || header->bytes != frames[1].size()) return;
  auto attempt = attempts_.find(header->transfer);
  if (attempt == attempts_.end()) return;  // of an older attempt, or decided
  const ContributionId id = attempt->second;
  Upload& upload = uploads_.at(id);
  if (upload.user != user) return;
  upload.consumed_bytes += header->bytes;
  upload.last_chunk = now_;
  absl::StatusOr<Reducer::Progress> progress = reducer_->AddChunk(id, *header, frames[1].bytes());
  if (progress.ok() && !progress->held &&
      upload.consumed_bytes + kUploadWindowBytes / 2 >= upload.stated_bytes) {
    upload.stated_bytes = upload.consumed_bytes + kUploadWindowBytes;
    Grant(upload, {});
  }
  AfterProgress(id, progress);
}

void ReducerThread::AfterProgress(ContributionId id,
                                  const absl::StatusOr<Reducer::Progress>& progress) {
  if (absl::IsDataLoss(progress.status())) return;  // damaged on the way: it is asked for again
  if (absl::IsInvalidArgument(progress.status()) || absl::IsFailedPrecondition(progress.status())) {
    options_.post(RefusedEvent{id, std::string(progress.status().message())});
  } else if (absl::IsNotFound(progress.status())) {
    return;
  } else if (!Check(progress.status())) {
    return;
  } else if (!progress->held) {
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

// After a restart the round may be closed before its contributions are back in the sum.
void ReducerThread::TryReduce() {
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
  options_.post(
      PreparedEvent{order.round, order.attempt, prepared->aggregate, prepared->state_hash});
  reduce_.reset();
}

void ReducerThread::DoCheckpoint(Version version, CheckpointState state,
                                 const std::string& ledger) {
  if (reducer_->version() != version)
    return;  // asked for again after a restart, but written before
  const Digest hash = StateHash(reducer_->parameters(), reducer_->momentum());
  state.fragments = {{version, hash}};
  CheckpointContents contents{
      options_.shape, reducer_->parameters(), reducer_->momentum(), reducer_->residual(), ledger,
      state};
  const std::string path = CheckpointFolder(kCheckpoints, version.value);
  Storage& storage = *options_.storage;
  if (!Check(storage.Remove(path)) || !Check(WriteCheckpoint(storage, path, contents)) ||
      !Check(KeepNewest(storage, kCheckpoints, options_.checkpoints_kept))) {
    return;
  }
  const std::vector<std::string> kept = ListCheckpoints(storage, kCheckpoints);
  Version oldest = version;
  for (uint64_t v = 0; v < version.value; ++v) {
    if (std::find(kept.begin(), kept.end(), CheckpointFolder(kCheckpoints, v)) == kept.end())
      continue;
    oldest = Version{v};
    break;
  }
  if (!Check(reducer_->DeleteAggregatesBefore(oldest.Next()))) return;
  options_.post(CheckpointEvent{
      StateObject(state.generation, version, reducer_->parameters().size(), hash), oldest});
}

// ---- serving ----

absl::StatusOr<StoredChunk> ReducerThread::ReadStateChunk(Version version, uint32_t chunk) {
  const uint64_t elements = reducer_->parameters().size();
  const uint64_t at = uint64_t{chunk} * kChunkElements;
  if (at >= elements) return absl::NotFoundError("no such chunk");
  const uint64_t bytes = std::min(kChunkElements, elements - at) * sizeof(float);
  Storage& storage = *options_.storage;
  if (!parameters_at_.contains(version)) {
    ASSIGN_OR_RETURN(uint64_t offset,
                     ParametersOffsetBytes(storage, CheckpointFolder(kCheckpoints, version.value)));
    parameters_at_[version] = offset;
  }
  ASSIGN_OR_RETURN(
      std::string payload,
      storage.Read(ModelFile(version), parameters_at_[version] + at * sizeof(float), bytes));
  ASSIGN_OR_RETURN(std::string momentum,
                   storage.Read(MomentumFile(version), at * sizeof(float), bytes));
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

absl::StatusOr<StoredChunk> ReducerThread::ReadChunk(const ObjectId& object, uint32_t chunk) {
  if (object.kind == ObjectKind::kState) return ReadStateChunk(object.version, chunk);
  if (object.kind == ObjectKind::kAggregate) return reducer_->AggregateChunk(object.version, chunk);
  return absl::NotFoundError("contributions are not served");
}

// Payload sizes of all chunks; a state has equal chunks but for the last one.
absl::StatusOr<Outgoing::Sizes> ReducerThread::SizesOf(const ObjectId& object) {
  if (object.kind == ObjectKind::kAggregate) {
    ASSIGN_OR_RETURN(std::vector<uint32_t> sizes, reducer_->AggregateChunkBytes(object.version));
    return std::make_shared<const std::vector<uint32_t>>(std::move(sizes));
  }
  const uint64_t elements = reducer_->parameters().size();
  const auto chunks = static_cast<uint32_t>((elements + kChunkElements - 1) / kChunkElements);
  ASSIGN_OR_RETURN(StoredChunk first, ReadChunk(object, 0));
  ASSIGN_OR_RETURN(StoredChunk last, ReadChunk(object, chunks - 1));
  std::vector<uint32_t> sizes(chunks, static_cast<uint32_t>(first.payload.size()));
  sizes.back() = static_cast<uint32_t>(last.payload.size());
  return std::make_shared<const std::vector<uint32_t>>(std::move(sizes));
}

void ReducerThread::DoServe(const std::string& route, const Fetch& fetch) {
  const auto key = std::make_pair(route, fetch.object);
  auto it = downloads_.find(key);
  if (it == downloads_.end()) {
    absl::StatusOr<Outgoing::Sizes> sizes = SizesOf(fetch.object);
    if (!sizes.ok()) {
      return options_.send_control(
          route, FetchRefused{fetch.object, std::string(sizes.status().message())});
    }
    if (downloads_.size() >= kMaxDownloads) {
      downloads_.erase(std::min_element(
          downloads_.begin(), downloads_.end(),
          [](const auto& a, const auto& b) { return a.second.last_use < b.second.last_use; }));
    }
    it = downloads_.emplace(key, Download{Outgoing(*sizes), fetch.object, route}).first;
  }
  std::vector<ChunkSpan> missing;
  for (const ChunkRun& run : fetch.missing) missing.push_back({run.first, run.count});
  if (!it->second.outgoing.OnFetch(fetch.attempt, missing, fetch.granted_bytes).ok()) return;
  it->second.last_use = ++uses_;
  Pump(it->second);
}

void ReducerThread::Pump(Download& download) {
  while (std::optional<uint32_t> chunk = download.outgoing.Next()) {
    absl::StatusOr<StoredChunk> stored = ReadChunk(download.object, *chunk);
    if (!stored.ok()) {
      return options_.send_control(
          download.route, FetchRefused{download.object, std::string(stored.status().message())});
    }
    stored->header.transfer = download.outgoing.attempt();
    if (!options_.send_bulk(download.route, ChunkFrames(std::move(*stored))))
      return;  // Room goes on
    download.outgoing.MarkSent();
  }
}

}  // namespace longhaul
