// Samples of a manifest, read block by block, with the last decoded blocks kept in memory.
//
// A sample is named by (domain, number in the domain's training samples). The position of a run
// maps to such a name by sharding/order, which knows counts only. Number 0 is the first training
// sample that begins a block: what shares a block with validation samples comes last. So the pieces
// that the order shuffles are blocks, and not parts of two.
//
// Owned by one thread.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/blocks.h"

namespace longhaul {

// A block of a manifest's shard: the unit of transfer.
struct BlockId {
  uint32_t shard = 0;
  uint32_t block = 0;
  auto operator<=>(const BlockId&) const = default;
};

// Samples in a block of shards that PrepareData cuts in its usual way: what the order's pieces
// should have. At least 1.
uint64_t BlockSamples(const Manifest& manifest);

// Where samples lie: a division and a search, nothing is read. Immutable; any thread.
class SampleMap {
 public:
  struct Place {
    uint32_t shard = 0;
    uint64_t sample = 0;  // in the shard
    auto operator<=>(const Place&) const = default;
  };
  explicit SampleMap(const Manifest& manifest);
  uint64_t samples(uint32_t domain) const { return totals_[domain] - validation_[domain]; }
  // Both: `number` below the count of the domain.
  Place Training(uint32_t domain, uint64_t number) const;
  Place Validation(uint32_t domain, uint64_t number) const;

 private:
  Place PlaceOf(uint32_t domain, uint64_t number_in_domain) const;

  uint64_t block_samples_;
  // Per domain: (samples before this shard, shard), in order.
  std::vector<std::vector<std::pair<uint64_t, uint32_t>>> starts_;
  std::vector<uint64_t> totals_;
  std::vector<uint64_t> validation_;
};

class DataSet {
 public:
  struct Options {
    uint64_t decoded_cache_bytes = uint64_t{64} << 20;  // at least one block is kept
  };
  // A valid manifest; does not own the blocks.
  DataSet(Manifest manifest, Blocks& blocks, Options options);
  DataSet(Manifest manifest, Blocks& blocks) : DataSet(std::move(manifest), blocks, Options()) {}

  const Manifest& manifest() const { return manifest_; }
  uint64_t samples(uint32_t domain) const { return map_.samples(domain); }  // to train on
  uint64_t validation_samples(uint32_t domain) const {
    return manifest_.domains[domain].validation_samples;
  }

  // `out` has sample_tokens tokens. Out of range is a caller's error. FailedPrecondition for a
  // withdrawn sample, Unavailable when no source has the block, DataLoss when what is verified
  // cannot be decoded.
  absl::Status ReadSample(uint32_t domain, uint64_t number, std::span<uint32_t> out);
  absl::Status ReadValidationSample(uint32_t domain, uint64_t number, std::span<uint32_t> out);

  // Where a training sample lies. May read the shard's index.
  absl::StatusOr<BlockId> Locate(uint32_t domain, uint64_t number);

 private:
  using Decoded = std::list<std::pair<BlockId, std::string>>;  // least recently used first

  absl::Status Read(const SampleMap::Place& place, std::span<uint32_t> out);
  absl::StatusOr<const ShardIndex*> Index(uint32_t shard);
  absl::StatusOr<const std::string*> DecodedBlock(uint32_t shard, uint32_t block);

  const Manifest manifest_;
  const SampleMap map_;
  Blocks& blocks_;
  const Options options_;
  std::map<uint32_t, std::shared_ptr<const ShardIndex>> indexes_;
  Decoded decoded_;
  std::map<BlockId, Decoded::iterator> decoded_by_id_;
  uint64_t decoded_bytes_ = 0;
};

// Reads all of a shard: every block against its digest, the samples against the logical id. `token`
// bounds are the caller's business.
absl::Status VerifyShard(Blocks& blocks, const ShardEntry& entry);

}  // namespace longhaul
