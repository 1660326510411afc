#include "sharding/lease/ledger.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "common/rng.h"

namespace longhaul {
namespace {

using Range = Ledger::Range;
using Ranges = std::vector<Range>;

// The same rules with one entry per position.
class NaiveLedger {
 public:
  explicit NaiveLedger(uint64_t total) : cells_(total) {}

  Ranges Grant(SessionId s, Fence f, uint64_t count) {
    if (s.value == 0 || f <= last_) return {};
    std::vector<bool> taken(cells_.size(), false);
    for (size_t i = 0; i < cells_.size() && count > 0; ++i) {
      if (cells_[i].state != 'f') continue;
      cells_[i] = {'l', 0, s, f};
      taken[i] = true;
      last_ = f;
      --count;
    }
    return Runs(taken);
  }
  bool Holds(SessionId s, Fence f, uint64_t from, uint64_t to) const {
    return AllAre(from, to, [&](const Cell& c) { return c == Cell{'l', 0, s, f}; });
  }
  bool Seal(SessionId s, Fence f, uint64_t from, uint64_t to) {
    return Holds(s, f, from, to) && Fill(from, to, {'s', 0, s, f});
  }
  bool Unseal(SessionId s, Fence f, uint64_t from, uint64_t to) {
    auto sealed = [&](const Cell& c) { return c.state == 's' && c.session == s && c.fence == f; };
    return AllAre(from, to, sealed) && Fill(from, to, {'l', 0, s, f, cells_[from].released});
  }
  int MarkReleased(SessionId s) {
    int changed = 0;
    for (Cell& c : cells_) {
      if ((c.state != 'l' && c.state != 's') || c.session != s || c.released) continue;
      c.released = true;
      ++changed;
    }
    return changed;
  }
  bool Commit(uint64_t from, uint64_t to) {
    return AllAre(from, to, [](const Cell& c) { return c.state == 's'; }) &&
           Fill(from, to, {'c', 0, {}, {}});
  }
  bool Return(uint64_t from, uint64_t to) {
    return AllAre(from, to, [](const Cell& c) { return c.state == 'l'; }) && Fill(from, to, {});
  }
  Ranges Return(SessionId s) {
    Ranges leases = LeasesOf(s);
    for (const Range& r : leases) Fill(r.from, r.to, {});
    return leases;
  }
  bool Discard(uint64_t from, uint64_t to, DiscardReason reason) {
    return Open(from, to) && Fill(from, to, {'d', static_cast<int>(reason), {}, {}});
  }
  bool Quarantine(uint64_t from, uint64_t to) {
    return Open(from, to) && Fill(from, to, {'q', 0, {}, {}});
  }
  Ranges LeasesOf(SessionId s) const {
    std::vector<bool> mine;
    for (const Cell& c : cells_) mine.push_back(c.state == 'l' && c.session == s && !c.released);
    return Runs(mine);
  }
  uint64_t LeasedPositions(SessionId s) const {
    uint64_t sum = 0;
    for (const Range& r : LeasesOf(s)) sum += r.to - r.from;
    return sum;
  }
  Ledger::Totals totals() const {
    auto count = [&](char state) {
      return static_cast<uint64_t>(
          std::count_if(cells_.begin(), cells_.end(), [&](auto& c) { return c.state == state; }));
    };
    return {count('f'), count('l'), count('s'), count('c'), count('d'), count('q')};
  }
  size_t Intervals() const {
    size_t n = cells_.empty() ? 0 : 1;
    for (size_t i = 1; i < cells_.size(); ++i) n += cells_[i] != cells_[i - 1];
    return n;
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
  template <class P>
  bool AllAre(uint64_t from, uint64_t to, P predicate) const {
    if (from >= to || to > cells_.size()) return false;
    for (uint64_t i = from; i < to; ++i) {
      if (!predicate(cells_[i])) return false;
    }
    return true;
  }
  bool Open(uint64_t from, uint64_t to) const {
    return AllAre(from, to, [](const Cell& c) { return c.state == 'f' || c.state == 'l'; });
  }
  bool Fill(uint64_t from, uint64_t to, const Cell& cell) {
    for (uint64_t i = from; i < to; ++i) cells_[i] = cell;
    return true;
  }
  // Maximal runs of marked positions under one fence.
  Ranges Runs(const std::vector<bool>& marked) const {
    Ranges runs;
    for (uint64_t i = 0; i < marked.size(); ++i) {
      if (!marked[i]) continue;
      if (!runs.empty() && runs.back().to == i && runs.back().fence == cells_[i].fence) {
        ++runs.back().to;
      } else {
        runs.push_back({cells_[i].fence, i, i + 1});
      }
    }
    return runs;
  }

  std::vector<Cell> cells_;
  Fence last_;
};

std::string Bytes(const Ledger& ledger) {
  ByteWriter w;
  ledger.Encode(w);
  return w.Take();
}

TEST(LedgerTest, OneLife) {
  Ledger ledger(100);
  const SessionId a{1}, b{2};
  EXPECT_EQ(ledger.Grant(a, Fence{1}, 30), (Ranges{{Fence{1}, 0, 30}}));
  EXPECT_EQ(ledger.Grant(b, Fence{2}, 50), (Ranges{{Fence{2}, 30, 80}}));
  EXPECT_TRUE(ledger.Seal(a, Fence{1}, 0, 20));
  EXPECT_FALSE(ledger.Holds(a, Fence{1}, 0, 20));
  EXPECT_EQ(ledger.Return(a), (Ranges{{Fence{1}, 20, 30}}));
  EXPECT_TRUE(ledger.Commit(0, 20));
  EXPECT_FALSE(ledger.Commit(0, 20));
  // The lowest free positions first, even when they are in pieces.
  EXPECT_EQ(ledger.Grant(a, Fence{5}, 15), (Ranges{{Fence{5}, 20, 30}, {Fence{5}, 80, 85}}));
  EXPECT_TRUE(ledger.Discard(30, 40, DiscardReason::kCarry));
  EXPECT_TRUE(ledger.Quarantine(90, 100));
  EXPECT_EQ(ledger.totals(), (Ledger::Totals{.free = 5,
                                             .leased = 55,
                                             .sealed = 0,
                                             .committed = 20,
                                             .discarded = 10,
                                             .quarantined = 10}));
  EXPECT_EQ(ledger.LeasesOf(b), (Ranges{{Fence{2}, 40, 80}}));
}

TEST(LedgerTest, RefusesAndChangesNothing) {
  Ledger ledger(100);
  const SessionId a{1}, b{2};
  ledger.Grant(a, Fence{5}, 50);
  ASSERT_TRUE(ledger.Seal(a, Fence{5}, 10, 20));
  const Ledger before = ledger;
  EXPECT_TRUE(ledger.Grant(b, Fence{5}, 1).empty());  // the fence must grow
  EXPECT_TRUE(ledger.Grant(b, Fence{4}, 1).empty());
  EXPECT_TRUE(ledger.Grant(SessionId{}, Fence{6}, 1).empty());
  EXPECT_TRUE(ledger.Grant(b, Fence{6}, 0).empty());
  EXPECT_FALSE(ledger.Seal(b, Fence{5}, 0, 10));
  EXPECT_FALSE(ledger.Seal(a, Fence{4}, 0, 10));
  EXPECT_FALSE(ledger.Seal(a, Fence{5}, 0, 11));  // partly sealed already
  EXPECT_FALSE(ledger.Seal(a, Fence{5}, 40, 51));
  EXPECT_FALSE(ledger.Seal(a, Fence{5}, 5, 5));
  EXPECT_FALSE(ledger.Seal(a, Fence{5}, 9, 5));
  EXPECT_FALSE(ledger.Unseal(a, Fence{5}, 9, 20));
  EXPECT_FALSE(ledger.Unseal(b, Fence{5}, 10, 20));
  EXPECT_FALSE(ledger.Commit(9, 20));
  EXPECT_FALSE(ledger.Discard(0, 11, DiscardReason::kCarry));
  EXPECT_FALSE(ledger.Discard(0, 1, static_cast<DiscardReason>(0)));
  EXPECT_FALSE(ledger.Quarantine(90, 101));
  EXPECT_TRUE(ledger.Return(b).empty());
  EXPECT_FALSE(ledger.Return(5, 15));   // partly sealed
  EXPECT_FALSE(ledger.Return(40, 51));  // partly free
  EXPECT_EQ(ledger, before);
}

TEST(LedgerTest, MemoryDoesNotGrowWithThePast) {
  Ledger ledger(1'000'000);
  for (uint64_t i = 1; i <= 10000; ++i) {
    const Ranges r = ledger.Grant(SessionId{1 + i % 7}, Fence{i}, 100);
    ASSERT_EQ(r.size(), 1u);
    ASSERT_TRUE(ledger.Seal(SessionId{1 + i % 7}, Fence{i}, r[0].from, r[0].to));
    ASSERT_TRUE(ledger.Commit(r[0].from, r[0].to));
    ASSERT_LE(ledger.intervals(), 3u);
  }
  EXPECT_EQ(ledger.totals().committed, 1'000'000u);
  EXPECT_TRUE(ledger.Grant(SessionId{1}, Fence{20000}, 1).empty());
  EXPECT_EQ(ledger.last_fence(), Fence{10000});
}

void ExpectRoundTrip(const Ledger& ledger) {
  const std::string bytes = Bytes(ledger);
  ByteReader reader(bytes);
  const std::optional<Ledger> back = Ledger::Decode(reader);
  ASSERT_TRUE(back.has_value());
  EXPECT_TRUE(reader.AtEnd());
  EXPECT_EQ(*back, ledger);
}

// A ledger and its naive twin under the same random operations.
class Duel {
 public:
  static constexpr uint64_t kPositions = 200;

