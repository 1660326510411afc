#include "wan/sim/reducer_host.h"

#include <algorithm>
#include <bit>

#include "common/check.h"
#include "common/hash.h"
#include "common/rng.h"
#include "common/status_macros.h"
#include "coordinator/reducer_thread.h"
#include "coordinator/run_folder.h"
#include "sync/state_hash.h"

namespace longhaul::sim {
namespace {

constexpr uint64_t kSliceTransfers = uint64_t{1} << 61;
constexpr uint64_t kAssemblyTransfers = uint64_t{1} << 62;

}  // namespace

ReducerHost::ReducerHost(Options options, std::vector<std::unique_ptr<Reducer>> reducers,
                         const CheckpointState& newest)
    : options_(std::move(options)),
      reducers_(std::move(reducers)),
      next_attempt_(options_.first_attempt) {
  served_[FolderOf(newest.fragments)] = newest.fragments;
  transfers_ = options_.first_attempt + kAssemblyTransfers;
  SliceHost::Options slices = options_.slices;
  slices.first_attempt = options_.first_attempt + kSliceTransfers;
  slices.send = [this](const WorkerKey& to, const Message& message) {
    if (auto route = routes_.find(to); route != routes_.end())
      options_.send_control(route->second, message);
  };
  slices.send_chunk = [](const WorkerKey&, const ChunkHeader&, std::string&&) { return false; };
  slices_ = std::make_unique<SliceHost>(std::move(slices));
}

// In order, one at a time, each after a random while: as a thread with a queue would.
void ReducerHost::Command(std::function<void()> command) {
  Duration takes = Duration(Draw(options_.seed, {commands_++}) % 5'000'000);
  const bool behind = busy_until_ > options_.queue->now() + Seconds(1);  // of one stall
  if (!behind && options_.faults->Happens(FaultKind::kReducerStall))
    takes += options_.faults->Between(FaultKind::kReducerStall, Seconds(1), kMaxReducerStall);
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

void ReducerHost::RouteChanged(SessionId session, const WorkerKey& key, Route route) {
  Command([=, this] {
    routes_[key] = route;
    slices_->OnConnected(key);
    for (auto& [fragment, assembly] : assemblies_)
      assembly.fetch.OnConnected(key, options_.queue->now());
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

void ReducerHost::Reduce(const ReduceRound& request) {
  Command([=, this] {
    reduce_[request.fragment] = request;
    // It may be long in adding up, while it goes on taking what arrives.
    Faults& faults = *options_.faults;
    if (faults.enabled(FaultKind::kReducerStall) &&
        faults.Below(FaultKind::kReducerStall, 8) == 0) {
      faults.Count(FaultKind::kReducerStall);
      adds_from_ = options_.queue->now() +
                   faults.Between(FaultKind::kReducerStall, Seconds(1), kMaxReducerStall);
    }
    TryReduce(request.fragment);
  });
}

void ReducerHost::Install(const InstallRound& request) {
  Command([=, this] { DoInstall(request); });
}

void ReducerHost::Slices(const ReduceSlices& request) {
  Command([=, this] {
    if (Check(slices_->SetOrders(options_.generation, request.orders, request.keys))) TellSlices();
  });
}

void ReducerHost::Assemble(const AssembleRound& request) {
  Command([=, this] { DoAssemble(request); });
}

void ReducerHost::DoInstall(const InstallRound& request) {
  assemblies_.erase(request.fragment);
  Reducer& reducer = Of(request.fragment);
  if (!Check(reducer.Install(request.round, request.attempt))) return;
  const ReducerView view{options_.generation,  request.fragment,
                         reducer.version(),    StateHash(reducer.parameters(), reducer.momentum()),
                         reducer.parameters(), reducer.momentum(),
                         reducer.residual()};
  options_.watchers->Tell([&](Watcher& w) { w.OnReducer(view, /*residual_reset=*/false); });
}

void ReducerHost::Checkpoint(const StoreCheckpoint& request, const CheckpointState& state) {
  Command([=, this] { DoCheckpoint(request, state); });
}

void ReducerHost::Tick() {
  options_.watchers->Tell([&](Watcher& w) {
    w.OnQueue("commands of the reducer", waiting_, kMaxReducerCommands);
    w.OnQueue("downloads", downloads_.size(), kMaxDownloads);
    w.OnQueue("uploads", uploads_.size(), kMaxContributions * reducers_.size());
  });
  Command([this] {
    for (auto& [id, upload] : uploads_) {
      if (options_.queue->now() - upload.last_chunk <= kUploadStall) continue;
      ++upload.tries;
      StartAttempt(id, upload);
    }
    LoseStalled();
    if (Check(slices_->Tick(options_.queue->now()))) TellSlices();
    for (auto& [fragment, assembly] : assemblies_) assembly.fetch.Tick(options_.queue->now());
  });
}

void ReducerHost::DoExpect(const ExpectContribution& request, const WorkerKey& user, Route route) {
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

void ReducerHost::StartAttempt(ContributionId id, Upload& upload) {
  attempts_.erase(upload.attempt);
  upload.attempt = next_attempt_++;
  attempts_[upload.attempt] = id;
  upload.consumed_bytes = 0;
  upload.last_chunk = options_.queue->now();
  upload.stated_bytes = kUploadWindowBytes;
  Grant(upload, Of(upload.object.id.fragment).MissingChunks(id, kMaxMissingRuns));
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
  if (header->transfer >= kAssemblyTransfers) {
    for (auto& [fragment, assembly] : assemblies_)
      assembly.fetch.OnChunk(user, *header, AsBytes(payload), options_.queue->now());
    for (uint64_t f = 0; f < reducers_.size(); ++f) TryAssemble(FragmentId{f});
    return;
  }
  if (header->transfer >= kSliceTransfers) {
    if (Check(slices_->OnChunk(user, *header, AsBytes(payload)))) TellSlices();
    return;
  }
  auto attempt = attempts_.find(header->transfer);
  if (attempt == attempts_.end()) return;
  const ContributionId id = attempt->second;
  Upload& upload = uploads_.at(id);
  if (upload.user != user) return;
  upload.consumed_bytes += header->bytes;
  upload.tries = 0;
  upload.last_chunk = options_.queue->now();
  const FragmentId fragment = upload.object.id.fragment;
  absl::StatusOr<Reducer::Progress> progress = Of(fragment).AddChunk(id, *header, AsBytes(payload));
  if (progress.ok() && !progress->held &&
      upload.consumed_bytes + kUploadWindowBytes / 2 >= upload.stated_bytes) {
    upload.stated_bytes = upload.consumed_bytes + kUploadWindowBytes;
    Grant(upload, {});
  }
  AfterProgress(fragment, id, progress);
}

void ReducerHost::AfterProgress(FragmentId fragment, ContributionId id,
                                const absl::StatusOr<Reducer::Progress>& progress) {
  if (absl::IsDataLoss(progress.status()) || absl::IsNotFound(progress.status())) return;
  if (absl::IsInvalidArgument(progress.status()) || absl::IsFailedPrecondition(progress.status())) {
    options_.post(RefusedEvent{fragment, id, std::string(progress.status().message())});
  } else if (!Check(progress.status()) || !progress->held) {
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

void ReducerHost::TryReduce(FragmentId fragment) {
  auto it = reduce_.find(fragment);
  if (it == reduce_.end()) return;
  if (options_.queue->now() < adds_from_) {
    return options_.queue->At(adds_from_, [this, fragment] {
      if (options_.alive()) TryReduce(fragment);
    });
  }
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
  TellPrepared(prepared->aggregate);
  options_.post(PreparedEvent{fragment, order.round, order.attempt, prepared->aggregate,
                              prepared->state_hash, 0});
}

void ReducerHost::Lose(const ReduceRound& reduce, std::vector<ContributionId> lost) {
  reduce_.erase(reduce.fragment);
  options_.post(LostEvent{reduce.fragment, reduce.round, reduce.attempt, std::move(lost)});
}

void ReducerHost::LoseStalled() {
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

void ReducerHost::TellSlices() {
  if (!slices_->TakeChanged()) return;
  for (const SliceReport& report : slices_->Reports())
    options_.post(SliceReportEvent{SessionId{0}, report});
}

void ReducerHost::DoAssemble(const AssembleRound& request) {
  PartedFetch::Options o;
  o.whole.id = request.parts.at(0).object.id;
  o.check_whole = false;
  o.fall_back = false;
  o.next_transfer = [this] { return transfers_++; };
  o.ask = [this](const WorkerKey& holder, const Fetch& fetch) {
    auto route = routes_.find(holder);
    if (route == routes_.end()) return false;
    options_.send_control(route->second, fetch);
    return true;
  };
  for (const AssembleRound::Part& part : request.parts) o.parts.push_back({part.object, part.key});
  assemblies_.erase(request.fragment);
  absl::StatusOr<PartedFetch> fetch = PartedFetch::Create(std::move(o));
  if (!fetch.ok()) return;
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
  assembly.fetch.Start(options_.queue->now());
  TryAssemble(request.fragment);
}

void ReducerHost::TryAssemble(FragmentId fragment) {
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
  LONGHAUL_CHECK(!absl::IsInvalidArgument(prepared.status()), "these reducers do not lie");
  if (!Check(prepared.status())) return;
  TellPrepared(prepared->aggregate);
  options_.post(PreparedEvent{fragment, request.round, request.attempt, prepared->aggregate,
                              prepared->state_hash, request.moves});
}

void ReducerHost::TellPrepared(const ObjectInfo& aggregate) {
  std::vector<std::string> chunks;
  for (uint32_t i = 0; i < aggregate.chunks; ++i) {
    auto stored = Of(aggregate.id.fragment).AggregateChunk(aggregate.id.version, i);
    if (stored.ok()) chunks.push_back(std::move(stored->payload));
  }
  options_.watchers->Tell([&](Watcher& w) { w.OnPrepared(aggregate, chunks); });
}

// ---- checkpoints ----

absl::Status ReducerHost::WriteModel(const std::string& path, const std::string& leases,
                                     const CheckpointState& state) {
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
  RETURN_IF_ERROR(options_.disk->Remove(path));
  return WriteCheckpoint(*options_.disk, path,
                         {options_.shape, parameters, momentum, residual, leases, state});
}

void ReducerHost::FindKept() {
  std::map<std::string, std::vector<CheckpointFragment>> kept;
  for (const std::string& path : ListCheckpoints(*options_.disk, kCheckpoints)) {
    absl::StatusOr<CheckpointState> state = ReadCheckpointState(*options_.disk, path);
    if (auto known = served_.find(path); known != served_.end()) {
      kept.insert(*known);
    } else if (state.ok() && state->fragments.size() == reducers_.size()) {
      kept[path] = state->fragments;
    }
  }
  served_ = std::move(kept);
}

void ReducerHost::DoCheckpoint(const StoreCheckpoint& request, CheckpointState state) {
  for (size_t i = 0; i < reducers_.size(); ++i) {
    const Reducer& r = *reducers_[i];
    LONGHAUL_CHECK(r.version() == request.versions[i], "commands come in the order of decisions");
    state.fragments.push_back({r.version(), StateHash(r.parameters(), r.momentum())});
  }
  const std::string path = FolderOf(state.fragments);
  served_.erase(path);
  if (!Check(WriteModel(path, request.leases, state)) ||
      !Check(KeepNewest(*options_.disk, kCheckpoints, options_.checkpoints_kept))) {
    return;
  }
  FindKept();
  CheckpointEvent done;
  for (uint64_t i = 0; i < reducers_.size(); ++i) {
    const CheckpointFragment& f = state.fragments[i];
    Version oldest = f.version;
    for (const auto& [folder, fragments] : served_) oldest = std::min(oldest, fragments[i].version);
    if (!Check(reducers_[i]->DeleteAggregatesBefore(oldest.Next()))) return;
    done.snapshots.push_back(StateObject(state.generation, FragmentId{i}, f.version,
                                         options_.layout[i].elements, f.state_hash));
    done.oldest_kept.push_back(oldest);
  }
  options_.post(std::move(done));
}

// ---- serving ----

absl::StatusOr<StoredChunk> ReducerHost::ReadStateChunk(const ObjectId& object, uint32_t chunk) {
  if (chunk != 0) return absl::NotFoundError("no such chunk");
  const FragmentLayout& layout = options_.layout.at(object.fragment.value);
  auto it = std::find_if(served_.begin(), served_.end(), [&](const auto& served) {
    return served.second[object.fragment.value].version == object.version;
  });
  if (it == served_.end()) return absl::NotFoundError("this checkpoint is not kept any more");
  Storage& storage = *options_.disk;
  ASSIGN_OR_RETURN(uint64_t offset, ParametersOffsetBytes(storage, it->first));
  std::string parameters, momentum;
  for (const ParameterSpan& span : layout.spans) {
    const uint64_t bytes = span.count * sizeof(float), at = span.offset * sizeof(float);
    ASSIGN_OR_RETURN(std::string part,
                     storage.Read(it->first + "/model.safetensors", offset + at, bytes));
    parameters += part;
    ASSIGN_OR_RETURN(part, storage.Read(it->first + "/trainer/momentum.bin", at, bytes));
    momentum += part;
  }
  const std::string payload = parameters + momentum;
  if (payload.size() != 2 * layout.elements * sizeof(float))
    return absl::DataLossError("a checkpoint file is too short");
  StoredChunk stored;
  stored.header = {ObjectKind::kState,
                   0,
                   chunk,
                   static_cast<uint32_t>(CodecId::kFloat32),
                   layout.elements,
                   payload.size(),
                   Xxh3(AsBytes(payload))};
  stored.payload = payload;
  return stored;
}

absl::StatusOr<StoredChunk> ReducerHost::ReadChunk(const ObjectId& object, uint32_t chunk) {
  if (object.fragment.value >= reducers_.size()) return absl::NotFoundError("no such fragment");
  if (object.kind == ObjectKind::kState) return ReadStateChunk(object, chunk);
  if (object.kind == ObjectKind::kAggregate)
    return Of(object.fragment).AggregateChunk(object.version, object.first_chunk + chunk);
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
