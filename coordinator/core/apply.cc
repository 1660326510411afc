// State transitions. No policy here: every choice was made before the record was written.
#include <algorithm>
#include <bit>

#include "common/check.h"
#include "coordinator/core/coordinator.h"

namespace longhaul {
namespace {

// Ranges of a session that no longer lives, after they were unsealed.
void ReturnOrphans(State& s, SessionId session) {
  if (!s.sessions.contains(session)) s.ledger.Return(session);
}

void ForgetRound(State& s, const Round& round) {
  s.decided = round.id;
  s.round.reset();
}

struct Applier {
  State& s;
  Timestamp now;

  void operator()(const RunStarted& r) {
    LONGHAUL_CHECK(!s.started, "a run starts once");
    s.started = true;
    s.run_id = r.run_id;
    s.generation = r.generation;
    s.parameters = r.parameters;
    s.data_identity = r.data_identity;
    s.ledger = Ledger(r.positions);
    SetSnapshot(r.snapshot);
  }

  void operator()(const GenerationStarted& r) {
    s.generation = r.generation;
    for (const auto& [id, session] : s.sessions) s.ended[id] = EndReason::kGeneration;
    s.sessions.clear();
    for (auto& [key, worker] : s.workers) worker.included = {};
    s.round.reset();
    s.decided = s.last_round;
    s.commits.clear();
    s.hashes.clear();
    s.requests.clear();
    s.evaluated.reset();
    s.sampled = false;
    s.phase = Phase::kWaiting;
    ByteReader reader(r.ledger);
    auto ledger = Ledger::Decode(reader);
    LONGHAUL_CHECK(ledger.has_value(), "the ledger was checked before it was journaled");
    s.ledger = std::move(*ledger);
    SetSnapshot(r.snapshot);
  }

  void operator()(const Restarted& r) {
    if (!s.round) return;
    s.round->deadline = s.round->deadline + r.grace;
    if (s.round->quorum_held) s.round->quorum_held = *s.round->quorum_held + r.grace;
  }

  void operator()(const InvitationMade& r) {
    s.invitations[r.id] = OpenInvitation{r.one_off_key, r.expires_unix_s, r.uses};
  }
  void operator()(const InvitationRevoked& r) { s.invitations.erase(r.id); }

  void operator()(const WorkerEnrolled& r) {
    s.workers[r.key].name = r.name;
    if (r.invitation.empty()) return;
    OpenInvitation& invitation = s.invitations.at(r.invitation);
    LONGHAUL_CHECK(invitation.uses_left > 0, "an invitation is not used more often than it allows");
    --invitation.uses_left;
  }

  void operator()(const SessionOpened& r) {
    s.last_session = r.session;
    s.sessions[r.session] = Session{.key = r.key, .process = r.process, .name = r.name};
  }

  void operator()(const SessionEnded& r) {
    s.sessions.erase(r.session);
    s.ended[r.session] = r.reason;
    if (s.ended.size() > kMaxEndedSessions) s.ended.erase(s.ended.begin());
    s.ledger.Return(r.session);
    for (auto& [id, request] : s.requests) {
      if (request.session == r.session) request.session = SessionId{0};
    }
    if (!s.round) return;
    std::erase_if(s.round->contributions, [&](const auto& entry) {
      return entry.first.session == r.session && !IsSealed(*s.round, entry.first);
    });
  }

  void operator()(const MemberReady& r) { s.sessions.at(r.session).ready = true; }

  void operator()(const LeaseGranted& r) {
    s.last_fence = r.fence;
    for (const Ledger::Range& range : s.ledger.Grant(r.session, r.fence, r.positions)) {
      s.sessions.at(r.session).leased_positions += range.to - range.from;
    }
  }

  void operator()(const ProgressDropped& r) {
    s.ledger.Return(r.session);
    Session& session = s.sessions.at(r.session);
    session.leased_positions = 0;
    session.carried_rounds = 0;
  }

  void operator()(const RoundOpened& r) {
    LONGHAUL_CHECK(!s.round && r.round > s.last_round && r.base == s.version,
                   "one round at a time, numbers grow");
    s.last_round = r.round;
    s.round = Round{.id = r.round,
                    .base = r.base,
                    .opened = now,
                    .deadline = now + r.time_limit,
                    .members = {r.members.begin(), r.members.end()},
                    .quorum = r.quorum,
                    .weight_numerator = r.weight_numerator,
                    .weight_denominator = r.weight_denominator};
  }

  void operator()(const ContributionAccepted& r) {
    const ContributionId id = r.object.id.contribution;
    Session& session = s.sessions.at(id.session);
    session.last_sequence = id.sequence;
    s.round->contributions[id] = Contribution{.object = r.object,
                                              .key = session.key,
                                              .leases = r.leases,
                                              .steps = r.steps,
                                              .tokens = r.tokens,
                                              .weight = r.weight,
                                              .loss_bits = r.loss_bits};
  }

  void operator()(const ContributionHeld& r) {
    s.round->contributions.at(r.id).held = true;
    auto held = std::count_if(s.round->contributions.begin(), s.round->contributions.end(),
                              [](const auto& entry) { return entry.second.held; });
    if (!s.round->quorum_held && static_cast<uint32_t>(held) >= s.round->quorum)
      s.round->quorum_held = now;
  }