  explicit Duel(Rng& rng) : rng_(rng) {}
  const Ledger& ledger() const { return ledger_; }

  // One operation on both; true when both accepted it.
  bool Step() {
    ChooseRange();
    bool ok = false;
    switch (rng_.Below(12)) {
      case 0:
      case 1:
        ok = Grant();
        break;
      case 2:
      case 3:
        ok = Both([&](auto& l) { return l.Seal(session_, range_.fence, range_.from, range_.to); });
        break;
      case 4:
        ok =
            Both([&](auto& l) { return l.Unseal(session_, range_.fence, range_.from, range_.to); });
        break;
      case 5:
        ok = Both([&](auto& l) { return l.Commit(range_.from, range_.to); });
        break;
      case 6:
      case 7:
        ok = Both([&](auto& l) { return l.Return(range_.from, range_.to); });
        break;
      case 8:
        ok = Rare();
        break;
      default:
        Both([&](auto& l) { return l.LeasesOf(session_); });
        Both([&](auto& l) { return l.LeasedPositions(session_); });
        Both([&](auto& l) { return l.Holds(session_, range_.fence, range_.from, range_.to); });
    }
    EXPECT_EQ(ledger_.totals(), naive_.totals());
    EXPECT_EQ(ledger_.intervals(), naive_.Intervals());
    return ok;
  }

