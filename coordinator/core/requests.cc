// What others must do or know because of a record: requests to the shell, sessions to notify.
#include <bit>

#include "coordinator/core/coordinator.h"

namespace longhaul {

void Coordinator::Commit(RecordBody body) {
  Record record{now_, std::move(body)};
  NoteSessions(record.body);
  // What a decided round leaves behind is dropped from the reducer.
  if (const auto* r = std::get_if<RoundCommitted>(&record.body)) {
    const FragmentId id = r->commit.fragment;
    recovered_ = false;
    Ask(InstallRound{id, r->commit.round, r->commit.attempt});
    DropUndecided(id, *state_.fragment(id).round);
  } else if (const auto* r = std::get_if<RoundAborted>(&record.body)) {
    DropUndecided(r->fragment, *state_.fragment(r->fragment).round);
  } else if (const auto* r = std::get_if<SessionEnded>(&record.body)) {
    DropOf(r->session);
  } else if (std::holds_alternative<GenerationStarted>(record.body)) {
    notify_all_ = true;
  }
  NoteSlices(record.body);
  Apply(state_, record);
  NoteSlices(record.body);
  DeriveRequests(record.body);
  effects_.records.push_back(std::move(record));
}

// Sessions whose leases or carried rounds this record can change.
void Coordinator::NoteSessions(const RecordBody& body) {
  auto note_round = [this](FragmentId id) {
    for (const auto& [session, c] : state_.fragment(id).round->contributions) {
      check_leases_.insert(session);
      check_carry_.insert(session);
    }
  };
  if (const auto* r = std::get_if<MemberReady>(&body)) {
    check_leases_.insert(r->session);
  } else if (const auto* r = std::get_if<StepsPlanned>(&body)) {
    check_leases_.insert(r->session);
  } else if (const auto* r = std::get_if<ProgressDropped>(&body)) {
    check_leases_.insert(r->session);
  } else if (const auto* r = std::get_if<RoundCommitted>(&body)) {
    note_round(r->commit.fragment);
  } else if (const auto* r = std::get_if<RoundAborted>(&body)) {
    note_round(r->fragment);
    // One more round is wanted than was thought, also of those who came while it was closed.
    for (const auto& [id, session] : state_.sessions) check_leases_.insert(id);
  } else if (const auto* r = std::get_if<RoundClosed>(&body)) {
    note_round(r->fragment);
  }
}

void Coordinator::DropUndecided(FragmentId id, const Round& round) {
  for (const auto& [session, c] : round.contributions) Ask(DropContribution{id, c.id()});
}

// A fenced session's contributions leave their rounds, unless they are sealed.
void Coordinator::DropOf(SessionId session) {
  for (uint64_t i = 0; i < state_.fragments.size(); ++i) {
    const std::optional<Round>& round = state_.fragments[i].round;
    if (!round) continue;
    auto c = round->contributions.find(session);
    if (c != round->contributions.end() && !round->Includes(c->second.id()))
      Ask(DropContribution{FragmentId{i}, c->second.id()});
  }
}

ReduceRound Coordinator::MakeReduceRound(FragmentId id) const {
  const Fragment& f = state_.fragment(id);
  ReduceRound r{.fragment = id,
                .round = f.round->id,
                .attempt = f.round->closing->attempt,
                .divisor = f.round->closing->divisor,
                .version = f.version.Next(),
                .outer_lr_bits = OuterLrBits(f.version.Next()),
                .outer_momentum_bits = OuterMomentumBits(),
                .slices = Cuts(f.elements, config_.reduce.slices)};
  for (const ContributionId& included : f.round->closing->included) {
    r.included.emplace_back(included, f.round->contributions.at(included.session).weight);
  }
  return r;
}

StoreCheckpoint Coordinator::MakeStoreCheckpoint() const {
  LeaseBook leases = state_.leases;
  leases.ReleaseAll();
  ByteWriter bytes;
  leases.Encode(bytes);
  return {state_.cutting, state_.last_round, bytes.Take()};
}

void Coordinator::DeriveRequests(const RecordBody& body) {
  if (const auto* r = std::get_if<ContributionAccepted>(&body)) {
    if (state_.fragment(r->object.id.fragment).round->slices.empty())
      Ask(ExpectContribution{r->object, r->weight});
  } else if (const auto* r = std::get_if<ContributionRefused>(&body)) {
    Ask(DropContribution{r->fragment, r->id});
  } else if (const auto* r = std::get_if<RoundClosed>(&body)) {
    if (state_.fragment(r->fragment).round->slices.empty()) Ask(MakeReduceRound(r->fragment));
  } else if (const auto* r = std::get_if<SliceReady>(&body)) {
    if (state_.fragment(r->fragment).round->AllSlicesReady()) Ask(MakeAssembleRound(r->fragment));
  } else if (const auto* r = std::get_if<WorkerEnrolled>(&body)) {
    Ask(AdmitKey{r->key});
  } else if (const auto* r = std::get_if<InvitationMade>(&body)) {
    Ask(AdmitKey{r->one_off_key, /*invitation=*/true});
  } else if (std::holds_alternative<CheckpointCut>(body)) {
    Ask(MakeStoreCheckpoint());
  } else if (const auto* r = std::get_if<LeaseGranted>(&body)) {
    Notify(r->session);
  } else if (const auto* r = std::get_if<ProgressDropped>(&body)) {
    Notify(r->session);
  } else if (const auto* r = std::get_if<SessionEnded>(&body)) {
    Notify(r->session);  // it learns why
  } else if (const auto* r = std::get_if<RequestOpened>(&body)) {
    Notify(r->session);
  } else if (std::holds_alternative<RoundOpened>(body) ||
             std::holds_alternative<RoundCommitted>(body) ||
             std::holds_alternative<SlicesMoved>(body) ||
             std::holds_alternative<AggregateAssembled>(body) ||
             std::holds_alternative<RoundAborted>(body)) {
    notify_all_ = true;
  } else if (const auto* r = std::get_if<PhaseChanged>(&body)) {
    notify_all_ = true;
    if (r->phase == Phase::kFinished || r->phase == Phase::kStopped) {
      Ask(ShutDown{r->phase == Phase::kFinished && state_.degraded.empty()});
    }
  }
}

void Coordinator::IssueAll() {
  own_slices_changed_ = true;
  for (const auto& [key, worker] : state_.workers) Ask(AdmitKey{key});
  for (const auto& [id, invitation] : state_.invitations)
    Ask(AdmitKey{invitation.one_off_key, /*invitation=*/true});
  for (uint64_t i = 0; i < state_.fragments.size(); ++i) {
    const std::optional<Round>& round = state_.fragments[i].round;
    if (!round) continue;
    if (!round->slices.empty()) {
      if (round->AllSlicesReady()) Ask(MakeAssembleRound(FragmentId{i}));
      continue;
    }
    for (const auto& [session, c] : round->contributions)
      Ask(ExpectContribution{c.object, c.weight});
    if (round->closing) Ask(MakeReduceRound(FragmentId{i}));
  }
  if (state_.phase == Phase::kFinished || state_.phase == Phase::kStopped) {
    Ask(ShutDown{state_.phase == Phase::kFinished && state_.degraded.empty()});
  }
}

}  // namespace longhaul
