#include "reducer/slice_host.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace longhaul {
namespace {

bool Contains(const std::vector<ContributionId>& list, const ContributionId& id) {
  return std::find(list.begin(), list.end(), id) != list.end();
}

}  // namespace

// ---- orders ----

absl::Status SliceHost::SetOrders(const Generation& generation,
                                  const std::vector<SliceOrder>& orders,
                                  const std::map<SessionId, WorkerKey>& keys) {
  if (generation != generation_) {
    seats_.clear();
    attempts_.clear();
    downloads_.clear();
    generation_ = generation;
  }
  keys_ = keys;
  for (auto& [id, seat] : seats_) seat.ordered = false;
  for (const SliceOrder& order : orders) RETURN_IF_ERROR(Update(order));
  for (auto& [id, seat] : seats_) {
    if (seat.ordered) continue;
    while (!seat.pulls.empty()) StopPull(seat, seat.pulls.begin()->first);
  }
  EraseOldSeats();
  return absl::OkStatus();
}

void SliceHost::EraseOldSeats() {
  while (seats_.size() > kMaxSeats) {
    auto oldest = seats_.end();
    for (auto it = seats_.begin(); it != seats_.end(); ++it) {
      const bool older =
          oldest == seats_.end() || it->second.order.round < oldest->second.order.round;
      if (!it->second.ordered && older) oldest = it;
    }
    if (oldest == seats_.end()) return;
    seats_.erase(oldest);
  }
}

absl::Status SliceHost::Update(const SliceOrder& order) {
  if (order.fragment.value >= options_.fragments.size() || order.chunks == 0) {
    return absl::OkStatus();
  }
  const uint64_t elements = options_.fragments[order.fragment.value].elements;
  const uint64_t chunks = (elements + options_.chunk_elements - 1) / options_.chunk_elements;
  if (uint64_t{order.first_chunk} + order.chunks > chunks) return absl::OkStatus();
  const SeatId id{order.fragment, order.first_chunk};
  Seat& seat = seats_[id];
  seat.ordered = true;
  const bool same = seat.reducer && seat.order.round == order.round &&
                    seat.order.slice == order.slice && seat.order.chunks == order.chunks &&
                    seat.order.continues == order.continues;
  if (!same) {
    while (!seat.pulls.empty()) StopPull(seat, seat.pulls.begin()->first);
    ASSIGN_OR_RETURN(const bool begun, BeginRound(seat, order));
    seat.report = {.round = order.round, .fragment = order.fragment, .slice = order.slice};
    seat.report.failed = !begun;
    changed_ = true;
  }
  seat.order = order;
  if (seat.report.failed) return absl::OkStatus();
  if (seat.report.attempt != order.attempt) seat.report.attempt = 0;
  RETURN_IF_ERROR(Collect(id, seat));
  return TryClose(seat);
}

absl::StatusOr<bool> SliceHost::BeginRound(Seat& seat, const SliceOrder& order) {
  if (!order.continues) {
    RETURN_IF_ERROR(OpenReducer(seat, order));
    return true;
  }
  if (!seat.reducer || seat.order.chunks != order.chunks) return false;
  if (seat.reducer->version().Next() == order.base && seat.report.attempt > 0) {
    const absl::Status installed = seat.reducer->Install(seat.order.round, seat.report.attempt);
    if (!installed.ok()) return false;
  }
  if (seat.reducer->version() != order.base) return false;
  const uint64_t kept = order.base.value > 0 ? order.base.value - 1 : 0;
  RETURN_IF_ERROR(seat.reducer->DeleteAggregatesBefore(Version{kept}));
  return true;
}

