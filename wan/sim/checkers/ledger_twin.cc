#include "wan/sim/checkers/ledger_twin.h"

#include <algorithm>
#include <utility>

#include "sync/exact_sum.h"

namespace longhaul::sim {
namespace {

std::string Text(const LeaseRange& r) {
  return "[" + std::to_string(r.from) + ", " + std::to_string(r.to) + ") under fence " +
         std::to_string(r.fence.value);
}

}  // namespace

LedgerTwin::LedgerTwin(const RunConfig& config) : positions_per_step_(SamplesPerStep(config)) {}

void LedgerTwin::Move(uint64_t position, Place to) {
  Position& p = positions_[position];
  --counts_[static_cast<int>(p.place)];
  ++counts_[static_cast<int>(to)];
  p.place = to;
  if (to == Place::kFree) {
    p.session = SessionId{0};
    p.fence = Fence{0};
    first_free_ = std::min(first_free_, position);
  }
}

template <class F>
void LedgerTwin::ForEach(const Sent& sent, F&& f) {
  for (const LeaseRange& l : sent.leases) {
    for (uint64_t p = l.from; p < std::min<uint64_t>(l.to, positions_.size()); ++p) f(p, l);
  }
}

void LedgerTwin::Grant(const LeaseGranted& r) {
  ++leases_;
  if (!sessions_.contains(r.session)) Complain("a lease for a session that is over");
  if (r.fence <= last_fence_) Complain("fence " + std::to_string(r.fence.value) + " came again");
  last_fence_ = std::max(last_fence_, r.fence);
  uint64_t wanted = r.positions;
  for (uint64_t p = first_free_; wanted > 0 && p < total_; ++p) {
    if (p == positions_.size()) positions_.emplace_back();
    first_free_ = p;
    if (positions_[p].place != Place::kFree) continue;
    Move(p, Place::kLeased);
    positions_[p].session = r.session;
    positions_[p].fence = r.fence;
    --wanted;
  }
}

void LedgerTwin::Accept(const ContributionAccepted& r) {
  const ContributionId id = r.object.id.contribution;
  Sent sent{.leases = r.leases, .weight = r.weight};
  std::set<uint64_t> seen;
  uint64_t count = 0;
  for (const LeaseRange& l : r.leases) {
    for (uint64_t p = l.from; p < l.to; ++p, ++count) {
      const bool held = p < positions_.size() && positions_[p].place == Place::kLeased &&
                        positions_[p].session == id.session && positions_[p].fence == l.fence;
      if (!held || !seen.insert(p).second) {
        Complain("a contribution of session " + std::to_string(id.session.value) +
                 " was accepted with " + Text(l) + ", which it does not hold");
        break;
      }
    }
  }
  if (count != r.steps * positions_per_step_) Complain("steps and positions do not fit");
  if (!members_.contains(id.session)) Complain("a contribution of no member was accepted");
  sent_[id] = std::move(sent);
}

void LedgerTwin::Close(const RoundClosed& r) {
  uint64_t weights = 0;
  included_ = r.closing.included;
  for (const ContributionId& id : included_) {
    auto it = sent_.find(id);
    if (it == sent_.end() || !it->second.held) {
      Complain("a contribution was included that is not held");
      continue;
    }
    weights += it->second.weight;
    ForEach(it->second, [&](uint64_t p, const LeaseRange& l) {
      if (positions_[p].place != Place::kLeased || positions_[p].fence != l.fence)
        Complain("a closing round seals " + Text(l) + ", which is not leased");
      Move(p, Place::kSealed);
    });
  }
  if (included_.size() < quorum_) Complain("a round was closed below its quorum");
  if (weights != r.closing.divisor || weights >= kWeightLimit)
    Complain("the divisor is not the sum of the weights, or too large");
}

void LedgerTwin::Commit(const RoundCommitted& r) {
  for (const ContributionId& id : included_) {
    ForEach(sent_[id], [&](uint64_t p, const LeaseRange& l) {
      if (positions_[p].place != Place::kSealed) Complain("committed " + Text(l) + " unsealed");
      Move(p, Place::kCommitted);
      positions_[p].version = r.commit.version;
    });
  }
  included_.clear();
  sent_.clear();
}

void LedgerTwin::Abort() {
  for (const ContributionId& id : std::exchange(included_, {})) {
    const bool lives = sessions_.contains(id.session);
    ForEach(sent_[id],
            [&](uint64_t p, const LeaseRange&) { Move(p, lives ? Place::kLeased : Place::kFree); });
  }
  sent_.clear();
}

void LedgerTwin::ReturnOf(SessionId session) {
  for (uint64_t p = 0; p < positions_.size(); ++p) {
    if (positions_[p].session == session && positions_[p].place == Place::kLeased)
      Move(p, Place::kFree);
  }
}

// What the checkpoint's version does not contain was never trained.
void LedgerTwin::GoBack(const GenerationStarted& r) {
  sessions_.clear();
  sent_.clear();
  included_.clear();
  for (uint64_t p = 0; p < positions_.size(); ++p) {
    const bool kept =
        positions_[p].place == Place::kCommitted && positions_[p].version <= r.snapshot.id.version;
    if (!kept) Move(p, Place::kFree);
  }
}

void LedgerTwin::OnRecord(const Record& record, const State& after) {
  if (const auto* r = std::get_if<RunStarted>(&record.body)) {
    total_ = r->positions;
    counts_[0] = 0;
  } else if (const auto* r = std::get_if<GenerationStarted>(&record.body)) {
    GoBack(*r);
  } else if (const auto* r = std::get_if<SessionOpened>(&record.body)) {
    if (!sessions_.insert(r->session).second) Complain("a session number came again");
  } else if (const auto* r = std::get_if<SessionEnded>(&record.body)) {
    sessions_.erase(r->session);
    ReturnOf(r->session);
    std::erase_if(sent_, [&](const auto& s) {
      return s.first.session == r->session &&
             std::find(included_.begin(), included_.end(), s.first) == included_.end();
    });
  } else if (const auto* r = std::get_if<ProgressDropped>(&record.body)) {
    ReturnOf(r->session);
  } else if (const auto* r = std::get_if<LeaseGranted>(&record.body)) {
    Grant(*r);
  } else if (const auto* r = std::get_if<RoundOpened>(&record.body)) {
    members_ = {r->members.begin(), r->members.end()};
    quorum_ = r->quorum;
    if (quorum_ == 0 || quorum_ > members_.size()) Complain("a quorum that makes no sense");
  } else if (const auto* r = std::get_if<ContributionAccepted>(&record.body)) {
    Accept(*r);
  } else if (const auto* r = std::get_if<ContributionHeld>(&record.body)) {
    if (!sent_.contains(r->id)) Complain("an unknown contribution is held");
    sent_[r->id].held = true;
  } else if (const auto* r = std::get_if<ContributionRefused>(&record.body)) {
    sent_.erase(r->id);
  } else if (const auto* r = std::get_if<RoundClosed>(&record.body)) {
    Close(*r);
  } else if (const auto* r = std::get_if<RoundCommitted>(&record.body)) {
    Commit(*r);
  } else if (std::holds_alternative<RoundAborted>(record.body)) {
    Abort();
  }
  Compare(after);
}

void LedgerTwin::Compare(const State& after) {
  const Ledger::Totals& t = after.ledger.totals();
  const uint64_t free = total_ - counts_[1] - counts_[2] - counts_[3];
  if (t.free == free && t.leased == counts_[1] && t.sealed == counts_[2] &&
      t.committed == counts_[3] && t.Sum() == total_) {
    return;
  }
  Complain("the ledger says free " + std::to_string(t.free) + ", leased " +
           std::to_string(t.leased) + ", sealed " + std::to_string(t.sealed) + ", committed " +
           std::to_string(t.committed) + "; the naive model " + std::to_string(free) + ", " +
           std::to_string(counts_[1]) + ", " + std::to_string(counts_[2]) + ", " +
           std::to_string(counts_[3]));
}

}  // namespace longhaul::sim
