#include "worker/block_feed.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/status_macros.h"

namespace longhaul {

BlockFeed::BlockFeed(Options options)
    : options_(std::move(options)), blobs_(options_.sources), on_disk_(options_.cache_bytes) {
  thread_ = std::thread([this] { Run(); });
}

BlockFeed::~BlockFeed() {
  Close();
  thread_.join();
}

void BlockFeed::Close() {
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
  }
  changed_.notify_all();
  options_.coordinator->Close();
}

void BlockFeed::Run() {
  absl::Status ready = LoadManifest();
  const bool ok = ready.ok();
  if (ok) LoadCache();
  options_.on_ready(std::move(ready));
  if (!ok) return;
  while (std::optional<Job> job = NextJob()) Do(*job);
}

// ---- the manifest, and what an earlier process left ----

absl::Status BlockFeed::LoadManifest() {
  if (options_.manifest_bytes == 0 || options_.manifest_bytes > kMaxManifestBytes)
    return absl::InvalidArgumentError("the coordinator names no manifest of a possible size");
  options_.coordinator->SetUrgent(true);
  std::string bytes;
  while (bytes.size() < options_.manifest_bytes) {
    const uint64_t left = options_.manifest_bytes - bytes.size();
    ASSIGN_OR_RETURN(const std::string part,
                     options_.coordinator->Read(options_.manifest_id, bytes.size(),
                                                std::min<uint64_t>(left, kMaxBlobRead)));
    bytes += part;
  }
  ASSIGN_OR_RETURN(manifest_, ParseManifest(AsBytes(bytes)));
  if (manifest_.Id() != options_.manifest_id)
    return absl::DataLossError("the coordinator sent another manifest than it named");
  ASSIGN_OR_RETURN(order_, options_.make_order(manifest_));
  map_.emplace(manifest_);
  for (uint32_t i = 0; i < manifest_.shards.size(); ++i) shards_[manifest_.shards[i].blob_id] = i;
  return absl::OkStatus();
}

// "<blob_id>.<block>"
std::string BlockFeed::FileOf(BlockKey key) const {
  return absl::StrCat(ToHex(manifest_.shards.at(key >> 32).blob_id), ".",
                      static_cast<uint32_t>(key));
}

// Files of blocks that are whole enough to try; whether they are right is seen when they are read.
void BlockFeed::LoadCache() {
  Storage& storage = *options_.cache;
  for (const std::string& name : storage.List("")) {
    Digest blob_id;
    uint32_t block = 0;
    const size_t dot = name.find('.');
    const bool named = dot != std::string::npos && FromHex(name.substr(0, dot), blob_id) &&
                       absl::SimpleAtoi(name.substr(dot + 1), &block);
    const auto shard = named ? shards_.find(blob_id) : shards_.end();
    const auto size = storage.Size(name);
    const bool room = size.ok() && *size > 0 && *size <= kMaxStoredBlockBytes &&
                      on_disk_.bytes() + *size <= on_disk_.limit_bytes();
    if (shard == shards_.end() || !room) {
      (void)storage.Remove(name);
      continue;
    }
    const BlockKey key = uint64_t{shard->second} << 32 | block;
    on_disk_.Insert(key, *size, kNeverUsed);
    disk_keys_.insert(key);
  }
}

// ---- what to do next ----

void BlockFeed::SetLeases(const std::vector<LeaseRange>& leases) {
  {
    std::lock_guard lock(mutex_);
    if (leases == leases_) return;
    leases_ = leases;
    std::set<Fence> fences;
    for (const LeaseRange& lease : leases) fences.insert(lease.fence);
    std::erase_if(read_, [&](const auto& read) { return !fences.contains(read.first); });
    replan_ = true;
    crowded_ = false;
  }
  changed_.notify_all();
}

void BlockFeed::NoteRead(uint64_t position) {
  std::lock_guard lock(mutex_);
  for (const LeaseRange& lease : leases_) {
    if (position >= lease.from && position < lease.to) read_[lease.fence] = position + 1;
  }
  if (std::exchange(crowded_, false)) replan_ = true;
}

