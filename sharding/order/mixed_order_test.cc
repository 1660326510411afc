#include "sharding/order/mixed_order.h"

#include <gtest/gtest.h>

#include <set>

#include "common/hash.h"
#include "common/rng.h"
#include "sharding/lease/ledger.h"

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

// ---- the order and the ledger together ----

// A toy trainer: what it has learnt depends on which samples were committed, and how often.
struct ToyRun {
  explicit ToyRun(uint64_t positions) : ledger(positions) {}
  Ledger ledger;
  uint64_t model = 0;
  Fence fence{0};
  bool operator==(const ToyRun&) const = default;
};

// One round of a run whose worker count, batch and sequence length change all the time: some leases
// are committed, some come back, their holders gone.
void Round(const MixedOrder& order, uint64_t seed, uint64_t round, ToyRun& run,
           std::vector<int>* trained) {
  Rng rng(Draw(seed, {round}));
  const uint64_t workers = 1 + rng.Below(5);
  std::vector<Ledger::Range> committed;
  for (uint64_t w = 1; w <= workers; ++w) {
    run.fence = run.fence.Next();
    const SessionId session{round * 8 + w};
    const auto ranges = run.ledger.Grant(session, run.fence, 1 + rng.Below(40));
    if (rng.Chance(1, 4)) {
      run.ledger.Return(session);  // died
      continue;
    }
    for (const Ledger::Range& range : ranges) {
      ASSERT_TRUE(run.ledger.Seal(session, range.fence, range.from, range.to));
      if (rng.Chance(1, 6)) {  // late: not in the round's list
        ASSERT_TRUE(run.ledger.Unseal(session, range.fence, range.from, range.to));
      } else {
        committed.push_back(range);
      }
    }
    run.ledger.Return(session);
  }
  for (const Ledger::Range& range : committed) {
    ASSERT_TRUE(run.ledger.Commit(range.from, range.to));
    for (uint64_t p = range.from; p < range.to; ++p) {
      const OrderPlace place = order.At(p);
      run.model += Mix(place.sample + place.domain * 1000);
      if (trained) ++(*trained)[place.domain * 1000 + place.sample];
    }
  }
}

constexpr uint64_t kRunPositions = 100;

// Every sample of an epoch exactly once, whatever happened on the way.
TEST(ExactlyOnceTest, TenThousandRandomHistories) {
  for (uint64_t seed = 0; seed < 10'000; ++seed) {
    const MixedOrder order(seed, {{kRunPositions, 4, 4}}, {{0, {kShareOne}}});
    ToyRun run(kRunPositions);
    std::vector<int> trained(kRunPositions);
    uint64_t round = 0;
    while (run.ledger.totals().committed < kRunPositions) {
      Round(order, seed, ++round, run, &trained);
      ASSERT_LT(round, 1000u);
    }
    for (uint64_t i = 0; i < kRunPositions; ++i) ASSERT_EQ(trained[i], 1) << seed << " " << i;
  }
}

// A run that is killed and comes back from its checkpoint (model and ledger together) ends as one
// that was not, for every place to be killed at.
TEST(ExactlyOnceTest, AHundredKillPoints) {
  const MixedOrder order(7, kDomains, Table(), 128);
  constexpr uint64_t kRounds = 100;
  ToyRun whole(5000);
  for (uint64_t round = 1; round <= kRounds; ++round) Round(order, 3, round, whole, nullptr);
  for (uint64_t kill = 1; kill <= kRounds; ++kill) {
    ToyRun run(5000);
    for (uint64_t round = 1; round < kill; ++round) Round(order, 3, round, run, nullptr);
    ByteWriter checkpoint;
    run.ledger.Encode(checkpoint);
    const uint64_t model = run.model;
    Round(order, 3, kill, run, nullptr);  // lost
    ByteReader reader(checkpoint.str());
    ToyRun again{0};
    again.ledger = *Ledger::Decode(reader);
    again.model = model;
    again.fence = again.ledger.last_fence();
    for (uint64_t round = kill; round <= kRounds; ++round) Round(order, 3, round, again, nullptr);
    ASSERT_EQ(again.model, whole.model) << kill;
    ASSERT_EQ(again.ledger, whole.ledger) << kill;
  }
}

}  // namespace
}  // namespace longhaul
