#include "data/prefetch.h"

#include <algorithm>
#include <set>
#include <unordered_map>

namespace longhaul {

PrefetchPlan PlanPrefetch(std::span<const BlockUse> uses, const BlockCache& have,
                          const PrefetchLimits& limits) {
  PrefetchPlan plan;
  if (uses.empty()) return plan;
  const uint64_t start = uses.front().position;
  std::set<BlockKey> seen;
  uint64_t ahead = 0, downloaded = 0;
  bool waits = false;
  for (const BlockUse& use : uses) {
    if (!seen.insert(use.block).second) {
      if (!waits) plan.safe_positions = use.position - start + 1;
      continue;
    }
    ahead += use.bytes;
    if (ahead > limits.ahead_bytes) break;
    if (!have.Contains(use.block)) {
      if (downloaded + use.bytes > limits.budget_bytes) break;
      downloaded += use.bytes;
      plan.downloads.push_back(use);
      const double needed_at =
          limits.positions_per_s > 0
              ? static_cast<double>(use.position - start) / limits.positions_per_s
              : 0;
      const double there_at = limits.bytes_per_s > 0 ? static_cast<double>(downloaded) /
                                                           static_cast<double>(limits.bytes_per_s)
                                                     : 0;
      waits = waits || there_at > needed_at;
    }
    if (!waits) plan.safe_positions = use.position - start + 1;
  }
  return plan;
}

uint64_t NextUse(std::span<const BlockUse> uses, BlockKey block, uint64_t from) {
  for (const BlockUse& use : uses) {
    if (use.block == block && use.position >= from) return use.position;
  }
  return kNeverUsed;
}

TraceResult ReplayTrace(std::span<const BlockUse> uses, uint64_t limit_bytes, size_t horizon) {
  // Where each block is read next, for every read.
  std::vector<size_t> next(uses.size());
  std::unordered_map<BlockKey, size_t> upcoming;
  for (size_t i = uses.size(); i-- > 0;) {
    const auto it = upcoming.find(uses[i].block);
    next[i] = it == upcoming.end() ? SIZE_MAX : it->second;
    upcoming[uses[i].block] = i;
  }
  BlockCache cache(limit_bytes);
  TraceResult result;
  // What lies beyond the horizon is not known: of such blocks the one read longest ago goes first,
  // so its next use is guessed to be the later the longer ago it was read.
  constexpr uint64_t kBeyond = uint64_t{1} << 62;
  const auto known = [&](size_t use, size_t now) {
    if (use != SIZE_MAX && use - now <= horizon) return static_cast<uint64_t>(use);
    return kBeyond + (kBeyond - now);
  };
  std::multimap<size_t, BlockKey> enters;  // when a use comes into sight
  for (size_t now = 0; now < uses.size(); ++now) {
    for (auto it = enters.begin(); it != enters.end() && it->first <= now; it = enters.erase(it)) {
      cache.SetNextUse(it->second, it->first + horizon);
    }
    const BlockUse& use = uses[now];
    const uint64_t next_use = known(next[now], now);
    if (cache.Contains(use.block)) {
      ++result.hits;
      cache.SetNextUse(use.block, next_use);
    } else {
      ++result.misses;
      result.downloaded_bytes += use.bytes;
      cache.Insert(use.block, use.bytes, next_use);
    }
    if (next[now] != SIZE_MAX && next[now] - now > horizon) {
      enters.emplace(next[now] - horizon, use.block);
    }
  }
  return result;
}

}  // namespace longhaul