absl::Status SliceHost::OpenReducer(Seat& seat, const SliceOrder& order) {
  const FragmentShape& shape = options_.fragments[order.fragment.value];
  const uint64_t first = order.first_chunk * options_.chunk_elements;
  Reducer::Options o;
  o.storage = options_.storage;
  o.folder = absl::StrCat(options_.folder, "/", order.fragment.value, "-", order.first_chunk);
  o.fragment = order.fragment;
  o.elements = std::min(order.chunks * options_.chunk_elements, shape.elements - first);
  o.codec_up = options_.codec_up;
  o.codec_down = options_.codec_down;
  o.beta_down = options_.beta_down;
  o.chunk_elements = options_.chunk_elements;
  o.layout = shape.layout;
  o.rules = options_.rules;
  o.first_chunk = order.first_chunk;
  o.replica = false;
  seat.reducer.reset();
  RETURN_IF_ERROR(options_.storage->Remove(o.folder));
  RETURN_IF_ERROR(options_.storage->MakeFolder(o.folder));
  ASSIGN_OR_RETURN(seat.reducer, Reducer::Open(o));
  return seat.reducer->Load(generation_, order.base, {}, {}, {});
}

// Contributions of an earlier round, or of sessions that are gone.
absl::Status SliceHost::DropUnlisted(Seat& seat) {
  for (const ContributionId& id : seat.reducer->Contributions()) {
    const auto listed = [&](const SliceContribution& c) { return c.id == id; };
    const std::vector<SliceContribution>& list = seat.order.contributions;
    if (std::any_of(list.begin(), list.end(), listed)) continue;
    StopPull(seat, id);
    RETURN_IF_ERROR(seat.reducer->Drop(id));
    std::erase(seat.report.held, id);
  }
  return absl::OkStatus();
}

absl::Status SliceHost::Collect(SeatId id, Seat& seat) {
  RETURN_IF_ERROR(DropUnlisted(seat));
  for (const SliceContribution& c : seat.order.contributions) {
    const std::vector<ContributionId>& refused = seat.report.refused;
    if (seat.pulls.contains(c.id) || Contains(seat.report.held, c.id) || Contains(refused, c.id) ||
        Contains(seat.report.lost, c.id)) {
      continue;
    }
    const ObjectInfo object{{ObjectKind::kContribution, generation_, seat.order.fragment,
                             seat.order.base, c.id, seat.order.first_chunk},
                            seat.order.chunks,
                            c.bytes,
                            c.root};
    const absl::StatusOr<Reducer::Progress> progress = seat.reducer->Expect(object, c.weight);
    if (progress.ok() && !progress->held) {
      if (!keys_.contains(c.id.session) && Contains(seat.order.included, c.id)) {
        Lose(seat, c.id);  // its session is over
        continue;
      }
      Pull& pull = seat.pulls[c.id];
      pull.object = object;
      StartPull(id, seat, c.id, pull);
    }
    RETURN_IF_ERROR(Note(id, seat, c.id, progress));
  }
  return absl::OkStatus();
}

// ---- contributions ----

void SliceHost::StartPull(SeatId id, Seat& seat, const ContributionId& contribution, Pull& pull) {
  attempts_.erase(pull.attempt);
  pull.attempt = options_.first_attempt + attempts_made_++;
  attempts_[pull.attempt] = {id, contribution};
  pull.window_bytes = std::clamp(kAllPullBytes / attempts_.size(), kLeastPullBytes, kPullBytes);
  pull.credit.StartAttempt(pull.object.chunks);
  pull.credit.State(pull.window_bytes);
  pull.last_chunk = now_;
  Grant(contribution, pull, seat.reducer->MissingChunks(contribution, kMaxMissingRuns));
}

void SliceHost::Grant(const ContributionId& id, const Pull& pull, std::vector<ChunkRun> missing) {
  const auto key = keys_.find(id.session);
  if (key == keys_.end()) return;
  options_.send(key->second,
                Fetch{pull.object.id, pull.attempt, std::move(missing),
                      pull.credit.stated_bytes()});
}

void SliceHost::StopPull(Seat& seat, const ContributionId& id) {
  const auto it = seat.pulls.find(id);
  if (it == seat.pulls.end()) return;
  attempts_.erase(it->second.attempt);
  seat.pulls.erase(it);
}

void SliceHost::Lose(Seat& seat, const ContributionId& id) {
  StopPull(seat, id);
  std::erase(seat.report.held, id);
  if (!Contains(seat.report.lost, id)) seat.report.lost.push_back(id);
  changed_ = true;
}