void BlockFeed::NoteExchange() {
  std::lock_guard lock(mutex_);
  last_exchange_ = Clock::now();
}

BlockFeed::Stats BlockFeed::stats() const {
  std::lock_guard lock(mutex_);
  Stats stats = stats_;
  stats.holder_bytes = options_.coordinator->holder_bytes();
  return stats;
}

// The reads to come, in order, with the lock held.
void BlockFeed::PlanUses() {
  replan_ = false;
  uses_.clear();
  next_use_.clear();
  for (const LeaseRange& lease : leases_) {
    const auto read = read_.find(lease.fence);
    const uint64_t from = read == read_.end() ? lease.from : std::max(lease.from, read->second);
    for (uint64_t position = from; position < lease.to; ++position) {
      const OrderPlace at = order_->At(position);
      const SampleMap::Place place = map_->Training(at.domain, at.sample);
      if (manifest_.Withdrawn(place.shard, place.sample)) continue;
      const auto index = indexes_.find(place.shard);
      const bool known = index != indexes_.end();
      const uint64_t block =
          place.sample / (known ? index->second->header.block_samples : BlockSamples(manifest_));
      const BlockKey key = uint64_t{place.shard} << 32 | block;
      const uint64_t bytes =
          known ? index->second->rows.at(block).stored_bytes : uint64_t{kUsualBlockBytes};
      uses_.push_back({key, bytes, position});
      next_use_.try_emplace(key, position);
    }
  }
  for (const BlockKey key : disk_keys_) {
    const auto next = next_use_.find(key);
    on_disk_.SetNextUse(key, next == next_use_.end() ? kNeverUsed : next->second);
  }
}

std::optional<BlockFeed::Job> BlockFeed::PlannedJob() {
  if (crowded_) return std::nullopt;
  if (replan_) PlanUses();
  const PrefetchPlan plan = PlanPrefetch(
      uses_, on_disk_, {.budget_bytes = kAheadBytes, .ahead_bytes = options_.cache_bytes});
  if (plan.downloads.empty()) return std::nullopt;
  std::vector<BlobPart> parts;
  std::optional<Job> first;
  std::set<uint32_t> asked;
  for (const BlockUse& use : plan.downloads) {
    const auto shard = static_cast<uint32_t>(use.block >> 32);
    const auto block = static_cast<uint32_t>(use.block);
    const ShardEntry& entry = manifest_.shards[shard];
    const auto index = indexes_.find(shard);
    if (index == indexes_.end()) {
      if (asked.insert(shard).second) parts.push_back({entry.blob_id, 0, entry.index_bytes});
      if (!first) first = Job{shard, std::nullopt};
    } else {
      const BlockRow& row = index->second->rows[block];
      parts.push_back({entry.blob_id, row.offset, row.stored_bytes});
      if (!first) first = Job{shard, block};
    }
  }
  options_.coordinator->Announce(parts);
  return first;
}

std::optional<BlockFeed::Job> BlockFeed::NextJob() {
  Lock lock(mutex_);
  while (!closed_ && failed_.ok()) {
    const auto now = Clock::now();
    const bool may_try = now >= retry_at_;
    if (wanted_ && may_try) return wanted_;
    if (may_try && now - last_exchange_ >= kYield) {
      if (std::optional<Job> job = PlannedJob()) return job;
      changed_.wait_for(lock, kRetry);
    } else {
      changed_.wait_for(lock, may_try ? std::chrono::nanoseconds(kYield) : retry_at_ - now);
    }
  }
  return std::nullopt;
}

// ---- downloading ----

void BlockFeed::Do(const Job& job) {
  options_.coordinator->SetUrgent(job.urgent);
  const absl::Status status = job.block ? FetchBlock(job) : FetchIndex(job.shard);
  if (options_.on_kept) options_.on_kept();
  Lock lock(mutex_);
  in_hand_.reset();
  if (status.ok()) {
    if (wanted_ == job) wanted_.reset();
  } else if (absl::IsUnavailable(status)) {
    retry_at_ = Clock::now() + kRetry;
    if (!closed_) options_.say("training data: " + std::string(status.message()));
  } else {
    failed_ = status;
  }
  changed_.notify_all();
}

