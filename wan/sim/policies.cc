#include "wan/sim/policies.h"

#include <algorithm>
#include <utility>

namespace longhaul::sim {

void PolicyShares::Add(const PolicyShares& other) {
  handed_out += other.handed_out;
  lost += other.lost;
  applied += other.applied;
  twice += other.twice;
}

Policies::Position& Policies::At(uint64_t position) {
  if (position >= positions_.size()) positions_.resize(position + 1);
  return positions_[position];
}

PolicyShares Policies::shares() const {
  PolicyShares shares = before_;
  for (const Position& p : positions_) {
    shares.handed_out += p.first == First::kTrained || p.first == First::kLost ? 1 : 0;
    shares.lost += p.first == First::kLost ? 1 : 0;
    shares.applied += p.applied > 0 ? 1 : 0;
    shares.twice += p.applied > 1 ? 1 : 0;
  }
  return shares;
}

void Policies::NewAccount() {
  before_ = shares();
  positions_.clear();
  first_of_.clear();
  sent_.clear();
  listed_.clear();
  trained_.clear();
  old_ = processes_;
}

void Policies::HandedOut(const LeaseGranted& r, const State& after) {
  for (const Ledger::Range& range : after.leases.LeasesOf(r.session)) {
    if (range.fence != r.fence) continue;
    for (uint64_t at = range.from; at < range.to; ++at) {
      Position& p = At(at);
      if (p.applied > 0) p.over = true;
      if (p.first != First::kNone) continue;
      p.first = First::kHandedOut;
      first_of_[r.session].push_back(at);
    }
  }
}

// What it has not sent by now, or what is taken out of its round with it, never comes in time.
void Policies::Ended(SessionId session, const State& after) {
  const std::optional<Round>& round = after.fragment(FragmentId{0}).round;
  const bool sealed = round && round->contributions.contains(session);
  for (uint64_t at : std::exchange(first_of_[session], {})) {
    First& first = At(at).first;
    if (first == First::kHandedOut || (first == First::kSent && !sealed)) first = First::kLost;
  }
}

void Policies::Decided(FragmentId fragment) {
  if (fragment.value != 0) return;
  for (const auto& [id, leases] : std::exchange(sent_, {})) {
    for (const LeaseRange& l : leases) {
      for (uint64_t at = l.from; at < l.to; ++at) {
        First& first = At(at).first;
        if (first == First::kSent) first = listed_.contains(id) ? First::kTrained : First::kLost;
      }
    }
  }
  listed_.clear();
}

void Policies::OnRecord(const Record& record, const State& after) {
  if (const auto* r = std::get_if<LeaseGranted>(&record.body)) {
    HandedOut(*r, after);
  } else if (const auto* r = std::get_if<SessionEnded>(&record.body)) {
    Ended(r->session, after);
  } else if (const auto* r = std::get_if<ContributionAccepted>(&record.body)) {
    if (r->object.id.fragment.value != 0) return;
    sent_[r->object.id.contribution] = r->leases;
    for (const LeaseRange& l : r->leases) {
      for (uint64_t at = l.from; at < l.to; ++at) {
        if (At(at).first == First::kHandedOut) At(at).first = First::kSent;
      }
    }
  } else if (const auto* r = std::get_if<RoundClosed>(&record.body)) {
    if (r->fragment.value == 0) listed_ = {r->closing.included.begin(), r->closing.included.end()};
  } else if (const auto* r = std::get_if<RoundCommitted>(&record.body)) {
    Decided(r->commit.fragment);
  } else if (const auto* r = std::get_if<RoundAborted>(&record.body)) {
    if (r->fragment.value == 0) listed_.clear();
    Decided(r->fragment);
  } else if (std::holds_alternative<GenerationStarted>(record.body)) {
    NewAccount();
  }
}

void Policies::OnTrained(size_t process, const std::vector<uint64_t>& positions) {
  processes_.insert(process);
  if (old_.contains(process)) return;
  std::vector<uint64_t>& trained = trained_[process];
  trained.insert(trained.end(), positions.begin(), positions.end());
}

// Whoever is back, however late, brings what it has trained.
void Policies::Arrived(size_t process) {
  for (uint64_t at : std::exchange(trained_[process], {})) {
    Position& p = At(at);
    if (!p.over && p.applied < 2) ++p.applied;
  }
}

void Policies::OnCoded(size_t process, const ObjectInfo& object, const std::vector<std::string>&) {
  if (object.id.fragment.value == 0) Arrived(process);
}

void Policies::OnProgressVoid(size_t process) {
  Arrived(process);
  old_.erase(process);
}

}  // namespace longhaul::sim
