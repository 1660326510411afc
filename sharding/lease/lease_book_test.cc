#include "sharding/lease/lease_book.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace longhaul {
namespace {

using Range = LeaseBook::Range;
using Ranges = std::vector<Range>;

constexpr SessionId kA{1}, kB{2};
constexpr FragmentId kF0{0}, kF1{1};

std::string Bytes(const LeaseBook& book) {
  ByteWriter w;
  book.Encode(w);
  return w.Take();
}

std::optional<LeaseBook> Decoded(const std::string& bytes) {
  ByteReader reader(bytes);
  std::optional<LeaseBook> book = LeaseBook::Decode(reader);
  return book && reader.AtEnd() ? std::move(book) : std::nullopt;
}

void ExpectRoundTrip(const LeaseBook& book) {
  const std::string bytes = Bytes(book);
  const std::optional<LeaseBook> back = Decoded(bytes);
  ASSERT_TRUE(back.has_value());
  EXPECT_EQ(*back, book);
  EXPECT_EQ(Bytes(*back), bytes);
}

TEST(LeaseBookTest, WithOneFragmentWhatIsSealedWaitsForItsRound) {
  LeaseBook book(100, 1);
  EXPECT_EQ(book.Grant(kA, Fence{1}, 30), (Ranges{{Fence{1}, 0, 30}}));
  ASSERT_TRUE(book.Seal(kF0, kA, Fence{1}, 0, 20));
  book.Release(kA);
  EXPECT_EQ(book.totals(kF0).free, 80u);  // 20..30 is back
  EXPECT_EQ(book.returned(), 10u);
  EXPECT_TRUE(book.LeasesOf(kA).empty());
  ASSERT_TRUE(book.Commit(kF0, 0, 10));
  ASSERT_TRUE(book.Unseal(kF0, kA, Fence{1}, 10, 20));  // the decision comes without being asked
  EXPECT_EQ(book.totals(kF0), (Ledger::Totals{.free = 90, .committed = 10}));
  EXPECT_EQ(book.granted(), 30u);
}

TEST(LeaseBookTest, ARangeReturnsOnlyAsAWhole) {
  LeaseBook book(40, 2);
  book.Grant(kA, Fence{1}, 40);
  ASSERT_TRUE(book.Seal(kF0, kA, Fence{1}, 0, 20));
  ASSERT_TRUE(book.Seal(kF1, kA, Fence{1}, 10, 30));
  book.Release(kA);
  EXPECT_EQ(book.totals(kF0).free, 10u);  // 30..40: sealed nowhere
  // A released range is nobody's, though it is not free.
  EXPECT_FALSE(book.Holds(kF1, kA, Fence{1}, 0, 10));
  EXPECT_FALSE(book.Seal(kF1, kA, Fence{1}, 0, 10));
  EXPECT_FALSE(book.DropCarried(kF1, kA, Fence{1}, 0, 10));
  EXPECT_EQ(book.Grant(kB, Fence{2}, 40), (Ranges{{Fence{2}, 30, 40}}));
  // The round of fragment 0 commits, the one of fragment 1 aborts.
  ASSERT_TRUE(book.Commit(kF0, 0, 20));
  EXPECT_EQ(book.discarded(kF1, DiscardReason::kOtherFragmentCommitted), 10u);
  ASSERT_TRUE(book.Unseal(kF1, kA, Fence{1}, 10, 30));
  EXPECT_EQ(book.totals(kF0), (Ledger::Totals{.free = 10, .leased = 10, .committed = 20}));
  EXPECT_EQ(book.totals(kF1), (Ledger::Totals{.free = 10, .leased = 10, .discarded = 20}));
  EXPECT_EQ(book.Grant(kB, Fence{3}, 40), (Ranges{{Fence{3}, 20, 30}}));
}

TEST(LeaseBookTest, WhatIsGrantedAfterADropIsItsHoldersOwn) {
  LeaseBook book(30, 2);
  book.Grant(kA, Fence{1}, 10);
  ASSERT_TRUE(book.Seal(kF0, kA, Fence{1}, 0, 10));
  book.Release(kA);  // told to drop everything; it lives on
  book.Grant(kA, Fence{2}, 10);
  EXPECT_EQ(book.LeasesOf(kA), (Ranges{{Fence{2}, 10, 20}}));
  EXPECT_EQ(book.LeasedPositions(kA), 10u);
  ASSERT_TRUE(book.Unseal(kF0, kA, Fence{1}, 0, 10));
  EXPECT_TRUE(book.Holds(kF1, kA, Fence{2}, 10, 20));
  EXPECT_EQ(book.totals(kF1), (Ledger::Totals{.free = 20, .leased = 10}));
}

TEST(LeaseBookTest, TheCarryBoundReturnsOrDiscards) {
  LeaseBook one(10, 1);
  one.Grant(kA, Fence{1}, 10);
  ASSERT_TRUE(one.DropCarried(kF0, kA, Fence{1}, 2, 5));
  EXPECT_EQ(one.totals(kF0), (Ledger::Totals{.free = 3, .leased = 7}));
  LeaseBook two(10, 2);
  two.Grant(kA, Fence{1}, 10);
  ASSERT_TRUE(two.DropCarried(kF0, kA, Fence{1}, 2, 5));
  EXPECT_EQ(two.discarded(kF0, DiscardReason::kCarry), 3u);
  EXPECT_TRUE(two.Holds(kF1, kA, Fence{1}, 0, 10));
  EXPECT_EQ(two.LeasesOf(kA), (Ranges{{Fence{1}, 0, 10}}));
  EXPECT_EQ(two.LeasedPositions(kA), 7u);
  two.Release(kA);
  EXPECT_EQ(two.totals(kF1), (Ledger::Totals{.free = 7, .discarded = 3}));
}

TEST(LeaseBookTest, AGenerationFromACheckpointHasNoHolder) {
  LeaseBook book(40, 2);
  book.Grant(kA, Fence{1}, 20);
  book.Grant(kB, Fence{2}, 10);
  ASSERT_TRUE(book.Seal(kF0, kA, Fence{1}, 0, 10));
  ASSERT_TRUE(book.Commit(kF0, 0, 5));
  book.Release(kA);
  book.ReleaseAll();
  EXPECT_EQ(book.totals(kF0), (Ledger::Totals{.free = 35, .committed = 5}));
  EXPECT_EQ(book.totals(kF1), (Ledger::Totals{.free = 35, .discarded = 5}));
  EXPECT_TRUE(book.LeasesOf(kB).empty());
  EXPECT_EQ(book.last_fence(), Fence{2});
}

TEST(LeaseBookTest, ThreeDifferentWorkersQuarantineARange) {
  LeaseBook book(10, 2);
  uint64_t fence = 0;
  for (uint32_t worker : {7u, 9u, 9u, 7u, 0u}) {
    ASSERT_EQ(book.Grant(kA, Fence{++fence}, 4).size(), 1u);
    book.Blame(kA, worker);
    book.Release(kA);
    EXPECT_EQ(book.totals(kF0).free, 10u);
  }
  book.Grant(kA, Fence{++fence}, 2);
  book.Blame(kA, 8);
  EXPECT_TRUE(book.Holds(kF0, kA, Fence{fence}, 0, 2));  // still its holder's
  book.Release(kA);
  EXPECT_EQ(book.totals(kF0), (Ledger::Totals{.free = 8, .quarantined = 2}));
  EXPECT_EQ(book.totals(kF1), book.totals(kF0));
  const std::vector<FailureMap::Entry> quarantined = book.Quarantined();
  ASSERT_EQ(quarantined.size(), 1u);
  EXPECT_EQ(quarantined[0].to, 2u);
  EXPECT_EQ(quarantined[0].workers, (FailureMap::Workers{7, 8, 9}));
  EXPECT_EQ(book.Grant(kB, Fence{9}, 10), (Ranges{{Fence{9}, 2, 10}}));
  ExpectRoundTrip(book);
}

TEST(LeaseBookTest, AFullFailureMapTakesNoMore) {
  FailureMap map(1'000'000);
  uint64_t at = 0;
  while (map.Add(at, at + 1, 1)) at += 2;
  EXPECT_GE(at, kMaxFailureIntervals - 4);
  EXPECT_LE(map.Entries().size(), kMaxFailureIntervals);
  map.Forget(0, 100);
  EXPECT_TRUE(map.Add(at, at + 1, 1));
  map.Forget(0, 1'000'000);
  EXPECT_EQ(map, FailureMap(1'000'000));
}

TEST(LeaseBookTest, RefusesAndChangesNothing) {
  LeaseBook book(100, 2);
  book.Grant(kA, Fence{5}, 50);
  ASSERT_TRUE(book.Seal(kF0, kA, Fence{5}, 10, 20));
  const LeaseBook before = book;
  EXPECT_TRUE(book.Grant(kB, Fence{5}, 1).empty());
  EXPECT_TRUE(book.Grant(SessionId{}, Fence{6}, 1).empty());
  EXPECT_TRUE(book.Grant(kB, Fence{6}, 0).empty());
  EXPECT_FALSE(book.Seal(FragmentId{2}, kA, Fence{5}, 0, 10));  // no such fragment
  EXPECT_FALSE(book.Seal(kF0, kB, Fence{5}, 0, 10));            // another's
  EXPECT_FALSE(book.Seal(kF0, kA, Fence{4}, 0, 10));            // another fence
  EXPECT_FALSE(book.Seal(kF0, kA, Fence{5}, 5, 15));            // partly sealed
  EXPECT_FALSE(book.Seal(kF1, kA, Fence{5}, 45, 51));           // partly free
  EXPECT_FALSE(book.Seal(kF1, kA, Fence{5}, 7, 7));
  EXPECT_FALSE(book.Seal(kF1, kA, Fence{5}, 99, 101));
  EXPECT_FALSE(book.Unseal(kF1, kA, Fence{5}, 10, 20));
  EXPECT_FALSE(book.Unseal(kF0, kB, Fence{5}, 10, 20));
  EXPECT_FALSE(book.Unseal(kF0, kA, Fence{5}, 9, 20));
  EXPECT_FALSE(book.Commit(kF1, 10, 20));
  EXPECT_FALSE(book.Commit(kF0, 10, 21));
  EXPECT_FALSE(book.DropCarried(kF0, kA, Fence{5}, 15, 25));
  EXPECT_FALSE(book.DropCarried(kF0, kB, Fence{5}, 20, 25));
  book.Release(kB);
  book.Blame(kB, 3);
  EXPECT_EQ(book, before);
}

// One interval of one fragment: from, state, reason, released, session, fence.
using Piece = std::array<uint64_t, 6>;

std::string Crafted(const std::vector<std::vector<Piece>>& fragments,
                    const std::vector<std::array<uint64_t, 4>>& failures = {{0, 0, 0, 0}}) {
  ByteWriter w;
  w.U64(fragments.size());
  for (const std::vector<Piece>& pieces : fragments) {
    w.U64(10), w.U64(3), w.U64(pieces.size());
    for (const auto& [from, state, reason, released, session, fence] : pieces) {
      w.U64(from);
      for (uint64_t byte : {state, reason, released}) w.U8(static_cast<uint8_t>(byte));
      w.U64(session), w.U64(fence);
    }
  }
  w.U64(failures.size());
  for (const auto& [from, a, b, c] : failures) {
    w.U64(from);
    for (uint64_t worker : {a, b, c}) w.U32(static_cast<uint32_t>(worker));
  }
  w.U64(0);
  return w.Take();
}

bool Accepts(const std::string& bytes) { return Decoded(bytes).has_value(); }

TEST(LeaseBookTest, DecodeRefusesWhatNoHistoryLeadsTo) {
  const Piece free{0, 0, 0, 0, 0, 0}, leased{0, 1, 0, 0, 7, 3}, sealed{0, 2, 0, 0, 7, 3},
      committed{0, 3, 0, 0, 0, 0}, other{0, 4, 1, 0, 0, 0}, carry{0, 4, 2, 0, 0, 0},
      quarantined{0, 5, 0, 0, 0, 0}, waiting{0, 1, 0, 1, 7, 3}, pending{0, 2, 0, 1, 7, 3};
  const std::vector<std::array<uint64_t, 4>> full{{0, 1, 2, 3}}, two{{0, 1, 2, 0}};
  EXPECT_TRUE(Accepts(Crafted({{free}, {free}})));
  EXPECT_TRUE(Accepts(Crafted({{leased}, {sealed}}, full)));
  EXPECT_TRUE(Accepts(Crafted({{committed}, {sealed}})));
  EXPECT_TRUE(Accepts(Crafted({{committed}, {other}})));
  EXPECT_TRUE(Accepts(Crafted({{carry}, {leased}})));
  EXPECT_TRUE(Accepts(Crafted({{waiting}, {pending}})));
  EXPECT_TRUE(Accepts(Crafted({{quarantined}, {quarantined}}, full)));
  EXPECT_TRUE(Accepts(Crafted({{free}}, two)));
  EXPECT_TRUE(Accepts(Bytes(LeaseBook(0, 1))));

  EXPECT_FALSE(Accepts(Crafted({})));                                // no fragment
  EXPECT_FALSE(Accepts(Crafted({{free}, {leased}})));                // free on one only
  EXPECT_FALSE(Accepts(Crafted({{quarantined}, {leased}}, full)));   // quarantined on one only
  EXPECT_FALSE(Accepts(Crafted({{quarantined}, {quarantined}})));    // without a cause
  EXPECT_FALSE(Accepts(Crafted({{free}, {free}}, full)));            // a cause without effect
  EXPECT_FALSE(Accepts(Crafted({{committed}, {leased}}, two)));      // remembered for nothing
  EXPECT_FALSE(Accepts(Crafted({{waiting}, {waiting}})));            // could be decided
  EXPECT_FALSE(Accepts(Crafted({{waiting}, {committed}})));          // could be decided
  EXPECT_FALSE(Accepts(Crafted({{waiting}, {sealed}})));             // released in part
  EXPECT_FALSE(Accepts(Crafted({{leased}, {{0, 1, 0, 0, 8, 3}}})));  // two holders
  EXPECT_FALSE(Accepts(Crafted({{leased}, {{0, 1, 0, 0, 7, 2}}})));  // two fences
  EXPECT_FALSE(Accepts(Crafted({{carry}})));                         // with one it returns
  EXPECT_FALSE(Accepts(Crafted({{other}, {other}})));                // which other?
  EXPECT_FALSE(Accepts(Crafted({{other}, {leased}, {committed}})));  // not all at once
  EXPECT_FALSE(Accepts(Crafted({{free}, {free}}, {{0, 2, 1, 0}})));  // not ascending
  EXPECT_FALSE(Accepts(Crafted({{free}, {free}}, {{0, 0, 1, 0}})));  // a gap
  EXPECT_FALSE(Accepts(Crafted({{free}, {free}}, {{0, 1, 1, 0}})));  // one worker twice
  EXPECT_FALSE(Accepts(Crafted({{free}, {free}}, {{1, 1, 0, 0}})));  // does not start at 0
  EXPECT_FALSE(Accepts(Crafted({{free}, {free}}, {{0, 1, 0, 0}, {4, 1, 0, 0}})));  // not merged
  EXPECT_FALSE(Accepts(Crafted({{free}, {free}}, {{0, 1, 0, 0}, {10, 2, 0, 0}})));
  // One fence, two holders, on different fragments at different places.
  EXPECT_FALSE(Accepts(Crafted({{leased, {5, 3, 0, 0, 0, 0}}, {committed, {5, 1, 0, 0, 8, 3}}})));
}

TEST(LeaseBookTest, DecodeRefusesEveryShorterText) {
  LeaseBook book(50, 3);
  book.Grant(kA, Fence{1}, 10);
  book.Seal(kF1, kA, Fence{1}, 3, 5);
  book.Blame(kA, 4);
  book.Release(kA);
  ExpectRoundTrip(book);
  const std::string bytes = Bytes(book);
  for (size_t n = 0; n < bytes.size(); ++n) EXPECT_FALSE(Accepts(bytes.substr(0, n)));
}

}  // namespace
}  // namespace longhaul