 private:
  template <class F>
  std::invoke_result_t<F, Ledger&> Both(F operation) {
    const auto got = operation(ledger_);
    EXPECT_EQ(got, operation(naive_));
    return got;
  }
  // Mostly a range that was granted once, whole or in part, so that many operations succeed.
  void ChooseRange() {
    session_ = SessionId{rng_.Below(5)};
    range_ = {Fence{rng_.Below(fence_ + 2)}, rng_.Below(kPositions + 5),
              rng_.Below(kPositions + 5)};
    if (known_.empty() || rng_.Chance(1, 10)) return;
    const size_t recent = std::min<size_t>(known_.size(), 12);
    std::tie(session_, range_) = known_[known_.size() - 1 - rng_.Below(recent)];
    if (rng_.Chance(1, 3)) range_.from += rng_.Below(range_.to - range_.from);
    if (rng_.Chance(1, 3)) range_.to -= rng_.Below(range_.to - range_.from + 1);
  }
  bool Grant() {
    const Fence fence{rng_.Chance(1, 10) ? rng_.Below(fence_ + 1) : ++fence_};
    const uint64_t count = rng_.Below(12);
    const Ranges got = Both([&](auto& l) { return l.Grant(session_, fence, count); });
    for (const Range& r : got) known_.emplace_back(session_, r);
    return !got.empty();
  }
  bool Rare() {
    switch (rng_.Below(20)) {
      case 0:
        return Both(
            [&](auto& l) { return l.Discard(range_.from, range_.to, DiscardReason::kCarry); });
      case 1:
        return Both([&](auto& l) { return l.Quarantine(range_.from, range_.to); });
      case 2:
      case 3:
        return !Both([&](auto& l) { return l.Return(session_); }).empty();
      case 4:
        ledger_.MarkReleased(session_);
        return naive_.MarkReleased(session_) > 0;
      default:
        return false;
    }
  }

