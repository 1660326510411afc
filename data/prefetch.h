// What to download next, from what the leases will read: every block once, the earliest deadline
// first (optimal for one link that can change its mind: Liu and Layland 1973), no further ahead
// than the cache can hold.
//
// Data yields to the exchange of the model on the same link: `budget_bytes` is what is left of it.
//
// Pure; any thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "data/block_cache.h"

namespace longhaul {

// One read of the future, in the order of reading.
struct BlockUse {
  BlockKey block = 0;
  uint64_t bytes = 0;     // as stored
  uint64_t position = 0;  // of the sample; grows
};

struct PrefetchLimits {
  uint64_t budget_bytes = 0;   // to download now
  uint64_t ahead_bytes = 0;    // of distinct blocks, from the next read on
  uint64_t bytes_per_s = 0;    // of the link, 0: not known
  double positions_per_s = 0;  // that training reads
};

struct PrefetchPlan {
  std::vector<BlockUse> downloads;  // in order; position: of the first use
  // Positions from the first read on that training may reach before it would wait for a block; as
  // many as are planned when it would not. Only with both rates.
  uint64_t safe_positions = 0;
};

// `have` says what is on the disk.
PrefetchPlan PlanPrefetch(std::span<const BlockUse> uses, const BlockCache& have,
                          const PrefetchLimits& limits);

// Position of the first use of a block at or after `from`, or kNeverUsed.
uint64_t NextUse(std::span<const BlockUse> uses, BlockKey block, uint64_t from);

// Replays a trace of reads through a cache of `limit_bytes` that knows `horizon` reads ahead (those
// of the leases held); what it must download. With horizon = all it is Belady's optimum for blocks
// of one size.
struct TraceResult {
  uint64_t hits = 0;
  uint64_t misses = 0;
  uint64_t downloaded_bytes = 0;
};
TraceResult ReplayTrace(std::span<const BlockUse> uses, uint64_t limit_bytes, size_t horizon);

}  // namespace longhaul