absl::Status BlockFeed::FetchIndex(uint32_t shard) {
  {
    Lock lock(mutex_);
    if (indexes_.contains(shard)) return absl::OkStatus();  // training waited while it came
  }
  const ShardEntry& entry = manifest_.shards[shard];
  ASSIGN_OR_RETURN(std::shared_ptr<const ShardIndex> index, blobs_.Index(entry));
  if (index->header.format != manifest_.format)
    return absl::DataLossError("a shard is of another sample size or tokenizer than its manifest");
  Lock lock(mutex_);
  stats_.downloaded_bytes += entry.index_bytes;
  indexes_[shard] = std::move(index);
  replan_ = true;
  return absl::OkStatus();
}

absl::Status BlockFeed::FetchBlock(const Job& job) {
  std::shared_ptr<const ShardIndex> index;
  {
    Lock lock(mutex_);
    index = indexes_.at(job.shard);
    if (on_disk_.Contains(KeyOf(job)) || uncached_.contains(KeyOf(job))) return absl::OkStatus();
    in_hand_ = KeyOf(job);
  }
  ASSIGN_OR_RETURN(std::string stored, blobs_.StoredBlock(*index, *job.block));
  Keep(job, std::move(stored));
  return absl::OkStatus();
}

bool BlockFeed::Write(const std::string& name, const std::string& stored) {
  auto file = options_.cache->OpenAppend(name, /*truncate=*/true);
  const absl::Status written = file.ok() ? (*file)->Append(AsBytes(stored)) : file.status();
  if (written.ok()) return true;
  options_.say("a block is kept in memory only: " + std::string(written.message()));
  (void)options_.cache->Remove(name);
  return false;
}

// On the disk if there is room for it and the disk takes it, otherwise in memory until it is read.
void BlockFeed::Keep(const Job& job, std::string stored) {
  const BlockKey key = KeyOf(job);
  std::vector<BlockKey> evicted;
  bool room = false;
  {
    Lock lock(mutex_);
    ++stats_.blocks;
    stats_.downloaded_bytes += stored.size();
    const auto next = next_use_.find(key);
    const uint64_t use = job.urgent || next == next_use_.end() ? 0 : next->second;
    if (auto made = on_disk_.Insert(key, stored.size(), use)) {
      room = true;
      evicted = std::move(*made);
      on_disk_.Remove(key);  // nobody finds it there before it is written
    }
    for (const BlockKey old : evicted) disk_keys_.erase(old);
    crowded_ = !room && !job.urgent;
    if (crowded_) return;
  }
  for (const BlockKey old : evicted) (void)options_.cache->Remove(FileOf(old));
  const bool written = room && Write(FileOf(key), stored);
  const bool sole = options_.coordinator->ReadSole();
  Lock lock(mutex_);
  if (written) {
    const auto next = next_use_.find(key);
    on_disk_.Insert(key, stored.size(), next == next_use_.end() ? kNeverUsed : next->second);
    on_disk_.SetSole(key, sole);
    disk_keys_.insert(key);
    return;
  }
  if (uncached_.size() >= kMaxUncached) uncached_.erase(uncached_.begin());
  uncached_[key] = std::move(stored);
}

// ---- for training ----

absl::Status BlockFeed::WaitFor(Lock& lock, const Job& job) {
  const auto begin = Clock::now();
  wanted_ = job;
  options_.coordinator->SetUrgent(true);  // it may be on its way already
  changed_.notify_all();
  changed_.wait(lock, [&] { return closed_ || !failed_.ok() || wanted_ != job; });
  stats_.waited_ns += (Clock::now() - begin).count();
  if (closed_) return absl::CancelledError("this worker is ending");
  return failed_;
}

absl::StatusOr<std::shared_ptr<const ShardIndex>> BlockFeed::Index(const ShardEntry& entry) {
  Lock lock(mutex_);
  const uint32_t shard = shards_.at(entry.blob_id);
  while (true) {
    if (const auto it = indexes_.find(shard); it != indexes_.end()) return it->second;
    RETURN_IF_ERROR(WaitFor(lock, Job{shard, std::nullopt, true}));
  }
}

