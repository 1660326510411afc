#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "common/rng.h"
#include "sharding/lease/lease_book.h"

namespace longhaul {
namespace {

using Range = LeaseBook::Range;
using Ranges = std::vector<Range>;

void ExpectRoundTrip(const LeaseBook& book) {
  ByteWriter bytes;
  book.Encode(bytes);
  ByteReader reader(bytes.str());
  const std::optional<LeaseBook> back = LeaseBook::Decode(reader);
  ASSERT_TRUE(back.has_value());
  EXPECT_TRUE(reader.AtEnd());
  EXPECT_EQ(*back, book);
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

TEST(LeaseBookTwinTest, EqualsTheNaiveTwin) {
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
      seen.quarantined += duel.book().totals(FragmentId{0}).quarantined;
      seen.discarded +=
          duel.book().discarded(FragmentId{0}, DiscardReason::kOtherFragmentCommitted);
    }
    EXPECT_GT(accepted, 3000) << fragments;
  }
  EXPECT_GT(seen.quarantined, 50u);
  EXPECT_GT(seen.discarded, 200u);
}

}  // namespace
}  // namespace longhaul
