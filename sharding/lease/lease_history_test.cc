// Long random histories of a whole run as the ledger sees it: sessions that come and go, rounds
// that commit and abort, late and repeated contributions, roll-backs. At the end every position is
// in the model once, or the book says why not.
#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/rng.h"
#include "sharding/lease/lease_book.h"

namespace longhaul {
namespace {

using Range = LeaseBook::Range;
using State = Ledger::State;

struct Contribution {
  SessionId session;
  std::vector<Range> leases;
};

class World {
 public:
  static constexpr uint64_t kSessions = 10'000;

  World(uint64_t seed, uint64_t positions, uint32_t fragments)
      : rng_(seed),
        book_(positions, fragments),
        model_(fragments, std::vector<uint8_t>(positions)),
        rounds_(fragments) {
    for (uint64_t i = 0; i < kSessions; ++i) Join(i);
    StoreCheckpoint();
  }

  // Faults and progress until `leases` ranges were granted or nothing is free.
  void Run(uint64_t leases) {
    while (grants_ < leases && book_.totals(FragmentId{0}).free > 0) Step();
  }
  // No more faults: what is left is trained by sessions that finish.
  void Drain() {
    for (size_t f = 0; f < rounds_.size(); ++f) Decide(f, /*commit=*/true);
    for (uint64_t i = 0; i < kSessions; ++i) {
      book_.Release(sessions_[i].id);
      Join(i);
    }
    for (uint64_t i = 0; book_.totals(FragmentId{0}).free > 0; i = (i + 1) % kSessions) {
      Grant(i);
      for (size_t f = 0; f < rounds_.size(); ++f) {
        Contribute(i, f);
        Close(f);
        Decide(f, /*commit=*/true);
      }
    }
  }

  struct Verdict {
    uint64_t lost = 0;   // committed in the book, not in the model; or in no final state
    uint64_t twice = 0;  // more than once in the model, or there and not committed in the book
  };
  Verdict Judge() const {
    Verdict v;
    for (size_t f = 0; f < model_.size(); ++f) {
      const Ledger& ledger = book_.ledger(FragmentId{f});
      for (uint64_t at = 0; at < book_.total();) {
        const auto [holding, to] = ledger.At(at);
        const bool committed = holding.state == State::kCommitted;
        const bool over =
            committed || holding.state == State::kDiscarded || holding.state == State::kQuarantined;
        for (; at < to; ++at) {
          v.lost += !over || (committed && model_[f][at] == 0);
          v.twice += model_[f][at] > (committed ? 1 : 0);
        }
      }
    }
    return v;
  }
  const LeaseBook& book() const { return book_; }
  uint64_t grants() const { return grants_; }
  uint64_t stale_refused() const { return stale_refused_; }
  uint64_t roll_backs() const { return roll_backs_; }

 private:
  struct Session {
    SessionId id;
    std::vector<std::vector<Range>> to_send;  // by fragment: leases it has not contributed yet
  };
  struct OpenRound {
    std::vector<Contribution> arrived;
    std::vector<Contribution> sealed;
  };