  Rng& rng_;
  Ledger ledger_{kPositions};
  NaiveLedger naive_{kPositions};
  uint64_t fence_ = 0;
  SessionId session_;
  Range range_;
  std::vector<std::pair<SessionId, Range>> known_;
};

TEST(LedgerTest, EqualsTheNaiveTwin) {
  Rng rng(12);
  int accepted = 0;
  for (int life = 0; life < 20; ++life) {
    Duel duel(rng);
    for (int op = 0; op < 1000; ++op) {
      accepted += duel.Step() ? 1 : 0;
      if (op % 100 == 0) ExpectRoundTrip(duel.ledger());
      ASSERT_FALSE(HasFailure());
    }
  }
  EXPECT_GT(accepted, 3000);
}

std::string Crafted(uint64_t total, uint64_t last_fence,
                    const std::vector<std::array<uint64_t, 6>>& intervals) {
  ByteWriter w;
  w.U64(total);
  w.U64(last_fence);
  w.U64(intervals.size());
  for (const auto& [from, state, reason, session, fence, released] : intervals) {
    w.U64(from);
    w.U8(static_cast<uint8_t>(state));
    w.U8(static_cast<uint8_t>(reason));
    w.U8(static_cast<uint8_t>(released));
    w.U64(session);
    w.U64(fence);
  }
  return w.Take();
}

bool Accepts(const std::string& bytes) {
  ByteReader reader(bytes);
  return Ledger::Decode(reader).has_value();
}

TEST(LedgerTest, DecodeRefusesWhatEncodeCannotWrite) {
  EXPECT_TRUE(Accepts(Crafted(10, 3, {{0, 3, 0, 0, 0}, {5, 1, 0, 7, 3}})));
  EXPECT_TRUE(Accepts(Crafted(0, 0, {})));
  EXPECT_FALSE(Accepts(Crafted(10, 3, {})));                                  // nothing covered
  EXPECT_FALSE(Accepts(Crafted(0, 3, {{0, 0, 0, 0, 0}})));                    // beyond the end
  EXPECT_FALSE(Accepts(Crafted(10, 3, {{1, 0, 0, 0, 0}})));                   // a gap at the start
  EXPECT_FALSE(Accepts(Crafted(10, 3, {{0, 3, 0, 0, 0}, {0, 0, 0, 0, 0}})));  // empty interval
  EXPECT_FALSE(Accepts(Crafted(10, 3, {{0, 3, 0, 0, 0}, {6, 0, 0, 0, 0}, {5, 3, 0, 0, 0}})));
  EXPECT_FALSE(Accepts(Crafted(10, 3, {{0, 3, 0, 0, 0}, {10, 0, 0, 0, 0}})));
  EXPECT_FALSE(Accepts(Crafted(10, 3, {{0, 3, 0, 0, 0}, {5, 3, 0, 0, 0}})));  // not merged
  EXPECT_FALSE(Accepts(Crafted(10, 3, {{0, 6, 0, 0, 0}})));                   // no such state
  EXPECT_FALSE(Accepts(Crafted(10, 3, {{0, 1, 0, 0, 3}})));                   // nobody's lease
  EXPECT_FALSE(Accepts(Crafted(10, 3, {{0, 1, 0, 7, 4}})));                   // fence never granted
  EXPECT_FALSE(Accepts(Crafted(10, 3, {{0, 0, 0, 7, 0}})));                   // free, yet held
  EXPECT_FALSE(Accepts(Crafted(10, 3, {{0, 4, 0, 0, 0}})));                   // no reason
  EXPECT_FALSE(Accepts(Crafted(10, 3, {{0, 4, 3, 0, 0}})));                   // no such reason
  EXPECT_FALSE(Accepts(Crafted(10, 3, {{0, 3, 1, 0, 0}})));                   // reason of nothing
  EXPECT_FALSE(Accepts(Crafted(10, 3, {{0, 0, 0, 0, 0, 1}})));                // free, yet released
  EXPECT_FALSE(Accepts(Crafted(10, 3, {{0, 1, 0, 7, 3, 2}})));                // neither 0 nor 1
  EXPECT_FALSE(
      Accepts(Crafted(10, 3, {{0, 1, 0, 7, 3}, {5, 1, 0, 8, 3}})));  // one fence, two owners
  EXPECT_FALSE(Accepts(Crafted(10, 3, {{0, 1, 0, 7, 3}, {5, 1, 0, 7, 3, 1}})));
  Ledger ledger(50);
  ledger.Grant(SessionId{1}, Fence{1}, 10);
  const std::string bytes = Bytes(ledger);
  for (size_t n = 0; n < bytes.size(); ++n) EXPECT_FALSE(Accepts(bytes.substr(0, n)));
}

}  // namespace
}  // namespace longhaul
