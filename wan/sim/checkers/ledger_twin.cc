#include "wan/sim/checkers/ledger_twin.h"

#include <algorithm>
#include <utility>

#include "sync/exact_sum.h"

namespace longhaul::sim {
namespace {

constexpr size_t kFailuresToQuarantine = 3;  // different workers
constexpr size_t kCutsKept = 32;             // more than checkpoints on disk

std::string Text(const LeaseRange& r) {
  return "[" + std::to_string(r.from) + ", " + std::to_string(r.to) + ") under fence " +
         std::to_string(r.fence.value);
}

}  // namespace

LedgerTwin::LedgerTwin(const RunConfig& config, size_t fragments)
    : positions_per_step_(SamplesPerStep(config)), fragments_(fragments), rounds_(fragments) {}

void LedgerTwin::Put(uint64_t position, size_t fragment, Place place) {
  Place& on = positions_[position].on[fragment];
  --counts_[fragment][static_cast<size_t>(on)];
  ++counts_[fragment][static_cast<size_t>(place)];
  on = place;
}

bool LedgerTwin::AllOn(const Position& p, Place place) const {
  return std::all_of(p.on.begin(), p.on.begin() + static_cast<ptrdiff_t>(fragments_),
                     [place](Place on) { return on == place; });
}

// What becomes of a position whose holder is over, as soon as no fragment of it is sealed.
void LedgerTwin::SettleOne(uint64_t at) {
  Position& p = positions_[at];
  if (!p.released || std::count(p.on.begin(), p.on.end(), Place::kSealed) > 0) return;
  if (AllOn(p, Place::kLeased)) {
    const bool poison = p.failed.size() >= kFailuresToQuarantine;
    for (size_t f = 0; f < fragments_; ++f) Put(at, f, poison ? Place::kQuarantined : Place::kFree);
    if (!poison) first_free_ = std::min(first_free_, at);
  } else {
    for (size_t f = 0; f < fragments_; ++f) {
      if (p.on[f] == Place::kLeased) Put(at, f, Place::kDiscarded);
    }
  }
  p.session = {};
  p.fence = {};
  p.released = false;
}

void LedgerTwin::Release(SessionId session) {
  for (uint64_t at = 0; at < positions_.size(); ++at) {
    if (positions_[at].session != session) continue;
    positions_[at].released = true;
    SettleOne(at);
  }
}

void LedgerTwin::ReleaseAll() {
  for (uint64_t at = 0; at < positions_.size(); ++at) {
    Position& p = positions_[at];
    if (p.session.value == 0) continue;
    for (size_t f = 0; f < fragments_; ++f) {
      if (p.on[f] == Place::kSealed) Put(at, f, Place::kLeased);
    }
    p.released = true;
    SettleOne(at);
  }
}

void LedgerTwin::Blame(SessionId session, uint32_t worker) {
  for (Position& p : positions_) {
    if (p.session == session && !p.released && AllOn(p, Place::kLeased) &&
        p.failed.size() < kFailuresToQuarantine) {
      p.failed.insert(worker);
    }
  }
}

template <class F>
void LedgerTwin::ForEach(const Sent& sent, F&& f) {
  for (const LeaseRange& l : sent.leases) {
    for (uint64_t p = l.from; p < std::min<uint64_t>(l.to, positions_.size()); ++p) f(p, l);
  }
}

void LedgerTwin::Seal(size_t fragment, const Sent& sent, Place from, Place to) {
  ForEach(sent, [&](uint64_t p, const LeaseRange& l) {
    if (positions_[p].on[fragment] != from || positions_[p].fence != l.fence)
      Complain(Text(l) + " of session " + std::to_string(sent.id.session.value) +
               " is not what a round may seal, unseal or commit");
    Put(p, fragment, to);
    if (to == Place::kCommitted) positions_[p].failed.clear();
    SettleOne(p);
  });
}

bool LedgerTwin::Includes(const Round& round, const ContributionId& id) const {
  return std::find(round.included.begin(), round.included.end(), id) != round.included.end();
}

bool LedgerTwin::MayClaim(FragmentId fragment, SessionId session,
                          const std::vector<LeaseRange>& ranges, uint64_t steps) const {
  std::set<uint64_t> seen;
  for (const LeaseRange& l : ranges) {
    if (l.from >= l.to || l.to > positions_.size()) return false;
    for (uint64_t at = l.from; at < l.to; ++at) {
      const Position& p = positions_[at];
      if (p.on[fragment.value] != Place::kLeased || p.session != session || p.fence != l.fence ||
          p.released || !seen.insert(at).second) {
        return false;
      }
    }
  }
  return steps > 0 && seen.size() == steps * positions_per_step_;
}

void LedgerTwin::CheckClaim(const ContributionAccepted& r) {
  const ContributionId id = r.object.id.contribution;
  const FragmentId fragment = r.object.id.fragment;
  if (!MayClaim(fragment, id.session, r.leases, r.steps)) {
    std::string ranges;
    for (const LeaseRange& l : r.leases) ranges += " " + Text(l);
    Complain("a contribution of session " + std::to_string(id.session.value) +
             " was accepted with what it does not hold:" + ranges);
  }
  if (!rounds_[fragment.value].members.contains(id.session))
    Complain("a contribution of no member was accepted");
}

void LedgerTwin::CheckList(const RoundClosed& r, const Round& round) {
  uint64_t weights = 0;
  for (const ContributionId& id : r.closing.included) {
    const auto it = round.sent.find(id.session);
    if (it == round.sent.end() || it->second.id != id || !it->second.held) {
      Complain("a contribution was included that is not held");
      continue;
    }
    weights += it->second.weight;
    if (round.closed && !Includes(round, id))
      Complain("a later attempt includes what the one before did not");
  }
  if (r.closing.included.size() < round.quorum) Complain("a round was closed below its quorum");
  if (weights != r.closing.divisor || weights >= kWeightLimit)
    Complain("the divisor is not the sum of the weights, or too large");
}

// The records, one after the other.
struct LedgerTwin::Reader {
  LedgerTwin& t;
  const State& after;

