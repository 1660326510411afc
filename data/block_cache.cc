#include "data/block_cache.h"

namespace longhaul {

std::optional<std::vector<BlockKey>> BlockCache::Insert(BlockKey key, uint64_t bytes,
                                                        uint64_t next_use) {
  if (Contains(key)) {
    SetNextUse(key, next_use);
    return std::vector<BlockKey>();
  }
  if (bytes > limit_bytes_) return std::nullopt;
  std::vector<BlockKey> evicted;
  uint64_t left = bytes_;
  for (auto it = by_next_use_.rbegin(); left > limit_bytes_ - bytes; ++it) {
    if (it == by_next_use_.rend() || it->first <= next_use) return std::nullopt;
    evicted.push_back(it->second);
    left -= blocks_.at(it->second).bytes;
  }
  for (const BlockKey old : evicted) Remove(old);
  blocks_[key] = {bytes, next_use, false};
  by_next_use_.emplace(next_use, key);
  bytes_ += bytes;
  return evicted;
}

void BlockCache::SetNextUse(BlockKey key, uint64_t next_use) {
  const auto it = blocks_.find(key);
  if (it == blocks_.end()) return;
  if (by_next_use_.erase({it->second.next_use, key}) > 0) by_next_use_.emplace(next_use, key);
  it->second.next_use = next_use;
}

void BlockCache::SetSole(BlockKey key, bool sole) {
  const auto it = blocks_.find(key);
  if (it == blocks_.end() || it->second.sole == sole) return;
  it->second.sole = sole;
  if (sole) {
    by_next_use_.erase({it->second.next_use, key});
  } else {
    by_next_use_.emplace(it->second.next_use, key);
  }
}

void BlockCache::Remove(BlockKey key) {
  const auto it = blocks_.find(key);
  if (it == blocks_.end()) return;
  by_next_use_.erase({it->second.next_use, key});
  bytes_ -= it->second.bytes;
  blocks_.erase(it);
}

}  // namespace longhaul
