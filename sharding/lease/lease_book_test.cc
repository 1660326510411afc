#include "sharding/lease/lease_book.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "common/rng.h"

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

// The same rules position by position.
class NaiveBook {
 public:
  NaiveBook(uint64_t total, uint32_t fragments)
      : cells_(total, std::vector<Cell>(fragments)), failed_(total), fragments_(fragments) {}

  Ranges Grant(SessionId s, Fence f, uint64_t count) {
    if (s.value == 0 || f <= last_) return {};
    std::vector<bool> taken(cells_.size(), false);
    for (size_t p = 0; p < cells_.size() && count > 0; ++p) {
      if (cells_[p][0].state != 'f') continue;
      for (Cell& c : cells_[p]) c = {'l', 0, s, f};
      taken[p] = true;
      last_ = f;
      --count;
    }
    return Runs(taken);
  }
  bool Holds(FragmentId i, SessionId s, Fence f, uint64_t from, uint64_t to) const {
    return All(i, from, to, [&](const Cell& c) { return c == Cell{'l', 0, s, f}; });
  }
  bool Seal(FragmentId i, SessionId s, Fence f, uint64_t from, uint64_t to) {
    if (!Holds(i, s, f, from, to)) return false;
    for (uint64_t p = from; p < to; ++p) cells_[p][i.value].state = 's';
    return true;
  }
  bool Unseal(FragmentId i, SessionId s, Fence f, uint64_t from, uint64_t to) {
    auto sealed = [&](const Cell& c) { return c.state == 's' && c.session == s && c.fence == f; };
    if (!All(i, from, to, sealed)) return false;
    for (uint64_t p = from; p < to; ++p) cells_[p][i.value].state = 'l';
    SettleAll();
    return true;
  }
  bool Commit(FragmentId i, uint64_t from, uint64_t to) {
    if (!All(i, from, to, [](const Cell& c) { return c.state == 's'; })) return false;
    for (uint64_t p = from; p < to; ++p) cells_[p][i.value] = {'c'}, failed_[p].clear();
    SettleAll();
    return true;
  }
  bool Release(SessionId s) {
    for (auto& column : cells_) {
      for (Cell& c : column) c.released |= IsHeld(c) && c.session == s;
    }
    SettleAll();
    return true;
  }
  bool DropCarried(FragmentId i, SessionId s, Fence f, uint64_t from, uint64_t to) {
    if (!Holds(i, s, f, from, to)) return false;
    for (uint64_t p = from; p < to; ++p) {
      if (fragments_ == 1) {
        Free(p);
      } else {
        cells_[p][i.value] = {'d', 2};
        failed_[p].clear();
      }
    }
    return true;
  }
  bool ReleaseAll() {
    for (auto& column : cells_) {
      for (Cell& c : column) {
        if (IsHeld(c)) c.state = 'l', c.released = true;
      }
    }
    SettleAll();
    return true;
  }
  bool Blame(SessionId s, uint32_t worker) {
    for (size_t p = 0; p < cells_.size() && worker != 0; ++p) {
      auto leased = [&](const Cell& c) { return c.state == 'l' && c.session == s && !c.released; };
      if (!std::ranges::all_of(cells_[p], leased) || failed_[p].size() == 3) continue;
      failed_[p].insert(worker);
    }
    return true;
  }
  Ranges LeasesOf(SessionId s) const {
    std::vector<bool> mine;
    for (const auto& column : cells_) {
      mine.push_back(std::ranges::any_of(
          column, [&](const Cell& c) { return IsHeld(c) && c.session == s && !c.released; }));
    }
    return Runs(mine);
  }
  uint64_t LeasedPositions(SessionId s) const {
    return static_cast<uint64_t>(std::ranges::count_if(cells_, [&](const auto& column) {
      return column[0].state == 'l' && column[0].session == s && !column[0].released;
    }));
  }
  Ledger::Totals totals(FragmentId i) const {
    return {Count(i, 'f'), Count(i, 'l'), Count(i, 's'),
            Count(i, 'c'), Count(i, 'd'), Count(i, 'q')};
  }
  uint64_t discarded(FragmentId i, DiscardReason reason) const {
    return static_cast<uint64_t>(std::ranges::count_if(cells_, [&](const auto& column) {
      return column[i.value].state == 'd' && column[i.value].reason == static_cast<int>(reason);
    }));
  }
  uint64_t returned() const { return returned_; }
  // Quarantined positions, and who failed there.
  std::vector<std::pair<uint64_t, std::set<uint32_t>>> Quarantined() const {
    std::vector<std::pair<uint64_t, std::set<uint32_t>>> found;
    for (uint64_t p = 0; p < cells_.size(); ++p) {
      if (cells_[p][0].state == 'q') found.emplace_back(p, failed_[p]);
    }
    return found;
  }