std::optional<std::string> BlockFeed::FromDisk(Lock& lock, const ShardIndex& index,
                                               const Job& job) {
  lock.unlock();
  absl::StatusOr<std::string> stored =
      options_.cache->Read(FileOf(KeyOf(job)), 0, kMaxStoredBlockBytes + 1);
  const absl::Status right =
      stored.ok() ? CheckStoredBlock(index, *job.block, AsBytes(*stored)) : stored.status();
  lock.lock();
  if (right.ok()) return std::move(*stored);
  if (!on_disk_.Contains(KeyOf(job))) return std::nullopt;  // it gave way meanwhile
  ++stats_.damaged;
  on_disk_.Remove(KeyOf(job));
  disk_keys_.erase(KeyOf(job));
  options_.say("a block on this disk is damaged and is fetched again: " +
               std::string(right.message()));
  return std::nullopt;
}

absl::StatusOr<std::string> BlockFeed::StoredBlock(const ShardIndex& index, uint32_t block) {
  Lock lock(mutex_);
  const Job job{shards_.at(index.blob_id), block, true};
  while (true) {
    if (const auto it = uncached_.find(KeyOf(job)); it != uncached_.end()) {
      std::string stored = std::move(it->second);
      uncached_.erase(it);
      return stored;
    }
    if (on_disk_.Contains(KeyOf(job))) {
      if (std::optional<std::string> stored = FromDisk(lock, index, job)) return *stored;
      continue;
    }
    RETURN_IF_ERROR(WaitFor(lock, job));
  }
}

// ---- for other workers ----

absl::StatusOr<std::string> BlockFeed::Stored(const FetchBlob& request) {
  const absl::Status not_here = absl::NotFoundError("this block is not here");
  Lock lock(mutex_);
  const auto shard = shards_.find(request.blob_id);
  const auto index = shard == shards_.end() ? indexes_.end() : indexes_.find(shard->second);
  if (closed_ || index == indexes_.end() || request.bytes == 0) return not_here;
  const std::shared_ptr<const ShardIndex> rows = index->second;
  const auto after =
      std::upper_bound(rows->rows.begin(), rows->rows.end(), request.offset,
                       [](uint64_t offset, const BlockRow& row) { return offset < row.offset; });
  if (after == rows->rows.begin()) return not_here;  // of the index: it comes from the coordinator
  const Job job{shard->second, static_cast<uint32_t>(after - rows->rows.begin() - 1)};
  const BlockRow& row = rows->rows[*job.block];
  const uint64_t begin = request.offset - row.offset;
  if (begin > row.stored_bytes || request.bytes > row.stored_bytes - begin) return not_here;
  return StoredPart(lock, *rows, job, request);
}

absl::StatusOr<std::string> BlockFeed::StoredPart(Lock& lock, const ShardIndex& index,
                                                  const Job& job, const FetchBlob& request) {
  const BlockRow& row = index.rows[*job.block];
  const BlobPart whole{index.blob_id, row.offset, row.stored_bytes};
  std::optional<std::string> stored;
  if (on_disk_.Contains(KeyOf(job))) {
    stored = FromDisk(lock, index, job);
    if (stored) on_disk_.SetSole(KeyOf(job), false);
  } else if (const auto it = uncached_.find(KeyOf(job)); it != uncached_.end()) {
    stored = it->second;
  } else {
    stored = options_.coordinator->Peek(whole);
    if (stored && !CheckStoredBlock(index, *job.block, AsBytes(*stored)).ok()) stored.reset();
  }
  if (stored) return stored->substr(request.offset - row.offset, request.bytes);
  const BlobPart part{request.blob_id, request.offset, request.bytes};
  if (in_hand_ == KeyOf(job) || options_.coordinator->Expects(part))
    return absl::UnavailableError("this block is on its way");
  return absl::NotFoundError("this block is not here");
}

}  // namespace longhaul
