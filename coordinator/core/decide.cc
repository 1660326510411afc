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

std::optional<RecordBody> Coordinator::Decide() const {
  if (!state_.started) return std::nullopt;
  if (auto r = DecidePhase()) return r;
  if (state_.phase != Phase::kRunning) return std::nullopt;
  if (auto r = DecideCarry()) return r;
  if (auto r = DecideLease()) return r;
  if (auto r = DecideRequest()) return r;
  return state_.round ? DecideOpenRound() : DecideRound();
}

std::optional<SessionId> Coordinator::FirstReady() const {
  for (const auto& [id, session] : state_.sessions) {
    if (session.ready) return id;
  }
  return std::nullopt;
}

bool Coordinator::CheckpointDue() const {
  const uint64_t v = state_.version.value;
  return state_.snapshot.id.version < state_.version &&
         (v % config_.checkpoint.every_rounds == 0 || v >= config_.run.rounds);
}

std::optional<RecordBody> Coordinator::DecidePhase() const {
  const auto ready = std::count_if(state_.sessions.begin(), state_.sessions.end(),
                                   [](const auto& entry) { return entry.second.ready; });
  if (state_.phase == Phase::kWaiting && ready >= static_cast<int64_t>(config_.run.min_workers)) {
    return PhaseChanged{Phase::kRunning, ""};
  }
  if (state_.phase != Phase::kRunning || state_.round) return std::nullopt;
  if (state_.version.value >= config_.run.rounds) {
    const bool asked = state_.evaluated == state_.version && state_.sampled;
    if (CheckpointDue() || !state_.requests.empty() || (!asked && ready > 0)) return std::nullopt;
    return PhaseChanged{Phase::kFinished,
                        "all " + std::to_string(config_.run.rounds) + " rounds are done"};
  }
  return std::nullopt;
}

std::optional<RecordBody> Coordinator::DecideCarry() const {
  for (const auto& [id, session] : state_.sessions) {
    if (session.carried_rounds > config_.round.carry) return ProgressDropped{id};
  }
  return std::nullopt;
}

std::optional<RecordBody> Coordinator::DecideLease() const {
  const uint64_t rounds_left =
      config_.run.rounds - std::min<uint64_t>(config_.run.rounds, state_.version.value);
  const uint64_t ahead = std::min(kLeaseRoundsAhead, rounds_left);
  if (state_.ledger.totals().free == 0) return std::nullopt;
  for (const auto& [id, session] : state_.sessions) {
    const uint64_t wanted =
        (ahead + (ahead > 0 ? session.carried_rounds : 0)) * positions_per_round();
    if (session.ready && session.leased_positions < wanted) {
      return LeaseGranted{id, state_.last_fence.Next(), positions_per_round()};
    }
  }
  return std::nullopt;
}

std::optional<RecordBody> Coordinator::DecideRequest() const {
  const std::optional<SessionId> worker = FirstReady();
  if (!worker) return std::nullopt;
  for (const auto& [id, open] : state_.requests) {
    if (open.session.value == 0) return RequestOpened{open.request, *worker};
  }
  if (!state_.requests.empty()) return std::nullopt;
  const uint64_t v = state_.version.value;
  const bool last = v >= config_.run.rounds;
  if (state_.evaluated != state_.version && (v % config_.checkpoint.every_rounds == 0 || last)) {
    return RequestOpened{
        WorkRequest{state_.last_request.Next(), RequestKind::kEvaluate, state_.version, "", 0},
        *worker};
  }
  if (last && !state_.sampled) {
    return RequestOpened{WorkRequest{state_.last_request.Next(), RequestKind::kSample,
                                     state_.version, kSamplePrompt, kSampleLength},
                         *worker};
  }
  return std::nullopt;
}

std::optional<RecordBody> Coordinator::DecideRound() const {
  if (state_.version.value >= config_.run.rounds) return std::nullopt;
  std::vector<SessionId> members;
  for (const auto& [id, session] : state_.sessions) {
    if (session.ready && session.leased_positions > 0) members.push_back(id);
  }
  if (members.empty() || members.size() < config_.run.min_workers) return std::nullopt;
  return MakeRound(std::move(members));
}

RoundOpened Coordinator::MakeRound(std::vector<SessionId> members) const {
  const uint64_t raw = config_.sync.weights == "equal" ? 1 : positions_per_round() * kSampleTokens;
  const WeightRatio scale = WeightScale(raw * members.size(), config_.round.carry);
  const Duration measured = state_.last_round_time == Duration(0)
                                ? kFirstRoundLimit
                                : 4 * state_.last_round_time + kRoundSlack;
  const uint64_t quorum = (members.size() * quorum_per_mille_ + 999) / 1000;
  return RoundOpened{.round = state_.last_round.Next(),
                     .base = state_.version,
                     .time_limit = measured * patience_per_mille_ / 1000,
                     .members = std::move(members),
                     .quorum = static_cast<uint32_t>(std::max<uint64_t>(1, quorum)),
                     .weight_numerator = scale.numerator,
                     .weight_denominator = scale.denominator};
}

Duration Coordinator::Grace(const Round& round) const {
  const Duration waited = *round.quorum_held - round.opened;
  return std::max(kMinGrace, waited * grace_per_mille_ / 1000 * patience_per_mille_ / 1000);
}

std::optional<RecordBody> Coordinator::DecideOpenRound() const {
  const Round& round = *state_.round;
  if (round.closing) return std::nullopt;  // the reducer is at work; its answer is an event
  uint64_t held = 0;
  for (const auto& [id, c] : round.contributions) held += c.held ? 1 : 0;
  const auto alive = static_cast<uint64_t>(
      std::count_if(round.members.begin(), round.members.end(),
                    [&](SessionId id) { return state_.sessions.contains(id); }));
  if (held >= round.quorum && (held >= alive || now_ >= *round.quorum_held + Grace(round))) {
    return RoundClosed{round.id, MakeClosing(round)};
  }
  if (alive < round.quorum)
    return RoundAborted{round.id, "too few members are left for the quorum"};
  if (now_ >= round.deadline) return RoundAborted{round.id, "the quorum was not reached in time"};
  return std::nullopt;
}

Closing Coordinator::MakeClosing(const Round& round) const {
  Closing closing{.attempt = 1};
  for (const auto& [id, c] : round.contributions) {
    if (!c.held) continue;
    closing.included.push_back(id);
    closing.divisor += c.weight;
  }
  return closing;
}

std::optional<Timestamp> Coordinator::NextWake() const {
  if (!state_.round || state_.round->closing) return std::nullopt;
  if (state_.round->quorum_held) return *state_.round->quorum_held + Grace(*state_.round);
  return state_.round->deadline;
}

}  // namespace longhaul
