#include "data/block_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <set>

#include "common/rng.h"
#include "data/prefetch.h"

namespace longhaul {
namespace {

using Keys = std::vector<BlockKey>;

TEST(BlockCacheTest, EvictsWhatIsNeededLatest) {
  BlockCache cache(100);
  EXPECT_EQ(cache.Insert(1, 40, 50), Keys{});
  EXPECT_EQ(cache.Insert(2, 40, 10), Keys{});
  EXPECT_EQ(cache.Insert(3, 40, 20), Keys{1});
  EXPECT_FALSE(cache.Insert(4, 40, 90));  // needed later than all that is there
  EXPECT_FALSE(cache.Insert(5, 101, 0));
  cache.SetNextUse(2, 99);
  EXPECT_EQ(cache.Insert(4, 40, 90), Keys{2});
  EXPECT_EQ(cache.Insert(6, 90, 1), (Keys{4, 3}));
  EXPECT_EQ(cache.bytes(), 90u);
}

TEST(BlockCacheTest, SoleCopiesStayLongerThanOthersOfTheSameUse) {
  BlockCache cache(100);
  cache.Insert(1, 40, kNeverUsed);
  cache.Insert(2, 40, 5);
  cache.SetNextUse(2, kNeverUsed);
  cache.SetSole(2, true);
  EXPECT_EQ(cache.Insert(3, 60, 1), Keys{1});
  EXPECT_EQ(cache.Insert(4, 40, 2), Keys{2});  // what training needs comes first
  cache.SetSole(4, true);
  cache.SetSole(4, false);
  cache.SetNextUse(4, 1);
  EXPECT_EQ(cache.Insert(5, 40, 0), Keys{4});
  cache.Remove(3);
  cache.Remove(5);
  cache.Remove(5);
  EXPECT_EQ(cache.bytes(), 0u);
}

std::vector<BlockUse> Trace(Rng& rng, size_t reads, uint64_t blocks) {
  std::vector<BlockUse> uses;
  for (size_t i = 0; i < reads; ++i) uses.push_back({rng.Below(blocks), 1, i});
  return uses;
}

// The fewest misses of any policy that may also not keep a block: all choices.
uint64_t FewestMisses(const std::vector<BlockUse>& uses, size_t at, std::set<BlockKey> cache,
                      size_t limit) {
  while (at < uses.size() && cache.contains(uses[at].block)) ++at;
  if (at == uses.size()) return 0;
  uint64_t best = FewestMisses(uses, at + 1, cache, limit);
  if (cache.size() < limit) {
    cache.insert(uses[at].block);
    return 1 + std::min(best, FewestMisses(uses, at + 1, cache, limit));
  }
  for (const BlockKey victim : std::set(cache)) {
    std::set<BlockKey> other = cache;
    other.erase(victim);
    other.insert(uses[at].block);
    best = std::min(best, FewestMisses(uses, at + 1, other, limit));
  }
  return 1 + best;
}

TEST(ReplayTest, KnowingAllItIsOptimal) {
  Rng rng(1);
  for (int i = 0; i < 60; ++i) {
    const auto uses = Trace(rng, 11, 5);
    for (const size_t limit : {1, 2, 3}) {
      const TraceResult result = ReplayTrace(uses, limit, SIZE_MAX / 4);
      EXPECT_EQ(result.misses, FewestMisses(uses, 0, {}, limit));
      EXPECT_EQ(result.hits + result.misses, uses.size());
    }
  }
}

// Windows of blocks, as leases read them: knowing the leases is nearly as good as knowing all.
TEST(ReplayTest, AHorizonOfLeasesIsNearlyAsGood) {
  Rng rng(2);
  std::vector<BlockUse> uses;
  for (uint64_t window = 0; window < 60; ++window) {
    std::vector<BlockKey> blocks;
    for (int i = 0; i < 16; ++i) blocks.push_back(rng.Below(200));
    for (int i = 0; i < 400; ++i) uses.push_back({blocks[rng.Below(16)], 1, uses.size()});
  }
  const TraceResult all = ReplayTrace(uses, 24, SIZE_MAX / 4);
  const TraceResult leases = ReplayTrace(uses, 24, 800);
  EXPECT_GE(static_cast<double>(leases.hits), 0.98 * static_cast<double>(all.hits));
  EXPECT_LE(leases.hits, all.hits);
}

TEST(PrefetchTest, EveryBlockOnceInTheOrderOfUse) {
  BlockCache have(100);
  have.Insert(2, 10, 0);
  const std::vector<BlockUse> uses = {{1, 10, 5}, {2, 10, 6}, {1, 10, 7}, {3, 10, 8}, {4, 10, 9}};
  const auto keys = [&](const PrefetchLimits& limits) {
    Keys list;
    for (const BlockUse& use : PlanPrefetch(uses, have, limits).downloads)
      list.push_back(use.block);
    return list;
  };
  EXPECT_EQ(keys({.budget_bytes = 100, .ahead_bytes = 100}), (Keys{1, 3, 4}));
  EXPECT_EQ(keys({.budget_bytes = 20, .ahead_bytes = 100}), (Keys{1, 3}));
  EXPECT_EQ(keys({.budget_bytes = 100, .ahead_bytes = 30}), (Keys{1, 3}));
  EXPECT_EQ(keys({.budget_bytes = 0, .ahead_bytes = 100}), Keys{});
  EXPECT_EQ(NextUse(uses, 1, 6), 7u);
  EXPECT_EQ(NextUse(uses, 1, 8), kNeverUsed);
}

TEST(PrefetchTest, SaysHowFarTrainingGetsWithoutWaiting) {
  BlockCache have(100);
  have.Insert(1, 10, 0);
  const std::vector<BlockUse> uses = {{1, 10, 0}, {2, 10, 10}, {3, 10, 11}};
  PrefetchLimits limits{
      .budget_bytes = 100, .ahead_bytes = 100, .bytes_per_s = 10, .positions_per_s = 10};
  EXPECT_EQ(PlanPrefetch(uses, have, limits).safe_positions, 11u);  // 3 comes at 2 s, not at 1.1
  limits.bytes_per_s = 1000;
  EXPECT_EQ(PlanPrefetch(uses, have, limits).safe_positions, 12u);
}

}  // namespace
}  // namespace longhaul