  void Join(uint64_t i) {
    if (sessions_.size() <= i) sessions_.emplace_back();
    sessions_[i] = {SessionId{++last_session_}, std::vector<std::vector<Range>>(rounds_.size())};
  }
  void Step() {
    const uint64_t i = rng_.Below(kSessions);
    const size_t f = rng_.Below(rounds_.size());
    const uint64_t draw = rng_.Below(1000);
    if (draw < 450) return Grant(i);
    if (draw < 850) return Contribute(i, f);
    if (draw < 920) return Late(f);
    if (draw < 950) return Close(f);
    if (draw < 980) return Decide(f, rng_.Chance(4, 5));
    if (draw < 985) return Carry(i, f);
    if (draw < 999 || !rng_.Chance(1, 20)) return End(i);
    rng_.Chance(1, 2) ? StoreCheckpoint() : RollBack();
  }
  void Grant(uint64_t i) {
    for (const Range& r : book_.Grant(sessions_[i].id, Fence{++last_fence_}, 1 + rng_.Below(6))) {
      for (auto& ranges : sessions_[i].to_send) ranges.push_back(r);
      ++grants_;
    }
  }
  void Contribute(uint64_t i, size_t f) {
    Contribution c{sessions_[i].id, std::exchange(sessions_[i].to_send[f], {})};
    if (c.leases.empty()) return;
    if (rng_.Chance(1, 10)) past_[{f, rng_.Below(256)}] = c;
    rounds_[f].arrived.push_back(std::move(c));
  }
  // Something that was sent once comes again.
  void Late(size_t f) {
    const auto old = past_.find({f, rng_.Below(256)});
    if (old != past_.end()) rounds_[f].arrived.push_back(old->second);
  }
  void Close(size_t f) {
    if (!rounds_[f].sealed.empty()) return;
    const FragmentId fragment{f};
    for (Contribution& c : std::exchange(rounds_[f].arrived, {})) {
      bool held = true;
      for (const Range& r : c.leases)
        held &= book_.Holds(fragment, c.session, r.fence, r.from, r.to);
      if (!held) {
        ++stale_refused_;
        continue;
      }
      for (const Range& r : c.leases)
        ASSERT_TRUE(book_.Seal(fragment, c.session, r.fence, r.from, r.to));
      rounds_[f].sealed.push_back(std::move(c));
    }
  }
  void Decide(size_t f, bool commit) {
    const FragmentId fragment{f};
    for (const Contribution& c : std::exchange(rounds_[f].sealed, {})) {
      for (const Range& r : c.leases) {
        if (!commit) {
          ASSERT_TRUE(book_.Unseal(fragment, c.session, r.fence, r.from, r.to));
          continue;
        }
        ASSERT_TRUE(book_.Commit(fragment, r.from, r.to));
        for (uint64_t at = r.from; at < r.to; ++at) ++model_[f][at];
      }
      if (!commit) rounds_[f].arrived.push_back(c);  // sent again with the next round
    }
  }
  void Carry(uint64_t i, size_t f) {
    for (const Range& r : std::exchange(sessions_[i].to_send[f], {})) {
      ASSERT_TRUE(book_.DropCarried(FragmentId{f}, sessions_[i].id, r.fence, r.from, r.to));
    }
  }
  void End(uint64_t i) {
    if (rng_.Chance(1, 4)) book_.Blame(sessions_[i].id, static_cast<uint32_t>(1 + i));
    book_.Release(sessions_[i].id);
    Join(i);
  }
  void StoreCheckpoint() {
    LeaseBook copy = book_;
    copy.ReleaseAll();
    ByteWriter bytes;
    copy.Encode(bytes);
    checkpoint_ = {bytes.Take(), model_};
  }
  void RollBack() {
    ByteReader reader(checkpoint_.first);
    std::optional<LeaseBook> book = LeaseBook::Decode(reader);
    ASSERT_TRUE(book.has_value());
    book_ = std::move(*book);
    model_ = checkpoint_.second;
    for (OpenRound& round : rounds_) round.sealed.clear();  // what arrived is late now
    for (uint64_t i = 0; i < kSessions; ++i) Join(i);
    ++roll_backs_;
  }

  Rng rng_;
  LeaseBook book_;
  std::vector<std::vector<uint8_t>> model_;  // [fragment][position]: how often it was trained
  std::vector<OpenRound> rounds_;            // by fragment
  std::vector<Session> sessions_;
  std::map<std::pair<size_t, uint64_t>, Contribution> past_;
  std::pair<std::string, std::vector<std::vector<uint8_t>>> checkpoint_;
  uint64_t last_session_ = 0;
  uint64_t last_fence_ = 0;
  uint64_t grants_ = 0;
  uint64_t stale_refused_ = 0;
  uint64_t roll_backs_ = 0;
};

uint64_t ExpectExactlyOnce(uint64_t seed, uint32_t fragments, uint64_t leases) {
  World world(seed, leases * 4, fragments);
  world.Run(leases);
  world.Drain();
  const World::Verdict verdict = world.Judge();
  EXPECT_EQ(verdict.lost, 0u) << "seed " << seed;
  EXPECT_EQ(verdict.twice, 0u) << "seed " << seed;
  EXPECT_GT(world.stale_refused(), leases / 100);
  EXPECT_GT(world.book().returned(), leases / 20);
  EXPECT_GT(world.roll_backs(), 1u);
  EXPECT_GT(world.book().totals(FragmentId{0}).committed, world.book().total() / 2);
  return world.grants();
}

TEST(LeaseHistoryTest, OverAMillionLeasesNothingIsLostAndNothingCountsTwice) {
  uint64_t leases = 0;
  leases += ExpectExactlyOnce(1, 1, 800'000);
  leases += ExpectExactlyOnce(2, 2, 150'000);
  leases += ExpectExactlyOnce(3, 4, 60'000);
  EXPECT_GE(leases, 1'000'000u);
}

}  // namespace
}  // namespace longhaul
