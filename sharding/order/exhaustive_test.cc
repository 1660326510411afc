// What takes seconds: ten million samples one by one, and ten thousand histories of a run.
#include <gtest/gtest.h>

#include <vector>

#include "common/bytes.h"
#include "common/rng.h"
#include "sharding/lease/ledger.h"
#include "sharding/order/mixed_order.h"

namespace longhaul {
namespace {

const std::vector<WindowSizes> kDomains = {{100, 8, 4}, {37, 8, 4}, {1000, 8, 4}};
const std::vector<MixingRow> kTable = {{0, SharesOf({1, 1, 1})}, {5, SharesOf({5, 1, 90})}};

TEST(ExhaustiveTest, TenMillionSamplesExhaustively) {
  constexpr uint64_t kSamples = 10'000'000;
  const WindowOrder order(5, 0, {kSamples, 512, 16});
  std::vector<bool> seen(kSamples);
  uint64_t count = 0;
  for (uint64_t place = 0; place < kSamples; ++place) {
    const uint64_t sample = order.Sample(2, place);
    count += !seen[sample];
    seen[sample] = true;
    if (place % 64 != 0) continue;
    ASSERT_EQ(order.Place(2, sample), place);
  }
  EXPECT_EQ(count, kSamples);
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
  const MixedOrder order(7, kDomains, kTable, 128);
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
