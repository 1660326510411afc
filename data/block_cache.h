// Which blocks a worker keeps on its disk. The order of samples is known ahead, so what goes is
// what is needed latest (Belady 1966), not what was used longest ago.
//
// Decisions only: sizes and names in, names out; whoever owns the disk reads, writes and removes. A
// block whose only copy outside the origin may be here (`sole`) goes after all that are needed
// equally late: it costs the origin's link when another worker needs it.
//
// Pure; owned by one thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <vector>

namespace longhaul {

// A name for a block, given by the owner: for example shard << 32 | block.
using BlockKey = uint64_t;
inline constexpr uint64_t kNeverUsed = UINT64_MAX;

class BlockCache {
 public:
  explicit BlockCache(uint64_t limit_bytes) : limit_bytes_(limit_bytes) {}

  bool Contains(BlockKey key) const { return blocks_.contains(key); }
  uint64_t bytes() const { return bytes_; }
  uint64_t limit_bytes() const { return limit_bytes_; }

  // Room for a block that is used next at `next_use` (a position or a step; kNeverUsed). The blocks
  // to evict, all needed later than it; nothing is stored, and nothing returned, when that is not
  // enough: then the block is not worth its place. A block that is there only changes its next use.
  std::optional<std::vector<BlockKey>> Insert(BlockKey key, uint64_t bytes, uint64_t next_use);
  // After a use, or when the plan changes. Not an error for a block that is not there.
  void SetNextUse(BlockKey key, uint64_t next_use);
  void SetSole(BlockKey key, bool sole);
  void Remove(BlockKey key);

 private:
  struct Block {
    uint64_t bytes = 0;
    uint64_t next_use = 0;
    bool sole = false;
  };
  struct Rank {  // the greatest goes first
    uint64_t next_use = 0;
    bool others_have_it = true;
    BlockKey key = 0;
    auto operator<=>(const Rank&) const = default;
  };
  static Rank RankOf(BlockKey key, const Block& block) {
    return {block.next_use, !block.sole, key};
  }

  const uint64_t limit_bytes_;
  uint64_t bytes_ = 0;
  std::map<BlockKey, Block> blocks_;
  std::set<Rank> ranks_;
};

}  // namespace longhaul