  void operator()(const ContributionRefused& r) {
    auto session = s.sessions.find(r.id.session);
    if (session != s.sessions.end()) ++s.workers.at(session->second.key).failures;
    if (s.round) s.round->contributions.erase(r.id);
  }

  void operator()(const RoundClosed& r) {
    LONGHAUL_CHECK(s.round && s.round->id == r.round, "only the open round closes");
    for (const ContributionId& id : r.closing.included) {
      const Contribution& c = s.round->contributions.at(id);
      LONGHAUL_CHECK(c.held, "only complete contributions are included");
      for (const LeaseRange& l : c.leases) {
        LONGHAUL_CHECK(s.ledger.Seal(id.session, l.fence, l.from, l.to),
                       "a closing round seals what is held");
      }
    }
    s.round->closing = r.closing;
  }

  void operator()(const RoundCommitted& r) {
    LONGHAUL_CHECK(s.round && s.round->id == r.commit.round && s.round->closing,
                   "a closed round commits");
    LONGHAUL_CHECK(r.commit.version == s.version.Next(), "versions grow by one");
    longhaul::Commit commit{.view = r.commit};
    double loss = 0;
    for (const ContributionId& id : s.round->closing->included) {
      const Contribution& c = s.round->contributions.at(id);
      CommitLeases(id, c);
      s.workers.at(c.key).included = id;
      commit.tokens += c.tokens;
      loss += std::bit_cast<double>(c.loss_bits) * static_cast<double>(c.tokens);
      ++commit.contributions;
    }
    commit.loss_bits =
        std::bit_cast<uint64_t>(commit.tokens ? loss / static_cast<double>(commit.tokens) : 0.0);
    for (const auto& [id, c] : s.round->contributions) {
      if (!IsSealed(*s.round, id)) Carry(id.session);
    }
    s.last_round_time = now - s.round->opened;
    s.version = r.commit.version;
    s.state_hash = r.commit.state_hash;
    s.hashes[s.version] = s.state_hash;
    s.commits[s.version] = commit;
    ForgetRound(s, *s.round);
  }

  void operator()(const RoundAborted& r) {
    LONGHAUL_CHECK(s.round && s.round->id == r.round, "only the open round aborts");
    Round round = *s.round;
    if (round.closing) {
      for (const ContributionId& id : round.closing->included) {
        for (const LeaseRange& l : round.contributions.at(id).leases)
          s.ledger.Unseal(id.session, l.fence, l.from, l.to);
        ReturnOrphans(s, id.session);
      }
    }
    for (const auto& [id, c] : round.contributions) Carry(id.session);
    ++s.aborted_rounds;
    ForgetRound(s, round);
  }

  void operator()(const CheckpointStored& r) {
    s.snapshot = r.snapshot;
    s.oldest_snapshot = r.oldest_kept;
    s.commits.erase(s.commits.begin(), s.commits.upper_bound(r.oldest_kept));
    s.hashes.erase(s.hashes.begin(), s.hashes.lower_bound(r.oldest_kept));
  }

  void operator()(const RequestOpened& r) {
    s.last_request = std::max(s.last_request, r.request.id);
    if (r.request.kind == RequestKind::kEvaluate) s.evaluated = r.request.version;
    if (r.request.kind == RequestKind::kSample) s.sampled = true;
    s.requests[r.request.id] = OpenRequest{r.request, r.session};
  }

  void operator()(const RequestClosed& r) { s.requests.erase(r.request); }

  void operator()(const PhaseChanged& r) {
    if (r.phase == Phase::kWaiting) s.sampled = false;  // a finished run goes on
    s.phase = r.phase;
    s.reason = r.reason;
  }

  static bool IsSealed(const Round& round, const ContributionId& id) {
    return round.closing &&
           std::binary_search(round.closing->included.begin(), round.closing->included.end(), id);
  }

  // Its contribution is decided and was not included: the progress waits for the next one.
  void Carry(SessionId id) {
    auto session = s.sessions.find(id);
    if (session != s.sessions.end()) ++session->second.carried_rounds;
  }

  void CommitLeases(const ContributionId& id, const Contribution& c) {
    auto session = s.sessions.find(id.session);
    for (const LeaseRange& l : c.leases) {
      LONGHAUL_CHECK(s.ledger.Commit(l.from, l.to), "sealed ranges commit");
      if (session != s.sessions.end()) session->second.leased_positions -= l.to - l.from;
    }
    if (session != s.sessions.end()) session->second.carried_rounds = 0;
  }

  void SetSnapshot(const ObjectInfo& snapshot) {
    s.snapshot = snapshot;
    s.version = snapshot.id.version;
    s.oldest_snapshot = s.version;
    s.state_hash = snapshot.root;
    s.hashes = {{s.version, s.state_hash}};
  }
};

}  // namespace

void Coordinator::Apply(State& state, const Record& record) {
  state.now = record.now;
  std::visit(Applier{state, record.now}, record.body);
}

}  // namespace longhaul
