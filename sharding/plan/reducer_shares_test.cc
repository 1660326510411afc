#include "sharding/plan/reducer_shares.h"

#include <gtest/gtest.h>

#include <numeric>

namespace longhaul {
namespace {

TEST(ReducerSharesTest, CoverAllChunksAndDifferByOneAtMost) {
  for (uint32_t chunks = 1; chunks < 40; ++chunks) {
    for (uint32_t reducers = 1; reducers <= chunks; ++reducers) {
      const std::vector<uint32_t> shares = ReducerShares(chunks, reducers);
      ASSERT_EQ(shares.size(), reducers);
      EXPECT_EQ(std::accumulate(shares.begin(), shares.end(), 0u), chunks);
      EXPECT_GE(shares.back(), 1u);
      EXPECT_LE(shares.front() - shares.back(), 1u);
    }
  }
}

TEST(ExchangeSecondsTest, EqualLinksTakeTheBoundOfDirectReduction) {
  for (int n = 2; n < 9; ++n) {
    const std::vector<ExchangeMember> members(n, {1.0 / n, 100.0});
    // 2 (n - 1) M / (n c)
    EXPECT_NEAR(ExchangeSeconds(1000, 1000, members), 2.0 * (n - 1) * 1000 / (n * 100.0), 1e-9);
  }
}

TEST(ExchangeSecondsTest, AStarIsBoundByItsCentre) {
  std::vector<ExchangeMember> members(5, {0, 100.0});
  members[2].share = 1;
  EXPECT_NEAR(ExchangeSeconds(1000, 500, members), 4 * 1000 / 100.0, 1e-9);
  members[2].bytes_per_s = 1e6;
  EXPECT_NEAR(ExchangeSeconds(1000, 500, members), 1000 / 100.0, 1e-9);
}

TEST(ReducerSharesDeathTest, RefusesMoreReducersThanChunks) {
  EXPECT_DEATH(ReducerShares(2, 3), "at least one chunk");
  EXPECT_DEATH(ReducerShares(2, 0), "at least one chunk");
}

}  // namespace
}  // namespace longhaul