 private:
  struct Cell {
    char state = 'f';
    int reason = 0;
    SessionId session;
    Fence fence;
    bool released = false;
    auto operator<=>(const Cell&) const = default;
  };
  static bool IsHeld(const Cell& c) { return c.state == 'l' || c.state == 's'; }
  template <class P>
  bool All(FragmentId i, uint64_t from, uint64_t to, P predicate) const {
    if (i.value >= fragments_ || from >= to || to > cells_.size()) return false;
    for (uint64_t p = from; p < to; ++p) {
      if (!predicate(cells_[p][i.value])) return false;
    }
    return true;
  }
  void Free(uint64_t p) {
    const bool quarantine = failed_[p].size() == 3;
    for (Cell& c : cells_[p]) c = {quarantine ? 'q' : 'f'};
    returned_ += quarantine ? 0 : 1;
  }
  // The rule of lease_book.h, in its words.
  void SettleAll() {
    for (uint64_t p = 0; p < cells_.size(); ++p) {
      auto any = [&](auto predicate) { return std::ranges::any_of(cells_[p], predicate); };
      if (!any([](const Cell& c) { return c.released; })) continue;
      if (any([](const Cell& c) { return c.state == 's'; })) continue;
      if (!any([](const Cell& c) { return c.state != 'l'; })) {
        Free(p);
        continue;
      }
      for (Cell& c : cells_[p]) {
        if (c.state == 'l') c = {'d', 1};
      }
    }
  }
  uint64_t Count(FragmentId i, char state) const {
    return static_cast<uint64_t>(std::ranges::count_if(
        cells_, [&](const auto& column) { return column[i.value].state == state; }));
  }
  // Maximal runs of marked positions under one fence.
  Ranges Runs(const std::vector<bool>& marked) const {
    Ranges runs;
    for (uint64_t p = 0; p < marked.size(); ++p) {
      if (!marked[p]) continue;
      const auto held = std::ranges::find_if(cells_[p], IsHeld);
      if (!runs.empty() && runs.back().to == p && runs.back().fence == held->fence) {
        ++runs.back().to;
      } else {
        runs.push_back({held->fence, p, p + 1});
      }
    }
    return runs;
  }

  std::vector<std::vector<Cell>> cells_;  // [position][fragment]
  std::vector<std::set<uint32_t>> failed_;
  uint32_t fragments_;
  Fence last_;
  uint64_t returned_ = 0;
};

// A book and its naive twin under the same random operations.
class Duel {
 public:
  static constexpr uint64_t kPositions = 120;

  Duel(Rng& rng, uint32_t fragments)
      : rng_(rng), book_(kPositions, fragments), naive_(kPositions, fragments) {}
  const LeaseBook& book() const { return book_; }

  // One operation on both; true when both accepted it.
  bool Step() {
    Choose();
    const bool ok = Change();
    Compare();
    return ok;
  }

