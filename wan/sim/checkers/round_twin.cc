#include "wan/sim/checkers/round_twin.h"

#include <algorithm>
#include <cmath>

#include "proto/chunk.h"

namespace longhaul::sim {
namespace {

constexpr Duration kLeastGrace = Milliseconds(200);
constexpr uint32_t kAttempts = 4;

int64_t PerMille(double share) { return static_cast<int64_t>(share * 1000.0 + 0.5); }

std::string Named(const RoundId& round) { return "round " + std::to_string(round.value); }

std::string Named(const ContributionId& id) {
  return "contribution " + std::to_string(id.session.value) + "/" + std::to_string(id.sequence);
}

}  // namespace

bool RoundTwin::Round::IsMember(SessionId session) const {
  return std::any_of(opened.members.begin(), opened.members.end(),
                     [&](const Member& m) { return m.session == session; });
}

bool RoundTwin::Round::Lists(const ContributionId& id) const {
  return std::find(list.begin(), list.end(), id) != list.end();
}

std::set<SessionId> RoundTwin::Round::Held() const {
  std::set<SessionId> held;
  for (const auto& [session, t] : taken) {
    if (t.held) held.insert(session);
  }
  return held;
}

bool RoundTwin::Round::QuorumHeld() const {
  uint64_t tokens = 0;
  for (const auto& [session, t] : taken) tokens += t.held ? t.quorum_tokens : 0;
  return Held().size() >= opened.quorum && tokens >= opened.quorum_tokens;
}

// ---- accept or refuse ----

// What the rules of DESIGN 5 say about a contribution, in the order of the text.
bool RoundTwin::Takes(SessionId id, const ContributionReady& ready) const {
  const auto session = sessions_.find(id);
  const ObjectId& object = ready.object.id;
  if (session == sessions_.end() || object.fragment.value >= parts_.size()) return false;
  const Part& part = parts_[object.fragment.value];
  if (!part.round || part.round->opened.round != ready.round || !part.round->list.empty() ||
      !part.round->IsMember(id) || part.round->taken.contains(id)) {
    return false;
  }
  const bool named = object.kind == ObjectKind::kContribution && object.generation == generation_ &&
                     object.contribution.session == id && object.version == part.version;
  const auto last = session->second.last_sequence.find(object.fragment);
  const bool is_new =
      last == session->second.last_sequence.end() || object.contribution.sequence > last->second;
  if (!named || object.contribution.sequence == 0 || !is_new ||
      ready.base_hash != part.state_hash || !std::isfinite(ready.loss)) {
    return false;
  }
  const ObjectSize size = CodedSize(config_.sync, part.elements);
  if (!IsCutAs(part, ready)) return false;
  return ledger_.MayClaim(object.fragment, id, ready.leases, ready.steps) &&
         ready.object.chunks == size.chunks &&
         (size.varies ? ready.object.bytes <= size.bytes : ready.object.bytes == size.bytes);
}

bool RoundTwin::IsCutAs(const Part& part, const ContributionReady& ready) const {
  const std::vector<uint32_t>& slices = part.round->slices;
  if (slices.empty() || ready.slices.size() != slices.size())
    return slices.empty() && ready.slices.empty();
  uint64_t bytes = 0, first = 0;
  for (size_t i = 0; i < slices.size(); ++i) {
    const uint64_t end = std::min(first + slices[i] * kChunkElements, part.elements);
    const ObjectSize size = CodedSize(config_.sync, end - first);
    const SlicePart& sent = ready.slices[i];
    const bool fits = size.varies ? sent.bytes <= size.bytes : sent.bytes == size.bytes;
    if (sent.chunks != slices[i] || !fits) return false;
    bytes += sent.bytes;
    first = end;
  }
  return bytes == ready.object.bytes;
}

void RoundTwin::NoteLost(FragmentId fragment, RoundId id, const std::vector<ContributionId>& lost) {
  if (fragment.value >= parts_.size()) return;
  std::optional<Round>& round = parts_[fragment.value].round;
  if (round && round->opened.round == id) round->lost.insert(lost.begin(), lost.end());
}

void RoundTwin::OnEvent(const EventBody& event, const Effects& effects) {
  if (const auto* late = std::get_if<LateEvent>(&event)) {
    late_ = {late->sessions.begin(), late->sessions.end()};
    return;
  }
  if (const auto* e = std::get_if<LostEvent>(&event))
    return NoteLost(e->fragment, e->round, e->contributions);
  if (const auto* said = std::get_if<SliceReportEvent>(&event)) {
    const SliceReport& r = said->report;
    NoteLost(r.fragment, r.round, r.lost);
    return NoteLost(r.fragment, r.round, r.refused);
  }
  const auto* e = std::get_if<ContributionEvent>(&event);
  if (!e) return;
  const bool taken = std::any_of(effects.records.begin(), effects.records.end(), [](const auto& r) {
    return std::holds_alternative<ContributionAccepted>(r.body);
  });
  if (taken == Takes(e->session, e->ready)) return;
  Complain(Named(e->ready.object.id.contribution) + " to " + Named(e->ready.round) +
           (taken ? " was taken, but must not be" : " was not taken, but must be"));
}

// ---- the records ----

void RoundTwin::CheckOpened(const RoundOpened& r) {
  // The least number of contributions that is the wanted share of the members.
  const uint64_t share = static_cast<uint64_t>(PerMille(config_.round.quorum));
  uint64_t quorum = 1;
  while (quorum * 1000 < r.members.size() * share) ++quorum;
  if (r.quorum != quorum)
    Complain(Named(r.round) + " has a quorum of " + std::to_string(r.quorum) + " of " +
             std::to_string(r.members.size()) + ", not " + std::to_string(quorum));
  for (const Member& m : r.members) {
    const auto session = sessions_.find(m.session);
    if (session == sessions_.end() || !session->second.ready || m.steps == 0)
      Complain(Named(r.round) + " has a member that cannot take part");
  }
}

void RoundTwin::CheckTaken(const ContributionAccepted& r) {
  const ContributionId id = r.object.id.contribution;
  const FragmentId fragment = r.object.id.fragment;
  const Round& round = *parts_[fragment.value].round;
  const uint64_t tokens = r.steps * SamplesPerStep(config_) * kSampleTokens;
  if (r.tokens != tokens) Complain(Named(id) + " counts other tokens than it has");
  const uint64_t raw = config_.sync.weights == "equal" ? 1 : tokens;
  const uint64_t weight = std::max<uint64_t>(
      1, static_cast<uint64_t>(static_cast<unsigned __int128>(raw) * round.opened.weight_numerator /
                               round.opened.weight_denominator));
  if (r.weight != weight) {
    Complain(Named(id) + " has weight " + std::to_string(r.weight) + ", not " +
             std::to_string(weight));
  }
  Session& session = sessions_[id.session];
  if (session.carried[fragment] > config_.round.carry)
    Complain(Named(id) + " carries what was carried too often");
}

// Every live member's is held, but for those whose heartbeats are overdue.
bool RoundTwin::NobodyToWaitFor(const Round& round) const {
  const std::set<SessionId> held = round.Held();
  return std::all_of(round.opened.members.begin(), round.opened.members.end(),
                     [&](const Member& m) {
                       return held.contains(m.session) || !sessions_.contains(m.session) ||
                              late_.contains(m.session);
                     });
}

bool RoundTwin::ContractKept(const Round& round) const {
  std::set<std::string> names;
  uint64_t tokens = 0;
  for (const auto& [session, t] : round.taken) {
    if (!t.held) continue;
    tokens += t.tokens;
    names.insert(names_.at(t.key));
  }
  const std::string& wanted = config_.round.required_workers;  // at most one in the simulator
  return tokens >= config_.round.min_tokens && (wanted.empty() || names.contains(wanted));
}

void RoundTwin::CheckClosing(const RoundClosed& r, const Round& round, Timestamp now) {
  if (round.attempt > 0) {
    if (r.closing.included == round.list && now < round.deadline)
      Complain(Named(r.round) + " has another attempt before its time");
    return;
  }
  std::set<SessionId> listed;
  for (const ContributionId& id : r.closing.included) listed.insert(id.session);
  if (listed != round.Held()) Complain(Named(r.round) + " closes with another list than is held");
  if (!round.QuorumHeld()) return Complain(Named(r.round) + " closes without its quorum");
  if (!ContractKept(round) && !degraded_)
    Complain(Named(r.round) + " closes against the participation contract");
  const Duration waited = *round.quorum_since - round.at;
  const Duration grace = std::max(kLeastGrace, waited * PerMille(config_.round.grace) / 1000 *
                                                   PerMille(config_.run.patience) / 1000);
  if (!NobodyToWaitFor(round) && now < *round.quorum_since + grace && now < round.deadline)
    Complain(Named(r.round) + " closes within the grace");
}

void RoundTwin::CheckAborted(const RoundAborted& r, const Round& round, Timestamp now) {
  const auto live = static_cast<uint64_t>(
      std::count_if(round.opened.members.begin(), round.opened.members.end(),
                    [&](const Member& m) { return sessions_.contains(m.session); }));
  const bool collecting = round.list.empty();
  const bool hopeless = collecting && live < round.opened.quorum;
  const bool no_data =
      collecting && round.taken.empty() && ledger_.free() < SamplesPerStep(config_);
  const bool last = collecting || round.attempt == kAttempts;
  const bool in_vain = last && now >= round.deadline && !(collecting && round.QuorumHeld());
  const auto left = static_cast<uint64_t>(
      std::count_if(round.list.begin(), round.list.end(),
                    [&](const ContributionId& id) { return !round.lost.contains(id); }));
  const bool too_few =
      left < round.list.size() && (left < round.opened.quorum || round.attempt == kAttempts);
  if (hopeless || no_data || in_vain || too_few) return;
  Complain(Named(r.round) + " was given up before its time: " + r.reason);
}

// The round of a fragment is over: who was not included carries what it has.
void RoundTwin::Decide(Part& part, FragmentId fragment, const std::set<ContributionId>& included) {
  for (const auto& [id, taken] : part.round->taken) {
    const auto session = sessions_.find(id);
    if (session == sessions_.end()) continue;
    uint32_t& carried = session->second.carried[fragment];
    carried = included.contains(taken.object.id.contribution) ? 0 : carried + 1;
  }
  part.round.reset();
}

struct RoundTwin::Reader {
  RoundTwin& t;
  Timestamp now;

