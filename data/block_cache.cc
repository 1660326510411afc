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
  for (auto it = ranks_.rbegin(); left > limit_bytes_ - bytes; ++it) {
    if (it == ranks_.rend() || it->next_use <= next_use) return std::nullopt;
    evicted.push_back(it->key);
    left -= blocks_.at(it->key).bytes;
  }
  for (const BlockKey old : evicted) Remove(old);
  blocks_[key] = {bytes, next_use, false};
  ranks_.insert(RankOf(key, blocks_[key]));
  bytes_ += bytes;
  return evicted;
}

void BlockCache::SetNextUse(BlockKey key, uint64_t next_use) {
  const auto it = blocks_.find(key);
  if (it == blocks_.end()) return;
  ranks_.erase(RankOf(key, it->second));
  it->second.next_use = next_use;
  ranks_.insert(RankOf(key, it->second));
}

void BlockCache::SetSole(BlockKey key, bool sole) {
  const auto it = blocks_.find(key);
  if (it == blocks_.end() || it->second.sole == sole) return;
  ranks_.erase(RankOf(key, it->second));
  it->second.sole = sole;
  ranks_.insert(RankOf(key, it->second));
}

void BlockCache::Remove(BlockKey key) {
  const auto it = blocks_.find(key);
  if (it == blocks_.end()) return;
  ranks_.erase(RankOf(key, it->second));
  bytes_ -= it->second.bytes;
  blocks_.erase(it);
}

}  // namespace longhaul
