// The blocks of a run's data set on their way to training: a thread downloads what the leases will
// read, the earliest first, from whatever sources there are, and keeps it on this worker's disk
// within a limit; what is needed latest gives way (BlockCache). Every block is compared with its
// digest when it comes and again when it is read from the disk; a damaged file is fetched again.
//
// While the model is exchanged only what training already waits for is downloaded: data gives way.
//
// Index and StoredBlock are for the trainer's thread and wait until the block is there; everything
// else is for any thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "common/storage.h"
#include "data/block_cache.h"
#include "data/data_set.h"
#include "data/prefetch.h"
#include "data/verified_blobs.h"
#include "proto/messages.h"
#include "sharding/order/mixed_order.h"
#include "worker/coordinator_source.h"

namespace longhaul {

class BlockFeed : public Blocks {
 public:
  static constexpr uint64_t kAheadBytes = uint64_t{8} << 20;  // asked for at one time
  static constexpr Duration kYield = Milliseconds(200);       // after the exchange's last chunk
  static constexpr Duration kRetry = Seconds(2);              // when no source has a block
  static constexpr size_t kMaxUncached = 4;  // blocks in memory that the disk has no room for

  struct Options {
    Digest manifest_id{};
    uint64_t manifest_bytes = 0;
    // Asked in this order for shards; the coordinator last. The manifest comes from the
    // coordinator.
    std::vector<std::shared_ptr<BlobSource>> sources;
    std::shared_ptr<CoordinatorSource> coordinator;
    std::unique_ptr<Storage> cache;
    uint64_t cache_bytes = 0;
    // Refuses a manifest that is not the run's, or makes the run's order of it.
    std::function<absl::StatusOr<MixedOrder>(const Manifest&)> make_order;
    // Once, on the feed's thread: whether the manifest is here. The feed is used only if it is.
    std::function<void(absl::Status)> on_ready;
    std::function<void(const std::string&)> say;  // what is wrong, for people
    std::function<void()> on_kept;  // a block has come; on the feed's thread; may be null
  };
  struct Stats {
    uint64_t downloaded_bytes = 0;
    uint64_t holder_bytes = 0;  // of them from other workers
    uint64_t blocks = 0;        // downloaded
    uint64_t damaged = 0;       // on our disk
    int64_t waited_ns = 0;      // by training
  };

  explicit BlockFeed(Options options);
  ~BlockFeed() override;

  // After on_ready.
  const Manifest& manifest() const { return manifest_; }
  const MixedOrder& order() const { return *order_; }

  absl::StatusOr<std::shared_ptr<const ShardIndex>> Index(const ShardEntry& entry) override;
  absl::StatusOr<std::string> StoredBlock(const ShardIndex& index, uint32_t block) override;

  // All ranges of positions that may be read from now on.
  void SetLeases(const std::vector<LeaseRange>& leases);
  void NoteRead(uint64_t position);  // it will not be read again under this lease
  void NoteExchange();               // a chunk of the model just came or went
  Stats stats() const;
  // Bytes of a block for another worker, compared with the digest now. NotFound: they are not here;
  // Unavailable: they will be.
  absl::StatusOr<std::string> Stored(const FetchBlob& request);
  // Wakes who waits; Index and StoredBlock fail from now on.
  void Close();

 private:
  using Clock = std::chrono::steady_clock;
  // What the thread does next: the index of a shard, or one of its blocks.
  struct Job {
    uint32_t shard = 0;
    std::optional<uint32_t> block;
    bool urgent = false;
    auto operator<=>(const Job&) const = default;
  };
  using Lock = std::unique_lock<std::mutex>;

  void Run();
  absl::Status LoadManifest();
  void LoadCache();
  std::optional<Job> NextJob();
  std::optional<Job> PlannedJob();  // with the lock held
  void Do(const Job& job);
  absl::Status FetchIndex(uint32_t shard);
  absl::Status FetchBlock(const Job& job);
  void Keep(const Job& job, std::string stored);
  bool Write(const std::string& name, const std::string& stored);
  // `bytes` in it, if the block is here and right.
  absl::StatusOr<std::string> StoredPart(Lock& lock, const ShardIndex& index, const Job& job,
                                         const FetchBlob& request);
  void PlanUses();
  absl::Status WaitFor(Lock& lock, const Job& job);
  std::optional<std::string> FromDisk(Lock& lock, const ShardIndex& index, const Job& job);
  std::string FileOf(BlockKey key) const;
  static BlockKey KeyOf(const Job& job) { return uint64_t{job.shard} << 32 | job.block.value(); }

  const Options options_;
  VerifiedBlobs blobs_;  // of the thread
  Manifest manifest_;
  std::optional<MixedOrder> order_;
  std::optional<SampleMap> map_;
  std::map<Digest, uint32_t> shards_;  // by blob_id

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<LeaseRange> leases_;
  std::map<Fence, uint64_t> read_;  // up to here
  bool replan_ = false;
  bool crowded_ = false;  // the disk has no room for what is planned, until something is read
  std::vector<BlockUse> uses_;
  std::map<BlockKey, uint64_t> next_use_;
  std::map<uint32_t, std::shared_ptr<const ShardIndex>> indexes_;
  std::optional<Job> wanted_;        // training waits for it
  std::optional<BlockKey> in_hand_;  // of the thread: read, and not kept yet
  BlockCache on_disk_;
  std::set<BlockKey> disk_keys_;
  std::map<BlockKey, std::string> uncached_;
  Clock::time_point last_exchange_{};
  Clock::time_point retry_at_{};
  absl::Status failed_;
  Stats stats_;
  bool closed_ = false;
  std::thread thread_;
};

}  // namespace longhaul
