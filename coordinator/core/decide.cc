// The decisions that follow from the state and the time alone, one record at a time.
#include <algorithm>

#include "coordinator/core/coordinator.h"
#include "sync/weights.h"

namespace longhaul {
namespace {

// A first round has no measured predecessor: this long, times patience.
constexpr Duration kFirstRoundLimit = Seconds(600);
constexpr Duration kRoundSlack = Seconds(10);
constexpr Duration kMinGrace = Milliseconds(200);
// Leases cover the rounds in hand and this many more.
constexpr uint64_t kLeaseRoundsAhead = 2;
constexpr uint32_t kSampleLength = 200;  // tokens of the text shown at the end

}  // namespace

std::optional<RecordBody> Coordinator::Decide() {
  if (!state_.started) return std::nullopt;
  if (auto r = DecidePhase()) return r;
  if (state_.phase != Phase::kRunning) return std::nullopt;
  if (auto r = DecideCarry()) return r;
  if (auto r = DecideLease()) return r;
  if (auto r = DecideCheckpoint()) return r;
  if (auto r = DecideRequest()) return r;
  for (uint64_t f = 0; f < state_.fragments.size(); ++f) {
    if (auto r = DecideFragment(FragmentId{f})) return r;
  }
  return std::nullopt;
}

// ---- the run ----

bool Coordinator::AllRoundsDone() const {
  return state_.lowest_version().value >= config_.run.rounds;
}

bool Coordinator::HasStep(SessionId id, FragmentId fragment) const {
  return state_.leases.ledger(fragment).LeasedPositions(id) >= positions_per_step_;
}

bool Coordinator::DataUsedUp() const {
  if (state_.leases.totals(FragmentId{0}).free >= positions_per_step_) return false;
  for (uint64_t f = 0; f < state_.fragments.size(); ++f) {
    if (state_.leases.totals(FragmentId{f}).sealed > 0) return false;
  }
  for (const auto& [id, session] : state_.sessions) {
    for (uint64_t f = 0; f < state_.fragments.size(); ++f) {
      if (HasStep(id, FragmentId{f})) return false;
    }
  }
  return true;
}

bool Coordinator::RequiredAreReady() const {
  std::set<std::string> missing = required_workers_;
  if (missing.empty()) return true;
  for (const auto& [id, session] : state_.sessions) {
    if (session.ready) missing.erase(state_.workers.at(session.key).name);
  }
  return missing.empty();
}

std::optional<RecordBody> Coordinator::DecidePhase() const {
  if (state_.phase == Phase::kWaiting && state_.ready_sessions >= config_.run.min_workers &&
      RequiredAreReady())
    return PhaseChanged{Phase::kRunning, ""};
  if (state_.phase != Phase::kRunning) return std::nullopt;
  const bool in_flight = std::any_of(state_.fragments.begin(), state_.fragments.end(),
                                     [](const Fragment& f) { return f.round.has_value(); });
  if (in_flight || !(AllRoundsDone() || DataUsedUp())) return std::nullopt;
  const bool asked = state_.evaluated == state_.outer_steps() && state_.sampled;
  const bool stored = state_.snapshot_steps() == state_.outer_steps();
  if (!stored || !state_.requests.empty() || (!asked && state_.ready_sessions > 0))
    return std::nullopt;
  if (!state_.degraded.empty()) return PhaseChanged{Phase::kFinished, state_.degraded};
  return PhaseChanged{Phase::kFinished,
                      AllRoundsDone()
                          ? "all " + std::to_string(config_.run.rounds) + " rounds are done"
                          : "the data is used up"};
}

std::optional<RecordBody> Coordinator::DecideCheckpoint() const {
  const uint64_t steps = state_.outer_steps();
  const uint64_t every = uint64_t{config_.checkpoint.every_rounds} * state_.fragments.size();
  if (!state_.cutting.empty() || state_.snapshot_steps() >= steps) return std::nullopt;
  if (steps % every != 0 && !AllRoundsDone() && !DataUsedUp()) return std::nullopt;
  CheckpointCut cut;
  for (const Fragment& f : state_.fragments) cut.versions.push_back(f.version);
  return cut;
}

std::optional<SessionId> Coordinator::FirstReady() const {
  if (state_.ready_sessions == 0) return std::nullopt;
  for (const auto& [id, session] : state_.sessions) {
    if (session.ready && !session.finishing) return id;
  }
  return std::nullopt;
}

std::optional<RecordBody> Coordinator::DecideRequest() const {
  const bool last = AllRoundsDone() || DataUsedUp();
  const uint64_t steps = state_.outer_steps();
  const uint64_t every = uint64_t{config_.checkpoint.every_rounds} * state_.fragments.size();
  const bool evaluate = state_.evaluated != steps && (steps % every == 0 || last);
  if (state_.requests.empty() && !evaluate && !(last && !state_.sampled)) return std::nullopt;
  const std::optional<SessionId> worker = FirstReady();
  if (!worker) return std::nullopt;
  for (const auto& [id, open] : state_.requests) {
    if (open.session.value == 0) return RequestOpened{open.request, *worker};
  }
  if (!state_.requests.empty()) return std::nullopt;
  WorkRequest request{state_.last_request.Next(), RequestKind::kEvaluate,
                      state_.fragments[0].version, "", 0};
  if (!evaluate) {
    request.kind = RequestKind::kSample;
    request.prompt = kSamplePrompt;
    request.tokens = kSampleLength;
  }
  return RequestOpened{std::move(request), *worker};
}

// ---- data ----

std::optional<RecordBody> Coordinator::DecideCarry() {
  while (!check_carry_.empty()) {
    const SessionId id = *check_carry_.begin();
    auto session = state_.sessions.find(id);
    if (session != state_.sessions.end()) {
      for (uint64_t f = 0; f < state_.fragments.size(); ++f) {
        if (session->second.fragments[f].carried_rounds > config_.round.carry)
          return ProgressDropped{id, FragmentId{f}};
      }
    }
    check_carry_.erase(id);
  }
  return std::nullopt;
}

// Each fragment's next rounds are covered by what is leased on it and not in a closed round.
bool Coordinator::NeedsLease(SessionId id, const Session& session) const {
  const uint64_t per_round = PositionsPerRound(session);
  for (uint64_t i = 0; i < state_.fragments.size(); ++i) {
    const Fragment& f = state_.fragments[i];
    const uint64_t decided = f.version.value + (f.round && f.round->closing ? 1 : 0);
    if (decided >= config_.run.rounds) continue;
    const uint64_t ahead = std::min(kLeaseRoundsAhead, config_.run.rounds - decided);
    const uint64_t wanted = (ahead + session.fragments[i].carried_rounds) * per_round;
    if (state_.leases.ledger(FragmentId{i}).LeasedPositions(id) < wanted) return true;
  }
  return false;
}

std::optional<RecordBody> Coordinator::DecideLease() {
  while (!check_leases_.empty() && state_.leases.totals(FragmentId{0}).free > 0) {
    const SessionId id = *check_leases_.begin();
    auto session = state_.sessions.find(id);
    if (session != state_.sessions.end() && session->second.ready && !session->second.finishing &&
        NeedsLease(id, session->second)) {
      return LeaseGranted{id, state_.last_fence.Next(), PositionsPerRound(session->second)};
    }
    check_leases_.erase(id);
  }
  return std::nullopt;
}

// ---- rounds ----

std::optional<RecordBody> Coordinator::DecideFragment(FragmentId id) const {
  const Fragment& f = state_.fragment(id);
  if (!f.round) return DecideNextRound(id);
  if (auto r = DecideMoves(id)) return r;
  return f.round->closing ? DecideClosed(id) : DecideCollecting(id);
}

std::optional<RecordBody> Coordinator::DecideNextRound(FragmentId id) const {
  // The last samples may be with fewer workers than that.
  const bool last_data = state_.leases.totals(FragmentId{0}).free < positions_per_step_;
  const uint64_t fewest = std::max<uint64_t>(1, last_data ? 1 : config_.run.min_workers);
  if (state_.fragment(id).version.value >= config_.run.rounds || state_.ready_sessions < fewest)
    return std::nullopt;
  std::vector<Member> members;
  for (const auto& [session_id, session] : state_.sessions) {
    if (session.ready && HasStep(session_id, id)) {
      members.push_back(
          {session_id, std::min(OwnSteps(session, id), StepsWithinReach(session_id, id))});
    }
  }
  if (members.size() < fewest) return std::nullopt;
  return MakeRound(id, std::move(members));
}

uint64_t Coordinator::OwnSteps(const Session& session, FragmentId id) const {
  const uint64_t steps = StepsOf(session);
  if (session.fragments[id.value].last_sequence > 0) return steps;
  return std::max<uint64_t>(1, steps * (id.value + 1) / state_.fragments.size());
}

RoundOpened Coordinator::MakeRound(FragmentId id, std::vector<Member> members) const {
  const Fragment& f = state_.fragment(id);
  uint64_t tokens = 0, raw = 0;
  for (const Member& m : members) {
    tokens += m.steps * TokensPerStep();
    raw += RawWeightOf(m.steps);
  }
  const WeightRatio scale = WeightScale(raw, config_.round.carry);
  const Duration measured =
      f.last_round_time == Duration(0) ? kFirstRoundLimit : 4 * f.last_round_time + kRoundSlack;
  const uint64_t quorum = (members.size() * quorum_per_mille_ + 999) / 1000;
  return RoundOpened{.round = state_.last_round.Next(),
                     .fragment = id,
                     .base = f.version,
                     .time_limit = measured * patience_per_mille_ / 1000,
                     .members = std::move(members),
                     .quorum = std::max<uint64_t>(1, quorum),
                     .quorum_tokens = tokens / 1000 * quorum_per_mille_,
                     .weight_numerator = scale.numerator,
                     .weight_denominator = scale.denominator};
}

Duration Coordinator::Grace(const Round& round) const {
  const Duration waited = *round.quorum_held - round.opened;
  return std::max(kMinGrace, waited * grace_per_mille_ / 1000 * patience_per_mille_ / 1000);
}

bool Coordinator::WorthWaiting(const Round& round) const {
  uint64_t hopeless = 0;
  for (SessionId id : late_) {
    if (!state_.sessions.contains(id) || !round.members.contains(id)) continue;
    const auto c = round.contributions.find(id);
    hopeless += c == round.contributions.end() || !c->second.held ? 1 : 0;
  }
  return round.held + hopeless < round.live_members;
}

bool Coordinator::QuorumHeld(const Round& round) const {
  return round.held >= round.quorum && round.held_tokens >= round.quorum_tokens;
}

std::optional<RecordBody> Coordinator::DecideCollecting(FragmentId id) const {
  const Round& round = *state_.fragment(id).round;
  const bool quorum = QuorumHeld(round);
  if (quorum &&
      (!WorthWaiting(round) || now_ >= std::min(*round.quorum_held + Grace(round), round.deadline)))
    return DecideClose(id);
  if (round.live_members < round.quorum)
    return RoundAborted{round.id, id, "too few members are left for the quorum"};
  if (now_ >= round.deadline && !quorum)
    return RoundAborted{round.id, id, "the quorum was not reached in time"};
  if (round.contributions.empty() && DataUsedUp())
    return RoundAborted{round.id, id, "the data is used up"};
  return std::nullopt;
}

std::optional<RecordBody> Coordinator::DecideClose(FragmentId id) const {
  const Round& round = *state_.fragment(id).round;
  const std::string unmet = Unmet(round);
  if (unmet.empty() || !state_.degraded.empty())
    return RoundClosed{round.id, id, MakeClosing(round)};
  if (now_ < round.deadline) return std::nullopt;
  if (config_.round.broken_contract == "stop") return PhaseChanged{Phase::kStopped, unmet};
  return ContractBroken{round.id, unmet};
}

std::string Coordinator::Unmet(const Round& round) const {
  std::set<std::string> missing = required_workers_;
  uint64_t tokens = 0;
  if (missing.empty() && config_.round.min_tokens == 0) return "";
  for (const auto& [session, c] : round.contributions) {
    if (!c.held) continue;
    tokens += c.tokens;
    missing.erase(state_.workers.at(c.key).name);
  }
  if (!missing.empty())
    return "a round has no contribution of the required worker " + *missing.begin();
  if (tokens < config_.round.min_tokens) {
    return "a round has fewer tokens than round.min_tokens = " +
           std::to_string(config_.round.min_tokens);
  }
  return "";
}

std::optional<RecordBody> Coordinator::DecideClosed(FragmentId id) const {
  const Round& round = *state_.fragment(id).round;
  if (round.assembled && (EnoughHolders(round) || now_ >= HoldersUntil(round)))
    return MakeCommit(id, *round.assembled);
  if (round.assembled) return std::nullopt;
  if (now_ < round.deadline) return std::nullopt;  // the reducer's answer is an event
  if (round.closing->attempt >= kMaxAttempts)
    return RoundAborted{round.id, id, "it could not be added up in time"};
  Closing again = *round.closing;
  ++again.attempt;
  return RoundClosed{round.id, id, std::move(again)};
}

Closing Coordinator::MakeClosing(const Round& round) const {
  Closing closing{.attempt = 1};
  for (const auto& [session, c] : round.contributions) {
    if (!c.held) continue;
    closing.included.push_back(c.id());
  }
  closing.divisor = DivisorOf(closing.included, round);
  return closing;
}

std::optional<Timestamp> Coordinator::NextWake() const {
  std::optional<Timestamp> next = state_.frozen_until;
  for (const Fragment& f : state_.fragments) {
    if (!f.round) continue;
    Timestamp at = f.round->assembled ? HoldersUntil(*f.round) : f.round->deadline;
    if (!f.round->closing && f.round->quorum_held) {
      const Timestamp graced = *f.round->quorum_held + Grace(*f.round);
      if (graced > now_) at = std::min(at, graced);
    }
    next = next ? std::min(*next, at) : at;
  }
  return next;
}

}  // namespace longhaul
