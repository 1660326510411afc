#include "sharding/order/mixed_order.h"

#include <gtest/gtest.h>

#include <set>

#include "common/rng.h"

namespace longhaul {
namespace {

const std::vector<WindowSizes> kDomains = {{100, 8, 4}, {37, 8, 4}, {1000, 8, 4}};

std::vector<MixingRow> Table() {
  return {{0, SharesOf({1, 1, 1})}, {5, SharesOf({5, 1, 90})}, {9, SharesOf({7, 11, 13})}};
}

TEST(SharesTest, SumToOneAndFollowTheWeights) {
  for (const auto& weights :
       std::vector<std::vector<uint64_t>>{{1}, {1, 2}, {1, 1, 1}, {3, 5, 7, 11}, {UINT64_MAX, 1}}) {
    const auto shares = SharesOf(weights);
    uint64_t sum = 0;
    for (size_t i = 0; i < shares.size(); ++i) {
      sum += shares[i];
      double total = 0;
      for (const uint64_t w : weights) total += static_cast<double>(w);
      EXPECT_NEAR(static_cast<double>(shares[i]), static_cast<double>(weights[i]) / total * 0x1p32,
                  1.0);
    }
    EXPECT_EQ(sum, kShareOne);
  }
}

// Within one sample at every edge of a macro-block, over all rows, from the definition in doubles.
TEST(MixedOrderTest, DriftIsBelowOneSample) {
  constexpr uint64_t kBlock = 128;
  const auto table = Table();
  const MixedOrder order(1, kDomains, table, kBlock);
  std::vector<double> ideal(3);
  std::vector<uint64_t> counted(3);
  for (uint64_t block = 0; block < 60; ++block) {
    for (uint32_t d = 0; d < 3; ++d) {
      EXPECT_LT(std::abs(static_cast<double>(counted[d]) - ideal[d]), 1.0) << block << " " << d;
      EXPECT_EQ(counted[d], order.CountBefore(block, d));
    }
    const MixingRow& row = table[block < 5 ? 0 : block < 9 ? 1 : 2];
    for (uint32_t d = 0; d < 3; ++d) {
      ideal[d] += static_cast<double>(row.shares[d]) * kBlock / 0x1p32;
    }
    for (uint64_t i = 0; i < kBlock; ++i) ++counted[order.At(block * kBlock + i).domain];
  }
}

// Every domain's stream is whole: its epochs one after the other, each sample once in each.
TEST(MixedOrderTest, EveryDomainSeesEverySampleOncePerEpoch) {
  constexpr uint64_t kBlock = 128;
  const MixedOrder order(1, kDomains, Table(), kBlock);
  std::vector<std::set<std::pair<uint64_t, uint64_t>>> seen(3);
  constexpr uint64_t kPositions = kBlock * 40;
  for (uint64_t position = 0; position < kPositions; ++position) {
    const OrderPlace place = order.At(position);
    ASSERT_LT(place.sample, kDomains[place.domain].samples);
    ASSERT_TRUE(seen[place.domain].emplace(place.epoch, place.sample).second);
    ASSERT_EQ(order.Position(place), position);
  }
  for (uint32_t d = 0; d < 3; ++d) {
    const uint64_t count = order.CountBefore(40, d);
    ASSERT_EQ(seen[d].size(), count);
    // Nothing of a later epoch before the macro-block in which the earlier one ends.
    const uint64_t epochs = count / kDomains[d].samples;
    if (epochs > 0) {
      uint64_t first = 0;
      for (const auto& [epoch, sample] : seen[d]) first += epoch == 0;
      EXPECT_EQ(first, kDomains[d].samples);
    }
  }
}

TEST(MixedOrderTest, NewRowsDoNotChangeThePast) {
  auto table = Table();
  const MixedOrder longer(1, kDomains, table, 128);
  table.pop_back();
  const MixedOrder shorter(1, kDomains, table, 128);
  for (uint64_t i = 0; i < 9 * 128; ++i) ASSERT_EQ(longer.At(i), shorter.At(i));
}

TEST(MixedOrderTest, CountsRanges) {
  const MixedOrder order(1, kDomains, Table(), 128);
  Rng rng(2);
  for (int i = 0; i < 50; ++i) {
    const uint64_t from = rng.Below(3000), to = from + rng.Below(2000);
    std::vector<uint64_t> naive(3);
    for (uint64_t p = from; p < to; ++p) ++naive[order.At(p).domain];
    EXPECT_EQ(order.Count(from, to), naive);
  }
}

TEST(MixedOrderTest, OneDomainIsItsWindowOrder) {
  const MixedOrder mixed(3, {{100, 8, 4}}, {{0, {kShareOne}}});
  const WindowOrder order(3, 0, {100, 8, 4});
  for (uint64_t i = 0; i < 250; ++i) {
    EXPECT_EQ(mixed.At(i), (OrderPlace{0, i / 100, order.Sample(i / 100, i % 100)}));
    EXPECT_EQ(mixed.Position(mixed.At(i)), i);
  }
}

TEST(MixedOrderTest, RefusesBadTables) {
  EXPECT_EQ(MixedOrder::Problem(3, Table(), 128), "");
  EXPECT_NE(MixedOrder::Problem(0, {{0, {}}}), "");
  EXPECT_NE(MixedOrder::Problem(1, {}), "");
  EXPECT_NE(MixedOrder::Problem(2, Table()), "");
  EXPECT_NE(MixedOrder::Problem(1, {{1, {kShareOne}}}), "");
  EXPECT_NE(MixedOrder::Problem(1, {{0, {kShareOne}}, {0, {kShareOne}}}), "");
  EXPECT_NE(MixedOrder::Problem(1, {{0, {kShareOne - 1}}}), "");
  EXPECT_NE(MixedOrder::Problem(2, {{0, SharesOf({1, 100'000})}}), "");
  EXPECT_NE(MixedOrder::Problem(2, {{0, {kShareOne + kShareOne / 2, kShareOne / 2}}}), "");
}

}  // namespace
}  // namespace longhaul