  Part& PartOf(FragmentId fragment) const { return t.parts_.at(fragment.value); }

  void Begin(const Generation& generation, const std::vector<ObjectInfo>& snapshots) const {
    t.generation_ = generation;
    t.sessions_.clear();
    for (const ObjectInfo& snapshot : snapshots) {
      Part& part = PartOf(snapshot.id.fragment);
      part.version = snapshot.id.version;
      part.state_hash = snapshot.root;
      part.round.reset();
    }
  }
  void operator()(const RunStarted& r) const {
    t.parts_.resize(r.elements.size());
    for (size_t f = 0; f < r.elements.size(); ++f) t.parts_[f].elements = r.elements[f];
    Begin(r.generation, r.snapshots);
  }
  void operator()(const GenerationStarted& r) const { Begin(r.generation, r.snapshots); }
  void operator()(const Restarted& r) const {
    t.late_.clear();
    for (Part& part : t.parts_) {
      if (!part.round) continue;
      part.round->deadline = part.round->deadline + r.grace;
      if (part.round->quorum_since) part.round->quorum_since = *part.round->quorum_since + r.grace;
    }
  }
  void operator()(const WorkerEnrolled& r) const { t.names_[r.key] = r.name; }
  void operator()(const ContractBroken&) const { t.degraded_ = true; }
  void operator()(const SessionOpened& r) const { t.sessions_[r.session].key = r.key; }
  void operator()(const MemberReady& r) const { t.sessions_[r.session].ready = true; }
  void operator()(const SessionFinishing& r) const { t.sessions_[r.session].finishing = true; }
  void operator()(const SessionEnded& r) const {
    t.sessions_.erase(r.session);
    for (Part& part : t.parts_) {
      if (part.round) Forget(*part.round, r.session);
    }
  }
  static void Forget(Round& round, SessionId session) {
    const auto taken = round.taken.find(session);
    if (taken != round.taken.end() && !round.Lists(taken->second.object.id.contribution))
      round.taken.erase(taken);
  }
  void operator()(const ProgressDropped& r) const {
    uint32_t& carried = t.sessions_[r.session].carried[r.fragment];
    if (carried <= t.config_.round.carry) t.Complain("progress was dropped before it had to be");
    carried = 0;
  }
  void operator()(const RoundOpened& r) const {
    t.CheckOpened(r);
    PartOf(r.fragment).round = Round{.opened = r, .at = now, .deadline = now + r.time_limit};
  }
  void operator()(const ContributionAccepted& r) const {
    t.CheckTaken(r);
    const ContributionId id = r.object.id.contribution;
    t.sessions_[id.session].last_sequence[r.object.id.fragment] = id.sequence;
    PartOf(r.object.id.fragment).round->taken[id.session] = {
        r.object, t.sessions_[id.session].key, r.tokens, r.quorum_tokens, false, {}};
  }
  void operator()(const ContributionHeld& r) const {
    Round& round = *PartOf(r.fragment).round;
    round.taken[r.id.session].held = true;
    if (!round.quorum_since && round.QuorumHeld()) round.quorum_since = now;
  }
  void operator()(const SlicesPlaced& r) const {
    Round& round = *PartOf(r.fragment).round;
    for (const Slice& slice : r.slices) round.slices.push_back(slice.chunks);
  }
  void operator()(const SliceHeld& r) const {
    Round& round = *PartOf(r.fragment).round;
    for (const ContributionId& id : r.contributions) {
      Taken& taken = round.taken[id.session];
      taken.held_slices.insert(r.slice);
      taken.held = taken.held_slices.size() == round.slices.size();
    }
    if (!round.quorum_since && round.QuorumHeld()) round.quorum_since = now;
  }
  // It has as much time again; what only the one before held is not held any more.
  void operator()(const SlicesMoved& r) const {
    Round& round = *PartOf(r.fragment).round;
    round.deadline = now + round.opened.time_limit;
    for (auto& [session, taken] : round.taken) {
      if (!round.list.empty()) continue;
      for (const SliceMove& move : r.moves) taken.held_slices.erase(move.slice);
      taken.held = false;
    }
  }
  void operator()(const ContributionRefused& r) const {
    Part& part = PartOf(r.fragment);
    if (part.round) Forget(*part.round, r.id.session);
  }
  void operator()(const RoundClosed& r) const {
    Round& round = *PartOf(r.fragment).round;
    t.CheckClosing(r, round, now);
    round.list = r.closing.included;
    round.attempt = r.closing.attempt;
    round.deadline = now + round.opened.time_limit;
  }
  void operator()(const RoundCommitted& r) const {
    Part& part = PartOf(r.commit.fragment);
    t.Decide(part, r.commit.fragment, {part.round->list.begin(), part.round->list.end()});
    part.version = r.commit.version;
    part.state_hash = r.commit.state_hash;
  }
  void operator()(const RoundAborted& r) const {
    Part& part = PartOf(r.fragment);
    t.CheckAborted(r, *part.round, now);
    t.Decide(part, r.fragment, {});
  }
  template <class T>
  void operator()(const T&) const {}  // does not concern the rounds
};

void RoundTwin::OnRecord(const Record& record, const State&) {
  std::visit(Reader{*this, record.now}, record.body);
}

}  // namespace longhaul::sim