absl::Status SliceHost::OnChunk(const WorkerKey& from, const ChunkHeader& header,
                                ByteSpan payload) {
  const auto attempt = attempts_.find(header.transfer);
  if (attempt == attempts_.end()) return absl::OkStatus();  // of an older attempt, or decided
  const auto [seat_id, id] = attempt->second;
  const auto key = keys_.find(id.session);
  if (key == keys_.end() || key->second != from) return absl::OkStatus();
  Seat& seat = seats_.at(seat_id);
  Pull& pull = seat.pulls.at(id);
  if (!pull.credit.Take(header.chunk, header.bytes)) {
    options_.overrun(from);
    RETURN_IF_ERROR(Note(seat_id, seat, id, OverrunError()));
    return TryClose(seat);
  }
  pull.last_chunk = now_;
  pull.tries = 0;
  const absl::StatusOr<Reducer::Progress> progress = seat.reducer->AddChunk(id, header, payload);
  if (progress.ok() && !progress->held &&
      pull.credit.consumed_bytes() + pull.window_bytes / 2 >= pull.credit.stated_bytes()) {
    pull.credit.State(pull.credit.consumed_bytes() + pull.window_bytes);
    Grant(id, pull, {});
  }
  RETURN_IF_ERROR(Note(seat_id, seat, id, progress));
  return TryClose(seat);
}

absl::Status SliceHost::Note(SeatId id, Seat& seat, const ContributionId& contribution,
                             const absl::StatusOr<Reducer::Progress>& progress) {
  if (absl::IsDataLoss(progress.status()) || absl::IsNotFound(progress.status())) {
    return absl::OkStatus();  // damaged on the way: it is asked for again
  }
  if (absl::IsInvalidArgument(progress.status()) || absl::IsFailedPrecondition(progress.status())) {
    seat.report.refused.push_back(contribution);
    seat.report.reason = std::string(progress.status().message());
  } else if (!progress.ok()) {
    return progress.status();
  } else if (!progress->held) {
    return absl::OkStatus();
  } else {
    seat.report.held.push_back(contribution);
  }
  StopPull(seat, contribution);
  changed_ = true;
  return absl::OkStatus();
}

// The sender is gone, or does not answer: what counts is whether it is needed.
absl::Status SliceHost::Tick(Timestamp now) {
  now_ = now;
  for (auto& [id, seat] : seats_) {
    std::vector<ContributionId> lost;
    for (auto& [contribution, pull] : seat.pulls) {
      if (now_ - pull.last_chunk <= kPullStall) continue;
      const bool needed = seat.order.attempt > 0 && Contains(seat.order.included, contribution);
      if (++pull.tries >= kPullTries && needed) lost.push_back(contribution);
      StartPull(id, seat, contribution, pull);
    }
    for (const ContributionId& contribution : lost) Lose(seat, contribution);
  }
  return absl::OkStatus();
}

void SliceHost::OnConnected(const WorkerKey& peer) {
  for (auto& [id, seat] : seats_) {
    for (auto& [contribution, pull] : seat.pulls) {
      const auto key = keys_.find(contribution.session);
      if (key != keys_.end() && key->second == peer) StartPull(id, seat, contribution, pull);
    }
  }
  std::erase_if(downloads_, [&](const auto& d) { return d.first.first == peer; });
}

