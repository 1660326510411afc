#include "coordinator/reducer_thread.h"

#include <algorithm>
#include <bit>
#include <chrono>

#include "common/check.h"
#include "common/hash.h"
#include "common/log.h"
#include "common/status_macros.h"
#include "coordinator/run_folder.h"
#include "sync/state_hash.h"

namespace longhaul {
namespace {

// Three kinds of transfers come in over one connection; their numbers are apart.
constexpr uint64_t kSliceTransfers = uint64_t{1} << 61;
constexpr uint64_t kAssemblyTransfers = uint64_t{1} << 62;

// For rates; the core's time goes by ticks.
Timestamp MeasuringClock() {
  return {
      std::chrono::duration_cast<Duration>(std::chrono::steady_clock::now().time_since_epoch())};
}

std::vector<Frame> ChunkFrames(StoredChunk&& chunk) {
  std::vector<Frame> frames;
  frames.emplace_back(EncodeChunkHeader(chunk.header));
  frames.emplace_back(std::move(chunk.payload));
  return frames;
}

}  // namespace

ReducerThread::ReducerThread(Options options, std::vector<std::unique_ptr<Reducer>> reducers,
                             const CheckpointState& newest)
    : options_(std::move(options)),
      reducers_(std::move(reducers)),
      next_attempt_(options_.first_attempt) {
  served_[FolderOf(newest.fragments)].fragments = newest.fragments;
  transfers_ = options_.first_attempt + kAssemblyTransfers;
  SliceHost::Options slices = options_.slices;
  slices.first_attempt = options_.first_attempt + kSliceTransfers;
  slices.send = [this](const WorkerKey& to, const Message& message) {
    if (auto route = routes_.find(to); route != routes_.end())
      options_.send_control(route->second, message);
  };
  slices.send_chunk = [](const WorkerKey&, const ChunkHeader&, std::string&&) {
    return false;  // workers get aggregates from where they are put together
  };
  slices.overrun = options_.cut_overrun;
  slices_ = std::make_unique<SliceHost>(std::move(slices));
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

bool ReducerThread::RouteChanged(SessionId session, const WorkerKey& key,
                                 const std::string& route) {
  return Post([=, this] {
    if (auto& known = routes_[key]; known != route) {
      known = route;
      slices_->OnConnected(key);
      for (auto& [fragment, assembly] : assemblies_) assembly.fetch.OnConnected(key, now_);
    }
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
    // What was to be added up with it will not be: the round is aborted, or has another list.
    if (auto it = reduce_.find(request.fragment); it != reduce_.end()) {
      const auto& list = it->second.included;
      if (std::any_of(list.begin(), list.end(),
                      [&](const auto& part) { return part.first == request.id; }))
        reduce_.erase(it);
    }
    Check(Of(request.fragment).Drop(request.id));
  });
}

bool ReducerThread::Reduce(const ReduceRound& request) {
  return Post([=, this] {
    reduce_[request.fragment] = request;
    TryReduce(request.fragment);
  });
}

bool ReducerThread::Slices(const Generation& generation, const ReduceSlices& request) {
  return Post([=, this] {
    if (Check(slices_->SetOrders(generation, request.orders, request.keys))) TellSlices();
  });
}

bool ReducerThread::Assemble(const AssembleRound& request) {
  return Post([=, this] { DoAssemble(request); });
}

bool ReducerThread::Install(const InstallRound& request) {
  return Post([=, this] {
    assemblies_.erase(request.fragment);
    Check(Of(request.fragment).Install(request.round, request.attempt));
  });
}

bool ReducerThread::Checkpoint(const StoreCheckpoint& request, const CheckpointState& state) {
  return Post([=, this] { DoCheckpoint(request, state); });
}

bool ReducerThread::Tick(Timestamp now) {
  return Post([=, this] {
    now_ = now;
    for (auto& [id, upload] : uploads_) {
      if (now_ - upload.last_chunk <= kUploadStall) continue;
      ++upload.tries;
      StartAttempt(id, upload);
    }
    LoseStalled();
    if (Check(slices_->Tick(now))) TellSlices();
    for (auto& [fragment, assembly] : assemblies_) assembly.fetch.Tick(now);
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
  absl::StatusOr<Reducer::Progress> progress =
      Of(request.object.id.fragment).Expect(request.object, request.weight);
  if (progress.ok() && !progress->held) {
    Upload& upload = uploads_[id];
    if (upload.attempt != 0 && upload.route == route) return;
    upload.object = request.object;
    upload.user = user;
    upload.route = route;
    StartAttempt(id, upload);
  }
  AfterProgress(request.object.id.fragment, id, progress);
}

void ReducerThread::StartAttempt(ContributionId id, Upload& upload) {
  attempts_.erase(upload.attempt);
  upload.attempt = next_attempt_++;
  attempts_[upload.attempt] = id;
  upload.credit.StartAttempt(upload.object.chunks);
  upload.last_chunk = now_;
  Grant(upload, Of(upload.object.id.fragment).MissingChunks(id, kMaxMissingRuns));
}

void ReducerThread::MeasureLink(const WorkerKey& user) {
  if (auto link = options_.link(user)) credit_.OnLink(user, MeasuringClock(), *link);
}

uint64_t ReducerThread::WindowFor(const Upload& upload) {
  MeasureLink(upload.user);
  size_t transfers = 0;
  uint64_t taken = 0;
  for (const auto& [id, other] : uploads_) {
    if (other.user == upload.user) ++transfers;
    const uint64_t under_way = other.credit.stated_bytes() - other.credit.consumed_bytes();
    taken += std::max(under_way, kUploadWindowBytes) - kUploadWindowBytes;
  }
  return credit_.Window(upload.user, transfers, taken, kUploadSharedBytes);
}

void ReducerThread::Grant(Upload& upload, std::vector<ChunkRun> missing) {
  upload.window_bytes = WindowFor(upload);
  upload.credit.State(upload.credit.consumed_bytes() + upload.window_bytes);
  if (upload.route.empty()) return;  // not connected
  options_.send_control(upload.route, Fetch{upload.object.id, upload.attempt, std::move(missing),
                                            upload.credit.stated_bytes()});
}

bool ReducerThread::GrantDue(const Upload& upload) {
  const uint64_t grant = upload.credit.consumed_bytes() + upload.window_bytes;
  return grant >= upload.credit.stated_bytes() + upload.window_bytes / kGrantsPerWindow;
}

void ReducerThread::DoChunk(const WorkerKey& user, const std::vector<Frame>& frames) {
  if (frames.size() != 2) return;
  absl::StatusOr<ChunkHeader> header = DecodeChunkHeader(frames[0].bytes());
  if (!header.ok() || header->bytes != frames[1].size()) return;
  if (header->transfer >= kAssemblyTransfers) {
    credit_.OnConsumed(user, MeasuringClock(), header->bytes);
    for (auto& [fragment, assembly] : assemblies_)
      assembly.fetch.OnChunk(user, *header, frames[1].bytes(), now_);
    for (FragmentId f{0}; f.value < reducers_.size(); f = f.Next()) TryAssemble(f);
    return;
  }
  if (header->transfer >= kSliceTransfers) {
    if (Check(slices_->OnChunk(user, *header, frames[1].bytes()))) TellSlices();
    return;
  }
  auto attempt = attempts_.find(header->transfer);
  if (attempt == attempts_.end()) return;  // of an older attempt, or decided
  const ContributionId id = attempt->second;
  Upload& upload = uploads_.at(id);
  if (upload.user != user) return;
  const FragmentId fragment = upload.object.id.fragment;
  if (!upload.credit.Take(header->chunk, header->bytes)) {
    options_.cut_overrun(user);
    return AfterProgress(fragment, id, OverrunError());
  }
  credit_.OnConsumed(user, MeasuringClock(), header->bytes);
  upload.tries = 0;
  upload.last_chunk = now_;
  absl::StatusOr<Reducer::Progress> progress =
      Of(fragment).AddChunk(id, *header, frames[1].bytes());
  if (progress.ok() && !progress->held && GrantDue(upload)) Grant(upload, {});
  AfterProgress(fragment, id, progress);
}

void ReducerThread::AfterProgress(FragmentId fragment, ContributionId id,
                                  const absl::StatusOr<Reducer::Progress>& progress) {
  if (absl::IsDataLoss(progress.status())) return;  // damaged on the way: it is asked for again
  if (absl::IsInvalidArgument(progress.status()) || absl::IsFailedPrecondition(progress.status())) {
    options_.post(RefusedEvent{fragment, id, std::string(progress.status().message())});
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
  options_.post(HeldEvent{fragment, id});
  TryReduce(fragment);
}

// After a restart the round may be closed before its contributions are back in the sum.
void ReducerThread::TryReduce(FragmentId fragment) {
  auto it = reduce_.find(fragment);
  if (it == reduce_.end()) return;
  const ReduceRound& reduce = it->second;
  Reducer::CloseOrder order{.round = reduce.round,
                            .attempt = reduce.attempt,
                            .version = reduce.version,
                            .divisor = reduce.divisor,
                            .outer_lr = std::bit_cast<float>(reduce.outer_lr_bits),
                            .outer_momentum = std::bit_cast<float>(reduce.outer_momentum_bits),
                            .slices = reduce.slices};
  for (const auto& [id, weight] : reduce.included) {
    if (uploads_.contains(id)) return;
    order.include.push_back({id, weight});
  }
  absl::StatusOr<Reducer::Prepared> prepared = Of(fragment).Close(order);
  if (absl::IsDataLoss(prepared.status()) || absl::IsInvalidArgument(prepared.status())) {
    absl::StatusOr<std::vector<ContributionId>> lost = Of(fragment).TakeUnusable(order.include);
    if (!Check(lost.status()) || (lost->empty() && !Check(prepared.status()))) return;
    return Lose(ReduceRound(reduce), std::move(*lost));
  }
  reduce_.erase(it);
  if (!Check(prepared.status())) return;
  options_.post(PreparedEvent{fragment, order.round, order.attempt, prepared->aggregate,
                              prepared->state_hash, 0});
}

// The round is added up again without them.
void ReducerThread::Lose(const ReduceRound& reduce, std::vector<ContributionId> lost) {
  reduce_.erase(reduce.fragment);
  options_.post(LostEvent{reduce.fragment, reduce.round, reduce.attempt, std::move(lost)});
}

// A closed round waits for contributions whose senders are gone, or do not answer.
void ReducerThread::LoseStalled() {
  const std::map<FragmentId, ReduceRound> waiting = reduce_;
  for (const auto& [fragment, reduce] : waiting) {
    std::vector<ContributionId> lost;
    for (const auto& [id, weight] : reduce.included) {
      auto upload = uploads_.find(id);
      if (upload != uploads_.end() && upload->second.tries >= kUploadTries) lost.push_back(id);
    }
    if (!lost.empty()) Lose(reduce, std::move(lost));
  }
}

// ---- rounds that workers reduce ----

void ReducerThread::TellSlices() {
  if (!slices_->TakeChanged()) return;
  for (const SliceReport& report : slices_->Reports())
    options_.post(SliceReportEvent{SessionId{0}, report});
}

void ReducerThread::DoAssemble(const AssembleRound& request) {
  PartedFetch::Options o;
  o.whole.id = request.parts.at(0).object.id;
  o.check_whole = false;  // what it is, follows from the parts
  o.fall_back = false;
  o.next_transfer = [this] { return transfers_++; };
  o.ask = [this](const WorkerKey& holder, const Fetch& fetch) {
    auto route = routes_.find(holder);
    if (route == routes_.end()) return false;
    options_.send_control(route->second, fetch);
    return true;
  };
  o.window = [this](const WorkerKey& holder, size_t transfers, uint64_t taken, uint64_t shared) {
    MeasureLink(holder);
    return credit_.Window(holder, transfers, taken, shared);
  };
  for (const AssembleRound::Part& part : request.parts) o.parts.push_back({part.object, part.key});
  assemblies_.erase(request.fragment);
  absl::StatusOr<PartedFetch> fetch = PartedFetch::Create(std::move(o));
  if (!fetch.ok()) return;  // a reducer said what cannot be: the deadline takes its slice away
  Assembly& assembly =
      assemblies_.emplace(request.fragment, Assembly{request, std::move(*fetch)}).first->second;
  for (size_t i = 0; i < request.parts.size(); ++i) {
    const AssembleRound::Part& part = request.parts[i];
    for (uint32_t chunk = 0; part.reducer.value == 0 && chunk < part.object.chunks; ++chunk) {
      absl::StatusOr<StoredChunk> stored = slices_->ReadChunk(part.object.id, chunk);
      if (!Check(stored.status())) return;
      assembly.fetch.Fill(i, chunk, std::move(stored->payload));
    }
  }
  assembly.fetch.Start(now_);
  TryAssemble(request.fragment);
}

void ReducerThread::TryAssemble(FragmentId fragment) {
  auto it = assemblies_.find(fragment);
  if (it == assemblies_.end() || !it->second.fetch.complete()) return;
  const AssembleRound request = it->second.request;
  const auto chunks = it->second.fetch.Take();
  assemblies_.erase(it);
  const absl::StatusOr<Reducer::Prepared> prepared =
      Of(fragment).Assemble({.round = request.round,
                             .attempt = request.attempt,
                             .version = request.version,
                             .outer_lr = std::bit_cast<float>(request.outer_lr_bits),
                             .outer_momentum = std::bit_cast<float>(request.outer_momentum_bits)},
                            *chunks);
  if (absl::IsInvalidArgument(prepared.status())) {
    // A trusted worker made what does not decode: none of them is asked again.
    for (uint32_t i = 0; i < request.parts.size(); ++i) {
      if (request.parts[i].reducer.value == 0) continue;
      SliceReport failed{.round = request.round, .fragment = fragment, .slice = i, .failed = true};
      options_.post(SliceReportEvent{request.parts[i].reducer, std::move(failed)});
    }
    return;
  }
  if (!Check(prepared.status())) return;
  options_.post(PreparedEvent{fragment, request.round, request.attempt, prepared->aggregate,
                              prepared->state_hash, request.moves});
}

// ---- checkpoints ----

// The parts of the model, put together where there are several.
absl::Status ReducerThread::WriteModel(const std::string& path, const std::string& leases,
                                       const CheckpointState& state) {
  Storage& storage = *options_.storage;
  RETURN_IF_ERROR(storage.Remove(path));
  if (reducers_.size() == 1) {
    const Reducer& r = *reducers_[0];
    return WriteCheckpoint(
        storage, path, {options_.shape, r.parameters(), r.momentum(), r.residual(), leases, state});
  }
  uint64_t elements = 0;
  for (const FragmentLayout& layout : options_.layout) elements += layout.elements;
  std::vector<float> parameters(elements), momentum(elements), residual;
  if (!reducers_[0]->residual().empty()) residual.resize(elements);
  for (size_t i = 0; i < reducers_.size(); ++i) {
    const Reducer& r = *reducers_[i];
    Scatter(options_.layout[i], r.parameters(), 0, parameters);
    Scatter(options_.layout[i], r.momentum(), 0, momentum);
    if (!residual.empty()) Scatter(options_.layout[i], r.residual(), 0, residual);
  }
  return WriteCheckpoint(storage, path,
                         {options_.shape, parameters, momentum, residual, leases, state});
}

// What the folders that are left hold.
absl::Status ReducerThread::FindKept() {
  std::map<std::string, Served> kept;
  for (const std::string& path : ListCheckpoints(*options_.storage, kCheckpoints)) {
    auto known = served_.find(path);
    if (known != served_.end()) {
      kept.insert(*known);
      continue;
    }
    absl::StatusOr<CheckpointState> state = ReadCheckpointState(*options_.storage, path);
    if (state.ok() && state->fragments.size() == reducers_.size())
      kept[path].fragments = state->fragments;
  }
  served_ = std::move(kept);
  return absl::OkStatus();
}

void ReducerThread::DoCheckpoint(const StoreCheckpoint& request, CheckpointState state) {
  for (size_t i = 0; i < reducers_.size(); ++i) {
    const Reducer& r = *reducers_[i];
    LONGHAUL_CHECK(r.version() == request.versions[i], "commands come in the order of decisions");
    state.fragments.push_back({r.version(), StateHash(r.parameters(), r.momentum())});
  }
  const std::string path = FolderOf(state.fragments);
  served_.erase(path);
  if (!Check(WriteModel(path, request.leases, state)) ||
      !Check(KeepNewest(*options_.storage, kCheckpoints, options_.checkpoints_kept)) ||
      !Check(FindKept())) {
    return;
  }
  CheckpointEvent done;
  for (uint64_t i = 0; i < reducers_.size(); ++i) {
    const CheckpointFragment& f = state.fragments[i];
    Version oldest = f.version;
    for (const auto& [folder, served] : served_)
      oldest = std::min(oldest, served.fragments[i].version);
    if (!Check(reducers_[i]->DeleteAggregatesBefore(oldest.Next()))) return;
    done.snapshots.push_back(StateObject(state.generation, FragmentId{i}, f.version,
                                         options_.layout[i].elements, f.state_hash));
    done.oldest_kept.push_back(oldest);
  }
  options_.post(std::move(done));
}

// ---- serving ----

absl::StatusOr<StoredChunk> ReducerThread::ReadStateChunk(const ObjectId& object, uint32_t chunk) {
  const FragmentLayout& layout = options_.layout.at(object.fragment.value);
  const uint64_t at = uint64_t{chunk} * kChunkElements;
  if (at >= layout.elements) return absl::NotFoundError("no such chunk");
  const uint64_t count = std::min(kChunkElements, layout.elements - at);
  auto it = std::find_if(served_.begin(), served_.end(), [&](const auto& served) {
    return served.second.fragments[object.fragment.value].version == object.version;
  });
  if (it == served_.end()) return absl::NotFoundError("this checkpoint is not kept any more");
  Storage& storage = *options_.storage;
  const std::string& folder = it->first;
  if (it->second.parameters_at == 0) {
    ASSIGN_OR_RETURN(it->second.parameters_at, ParametersOffsetBytes(storage, folder));
  }
  std::string parameters, momentum;
  absl::Status status;
  ForStretches(layout, at, count, [&](uint64_t flat, uint64_t, uint64_t n) {
    if (!status.ok()) return;
    auto read = [&](const std::string& file, uint64_t offset, std::string& out) {
      absl::StatusOr<std::string> bytes = storage.Read(folder + file, offset, n * sizeof(float));
      if (bytes.ok()) out += *bytes;
      if (status.ok()) status = bytes.status();
    };
    read("/model.safetensors", it->second.parameters_at + flat * sizeof(float), parameters);
    read("/trainer/momentum.bin", flat * sizeof(float), momentum);
  });
  RETURN_IF_ERROR(status);
  std::string payload = std::move(parameters) + momentum;
  if (payload.size() != 2 * count * sizeof(float))
    return absl::DataLossError("a checkpoint file is too short");
  StoredChunk stored;
  stored.header = {ObjectKind::kState,
                   0,
                   chunk,
                   static_cast<uint32_t>(CodecId::kFloat32),
                   count,
                   payload.size(),
                   Xxh3(AsBytes(payload))};
  stored.payload = std::move(payload);
  return stored;
}

absl::StatusOr<StoredChunk> ReducerThread::ReadChunk(const ObjectId& object, uint32_t chunk) {
  if (object.fragment.value >= reducers_.size()) return absl::NotFoundError("no such fragment");
  if (object.kind == ObjectKind::kState) return ReadStateChunk(object, chunk);
  if (object.kind == ObjectKind::kAggregate)
    return Of(object.fragment).AggregateChunk(object.version, object.first_chunk + chunk);
  return absl::NotFoundError("contributions are not served");
}

// Payload sizes of all chunks; a state has equal chunks but for the last one.
absl::StatusOr<Outgoing::Sizes> ReducerThread::SizesOf(const ObjectId& object) {
  if (object.fragment.value >= reducers_.size()) return absl::NotFoundError("no such fragment");
  if (object.kind == ObjectKind::kAggregate) {
    ASSIGN_OR_RETURN(std::vector<uint32_t> sizes,
                     Of(object.fragment).AggregateChunkBytes(object.version));
    if (object.first_chunk >= sizes.size()) return absl::NotFoundError("no such slice");
    sizes.erase(sizes.begin(), sizes.begin() + object.first_chunk);
    return std::make_shared<const std::vector<uint32_t>>(std::move(sizes));
  }
  const uint64_t elements = Of(object.fragment).parameters().size();
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