  void operator()(const RunStarted& r) const {
    t.total_ = r.positions;
    t.Recount();
    t.cuts_.emplace_back(Cut(t.fragments_), Positions{});
  }
  void operator()(const GenerationStarted& r) const { t.GoBack(r, after); }
  void operator()(const WorkerEnrolled& r) const {
    t.numbers_.emplace(r.key, static_cast<uint32_t>(t.numbers_.size() + 1));
  }
  void operator()(const SessionOpened& r) const {
    if (!t.sessions_.emplace(r.session, r.key).second) t.Complain("a session number came again");
  }
  void operator()(const SessionEnded& r) const {
    if (r.reason == EndReason::kBroken || r.reason == EndReason::kSilent)
      t.Blame(r.session, t.numbers_[t.sessions_[r.session]]);
    t.sessions_.erase(r.session);
    t.Release(r.session);
    for (Round& round : t.rounds_) {
      const auto sent = round.sent.find(r.session);
      if (sent != round.sent.end() && !t.Includes(round, sent->second.id)) round.sent.erase(sent);
    }
  }
  void operator()(const LeaseGranted& r) const {
    ++t.leases_;
    if (!t.sessions_.contains(r.session)) t.Complain("a lease for a session that is over");
    if (r.fence <= t.last_fence_)
      t.Complain("fence " + std::to_string(r.fence.value) + " came again");
    t.last_fence_ = std::max(t.last_fence_, r.fence);
    uint64_t wanted = r.positions;
    for (uint64_t p = t.first_free_; wanted > 0 && p < t.total_; ++p) {
      if (p == t.positions_.size()) t.positions_.emplace_back();
      t.first_free_ = p;
      if (!t.AllOn(t.positions_[p], Place::kFree)) continue;
      for (size_t f = 0; f < t.fragments_; ++f) t.Put(p, f, Place::kLeased);
      t.positions_[p].session = r.session;
      t.positions_[p].fence = r.fence;
      --wanted;
    }
  }
  void operator()(const ProgressDropped& r) const {
    const size_t f = r.fragment.value;
    for (const LeaseRange& l : t.carried_[{r.session, f}]) {
      for (uint64_t p = l.from; p < std::min<uint64_t>(l.to, t.positions_.size()); ++p) {
        Position& position = t.positions_[p];
        if (position.on[f] != Place::kLeased || position.fence != l.fence)
          t.Complain("what is dropped is not held");
        if (t.fragments_ > 1) {
          t.Put(p, f, Place::kDiscarded);
          position.failed.clear();
        } else {
          position.released = true;
          t.SettleOne(p);
        }
      }
    }
    t.carried_.erase({r.session, f});
  }
  void operator()(const RoundOpened& r) const {
    Round& round = t.rounds_[r.fragment.value];
    round = Round{.id = r.round, .quorum = r.quorum};
    for (const Member& m : r.members) {
      if (!t.sessions_.contains(m.session)) t.Complain("a member that is over");
      round.members.insert(m.session);
    }
    if (r.quorum == 0 || r.quorum > r.members.size()) t.Complain("a quorum that makes no sense");
  }
  void operator()(const ContributionAccepted& r) const {
    t.CheckClaim(r);
    const ContributionId id = r.object.id.contribution;
    const bool is_new = t.rounds_[r.object.id.fragment.value]
                            .sent.emplace(id.session, Sent{id, r.leases, r.weight})
                            .second;
    if (!is_new) t.Complain("two undecided contributions of one session");
  }
  void operator()(const ContributionHeld& r) const {
    auto& sent = t.rounds_[r.fragment.value].sent;
    auto it = sent.find(r.id.session);
    if (it == sent.end() || it->second.id != r.id)
      return t.Complain("an unknown contribution is held");
    it->second.held = true;
  }
  void operator()(const SlicesPlaced& r) const {
    t.rounds_[r.fragment.value].slices = r.slices.size();
  }
  void operator()(const SlicesMoved& r) const {
    Round& round = t.rounds_[r.fragment.value];
    if (round.closed) return;
    for (auto& [session, sent] : round.sent) {
      for (const SliceMove& move : r.moves) sent.held_slices.erase(move.slice);
      sent.held = false;
    }
  }
  void operator()(const SliceHeld& r) const {
    Round& round = t.rounds_[r.fragment.value];
    for (const ContributionId& id : r.contributions) {
      auto it = round.sent.find(id.session);
      if (it == round.sent.end() || it->second.id != id)
        return t.Complain("a slice of an unknown contribution is held");
      it->second.held_slices.insert(r.slice);
      it->second.held = it->second.held_slices.size() == round.slices;
    }
  }
  void operator()(const ContributionRefused& r) const {
    Round& round = t.rounds_[r.fragment.value];
    auto it = round.sent.find(r.id.session);
    if (it != round.sent.end() && it->second.id == r.id && !t.Includes(round, r.id))
      round.sent.erase(it);
  }
  void operator()(const RoundClosed& r) const {
    const size_t f = r.fragment.value;
    Round& round = t.rounds_[f];
    if (r.round != round.id) t.Complain("a round was closed that is not open");
    t.CheckList(r, round);
    for (const auto& [session, sent] : round.sent) {
      const bool listed = std::find(r.closing.included.begin(), r.closing.included.end(),
                                    sent.id) != r.closing.included.end();
      const bool sealed = t.Includes(round, sent.id);
      if (listed && !sealed) t.Seal(f, sent, Place::kLeased, Place::kSealed);
      if (!listed && sealed) t.Seal(f, sent, Place::kSealed, Place::kLeased);
    }
    round.included = r.closing.included;
    round.closed = true;
  }
  void operator()(const RoundCommitted& r) const {
    const size_t f = r.commit.fragment.value;
    const Round round = std::exchange(t.rounds_[f], Round{});
    if (r.commit.round != round.id || !round.closed)
      t.Complain("a round was committed that is not closed");
    for (const auto& [session, sent] : round.sent) {
      const bool included = t.Includes(round, sent.id);
      if (included) t.Seal(f, sent, Place::kSealed, Place::kCommitted);
      t.carried_.erase({session, f});
      if (!included) t.carried_[{session, f}] = sent.leases;
    }
  }
  void operator()(const RoundAborted& r) const {
    const size_t f = r.fragment.value;
    const Round round = std::exchange(t.rounds_[f], Round{});
    for (const auto& [session, sent] : round.sent) {
      if (t.Includes(round, sent.id)) t.Seal(f, sent, Place::kSealed, Place::kLeased);
      t.carried_[{session, f}] = sent.leases;
    }
  }
  void operator()(const CheckpointCut& r) const {
    t.cuts_.emplace_back(r.versions, t.positions_);
    if (t.cuts_.size() > kCutsKept) t.cuts_.pop_front();
  }
  template <class T>
  void operator()(const T&) const {}  // does not concern the leases
};

void LedgerTwin::Recount() {
  counts_ = {};
  for (size_t f = 0; f < fragments_; ++f) {
    for (const Position& p : positions_) ++counts_[f][static_cast<size_t>(p.on[f])];
    counts_[f][0] += total_ - positions_.size();
  }
  first_free_ = 0;
}

// A checkpoint of these versions may have been cut more than once, with other leases.
void LedgerTwin::GoBack(const GenerationStarted& r, const State& after) {
  Cut versions;
  for (const ObjectInfo& snapshot : r.snapshots) versions.push_back(snapshot.id.version);
  sessions_.clear();
  carried_.clear();
  rounds_.assign(fragments_, {});
  for (auto it = cuts_.rbegin(); it != cuts_.rend(); ++it) {
    if (it->first != versions) continue;
    positions_ = it->second;
    Recount();
    ReleaseAll();
    if (Agrees(after)) return;
  }
}

void LedgerTwin::OnRecord(const Record& record, const State& after) {
  std::visit(Reader{*this, after}, record.body);
  if (!Agrees(after)) Compare(after);
}

bool LedgerTwin::Agrees(const State& after) const {
  for (size_t f = 0; f < fragments_; ++f) {
    const LeaseBook::Totals& t = after.leases.totals(FragmentId{f});
    const auto& c = counts_[f];
    if (t.free != c[0] || t.leased != c[1] || t.sealed != c[2] || t.committed != c[3] ||
        t.discarded != c[4] || t.quarantined != c[5] || t.Sum() != total_) {
      return false;
    }
  }
  return true;
}

void LedgerTwin::Compare(const State& after) {
  for (size_t f = 0; f < fragments_; ++f) {
    const LeaseBook::Totals& t = after.leases.totals(FragmentId{f});
    std::string text = "fragment " + std::to_string(f) + ": the ledger and the naive model say";
    const uint64_t ledger[kPlaces] = {t.free,      t.leased,    t.sealed,
                                      t.committed, t.discarded, t.quarantined};
    static constexpr const char* kNames[kPlaces] = {"free",      "leased",    "sealed",
                                                    "committed", "discarded", "quarantined"};
    for (size_t i = 0; i < kPlaces; ++i) {
      text += std::string(" ") + kNames[i] + " " + std::to_string(ledger[i]) + "/" +
              std::to_string(counts_[f][i]);
    }
    Complain(text);
  }
}

}  // namespace longhaul::sim