absl::Status SliceHost::TryClose(Seat& seat) {
  const SliceOrder& o = seat.order;
  if (o.attempt == 0 || seat.report.attempt == o.attempt || seat.report.failed) {
    return absl::OkStatus();
  }
  Reducer::CloseOrder close{
      .round = o.round, .attempt = o.attempt, .version = o.base.Next(), .divisor = o.divisor};
  for (const SliceContribution& c : o.contributions) {
    if (!Contains(o.included, c.id)) continue;
    if (!Contains(seat.report.held, c.id)) return absl::OkStatus();
    close.include.push_back({c.id, c.weight});
  }
  if (close.include.size() != o.included.size()) return absl::OkStatus();
  const absl::StatusOr<Reducer::Prepared> prepared = seat.reducer->Close(close);
  if (absl::IsDataLoss(prepared.status())) {
    ASSIGN_OR_RETURN(const auto unusable, seat.reducer->TakeUnusable(close.include));
    for (const ContributionId& id : unusable) Lose(seat, id);
    return absl::OkStatus();
  }
  changed_ = true;
  if (absl::IsInvalidArgument(prepared.status())) {
    seat.report.failed = true;  // an order that cannot be
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(prepared.status());
  seat.report.attempt = o.attempt;
  seat.report.aggregate = prepared->aggregate;
  std::erase_if(downloads_,
                [&](const auto& d) { return d.first.second == prepared->aggregate.id; });
  return absl::OkStatus();
}

void SliceHost::FailAll() {
  for (auto& [id, seat] : seats_) {
    seat.reducer.reset();
    seat.pulls.clear();
    seat.report.failed = true;
  }
  attempts_.clear();
  downloads_.clear();
  changed_ = true;
}

std::vector<SliceReport> SliceHost::Reports() const {
  std::vector<SliceReport> reports;
  for (const auto& [id, seat] : seats_) {
    if (seat.ordered) reports.push_back(seat.report);
  }
  return reports;
}

// ---- serving ----

absl::StatusOr<const Reducer*> SliceHost::ReducerOf(const ObjectId& object) const {
  const auto seat = seats_.find({object.fragment, object.first_chunk});
  if (object.kind != ObjectKind::kAggregate || object.generation != generation_ ||
      seat == seats_.end() || !seat->second.reducer) {
    return absl::NotFoundError("it is not reduced here");
  }
  return seat->second.reducer.get();
}

absl::StatusOr<StoredChunk> SliceHost::ReadChunk(const ObjectId& object, uint32_t chunk) const {
  ASSIGN_OR_RETURN(const Reducer* reducer, ReducerOf(object));
  return reducer->AggregateChunk(object.version, chunk);
}

absl::StatusOr<std::vector<uint32_t>> SliceHost::SizesOf(const ObjectId& object) const {
  ASSIGN_OR_RETURN(const Reducer* reducer, ReducerOf(object));
  return reducer->AggregateChunkBytes(object.version);
}

void SliceHost::OnFetch(const WorkerKey& from, const Fetch& fetch) {
  const auto key = std::make_pair(from, fetch.object);
  auto it = downloads_.find(key);
  if (it == downloads_.end()) {
    const absl::StatusOr<std::vector<uint32_t>> sizes = SizesOf(fetch.object);
    if (!sizes.ok()) {
      return options_.send(from, FetchRefused{fetch.object, std::string(sizes.status().message())});
    }
    if (downloads_.size() >= kMaxSliceDownloads) {
      downloads_.erase(std::min_element(
          downloads_.begin(), downloads_.end(),
          [](const auto& a, const auto& b) { return a.second.last_use < b.second.last_use; }));
    }
    const auto shared = std::make_shared<const std::vector<uint32_t>>(*sizes);
    it = downloads_.emplace(key, Download{Outgoing(shared)}).first;
  }
  std::vector<ChunkSpan> missing;
  for (const ChunkRun& run : fetch.missing) missing.push_back({run.first, run.count});
  if (!it->second.outgoing.OnFetch(fetch.attempt, missing, fetch.granted_bytes).ok()) return;
  it->second.last_use = ++uses_;
  Pump(from, fetch.object, it->second);
}

void SliceHost::OnRoom() {
  for (auto& [key, download] : downloads_) Pump(key.first, key.second, download);
}

void SliceHost::Pump(const WorkerKey& to, const ObjectId& object, Download& download) {
  while (const std::optional<uint32_t> chunk = download.outgoing.Next()) {
    absl::StatusOr<StoredChunk> stored = ReadChunk(object, *chunk);
    if (!stored.ok()) {
      return options_.send(to, FetchRefused{object, std::string(stored.status().message())});
    }
    stored->header.transfer = download.outgoing.attempt();
    if (!options_.send_chunk(to, stored->header, std::move(stored->payload))) return;
    download.outgoing.MarkSent();
  }
}

}  // namespace longhaul