 private:
  template <class F>
  auto Both(F operation) {
    const auto got = operation(book_);
    EXPECT_EQ(got, operation(naive_));
    return got;
  }
  // Mostly a range that was granted once, whole or in part, so that many operations succeed.
  void Choose() {
    fragment_ = FragmentId{rng_.Below(book_.fragments() + (rng_.Chance(1, 50) ? 1 : 0))};
    session_ = SessionId{rng_.Below(6)};
    range_ = {Fence{rng_.Below(fence_ + 2)}, rng_.Below(kPositions + 3),
              rng_.Below(kPositions + 3)};
    if (known_.empty() || rng_.Chance(1, 10)) return;
    const size_t recent = std::min<size_t>(known_.size(), 12);
    std::tie(session_, range_) = known_[known_.size() - 1 - rng_.Below(recent)];
    if (rng_.Chance(1, 4)) range_.from += rng_.Below(range_.to - range_.from);
    if (rng_.Chance(1, 4)) range_.to -= rng_.Below(range_.to - range_.from + 1);
  }
  bool Change() {
    const auto [fence, from, to] = range_;
    switch (rng_.Below(16)) {
      case 0:
      case 1:
      case 2:
        return Grant();
      case 3:
      case 4:
      case 5:
      case 6:
        return Both([&](auto& b) { return b.Seal(fragment_, session_, fence, from, to); });
      case 7:
      case 8:
        return Both([&](auto& b) { return b.Unseal(fragment_, session_, fence, from, to); });
      case 9:
      case 10:
      case 11:
        return Both([&](auto& b) { return b.Commit(fragment_, from, to); });
      case 12:
        return rng_.Chance(1, 4) &&
               Both([&](auto& b) { return b.DropCarried(fragment_, session_, fence, from, to); });
      case 13:
        book_.Release(session_);
        return naive_.Release(session_);
      case 14:
        worker_ = static_cast<uint32_t>(rng_.Below(6));
        book_.Blame(session_, worker_);
        return naive_.Blame(session_, worker_);
      default:
        if (!rng_.Chance(1, 30)) return false;
        book_.ReleaseAll();
        return naive_.ReleaseAll();
    }
  }
  bool Grant() {
    const Fence fence{rng_.Chance(1, 10) ? rng_.Below(fence_ + 1) : ++fence_};
    const uint64_t count = rng_.Below(8);
    const Ranges got = Both([&](auto& b) { return b.Grant(session_, fence, count); });
    for (const Range& r : got) known_.emplace_back(session_, r);
    return !got.empty();
  }
  void Compare() {
    for (uint32_t f = 0; f < book_.fragments(); ++f) {
      Both([&](auto& b) { return b.totals(FragmentId{f}); });
      for (DiscardReason reason : {DiscardReason::kOtherFragmentCommitted, DiscardReason::kCarry})
        Both([&](auto& b) { return b.discarded(FragmentId{f}, reason); });
    }
    Both([&](auto& b) { return b.LeasesOf(session_); });
    Both([&](auto& b) { return b.LeasedPositions(session_); });
    Both([&](auto& b) { return b.returned(); });
    Both([&](auto& b) {
      return b.Holds(fragment_, session_, range_.fence, range_.from, range_.to);
    });
    CompareQuarantine();
  }
  void CompareQuarantine() {
    std::vector<std::pair<uint64_t, std::set<uint32_t>>> positions;
    for (const FailureMap::Entry& e : book_.Quarantined()) {
      for (uint64_t p = e.from; p < e.to; ++p)
        positions.emplace_back(p, std::set<uint32_t>(e.workers.begin(), e.workers.end()));
    }
    EXPECT_EQ(positions, naive_.Quarantined());
  }

  Rng& rng_;
  LeaseBook book_;
  NaiveBook naive_;
  uint64_t fence_ = 0;
  FragmentId fragment_;
  SessionId session_;
  uint32_t worker_ = 0;
  Range range_;
  std::vector<std::pair<SessionId, Range>> known_;
};

TEST(LeaseBookTest, EqualsTheNaiveTwin) {
  Rng rng(21);
  Ledger::Totals seen;
  for (uint32_t fragments : {1u, 2u, 4u}) {
    int accepted = 0;
    for (int life = 0; life < 30; ++life) {
      Duel duel(rng, fragments);
      for (int op = 0; op < 400; ++op) {
        accepted += duel.Step() ? 1 : 0;
        if (op % 20 == 0) ExpectRoundTrip(duel.book());
        ASSERT_FALSE(HasFailure()) << fragments << " fragments, life " << life << ", op " << op;
      }
      seen.quarantined += duel.book().totals(kF0).quarantined;
      seen.discarded += duel.book().discarded(kF0, DiscardReason::kOtherFragmentCommitted);
    }
    EXPECT_GT(accepted, 3000) << fragments;
  }
  EXPECT_GT(seen.quarantined, 50u);
  EXPECT_GT(seen.discarded, 200u);
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
