// State transitions. No policy here: every choice was made before the record was written.
#include <algorithm>
#include <bit>
#include <utility>

#include "common/check.h"
#include "coordinator/core/coordinator.h"

namespace longhaul {
namespace {

void SetSnapshot(Fragment& f, const ObjectInfo& snapshot) {
  f.snapshot = snapshot;
  f.version = f.oldest_snapshot = snapshot.id.version;
  f.state_hash = snapshot.root;
  f.commits.clear();
  f.hashes = {{f.version, f.state_hash}};
  f.disputes.clear();
}

struct Applier {
  State& s;
  Timestamp now;

  // ---- the run ----

  void operator()(const RunStarted& r) {
    LONGHAUL_CHECK(!s.started, "a run starts once");
    LONGHAUL_CHECK(!r.elements.empty() && r.elements.size() <= kMaxFragments &&
                       r.elements.size() == r.snapshots.size(),
                   "a model has fragments");
    s.started = true;
    s.run_id = r.run_id;
    s.run_config = r.run_config;
    s.generation = r.generation;
    s.data_identity = r.data_identity;
    s.fragments.resize(r.elements.size());
    for (size_t i = 0; i < r.elements.size(); ++i) {
      s.fragments[i].elements = r.elements[i];
      SetSnapshot(s.fragments[i], r.snapshots[i]);
    }
    s.leases = LeaseBook(r.positions, static_cast<uint32_t>(r.elements.size()));
  }

  void operator()(const GenerationStarted& r) {
    LONGHAUL_CHECK(r.snapshots.size() == s.fragments.size(), "a checkpoint has every fragment");
    s.generation = r.generation;
    for (const auto& [id, session] : s.sessions) s.ended[id] = EndReason::kGeneration;
    while (s.ended.size() > kMaxEndedSessions) s.ended.erase(s.ended.begin());
    s.sessions.clear();
    s.ready_sessions = 0;
    for (auto& [key, worker] : s.workers) {
      worker.session = {};
      worker.included.assign(s.fragments.size(), {});
    }
    ByteReader reader(r.leases);
    std::optional<LeaseBook> leases = LeaseBook::Decode(reader);
    LONGHAUL_CHECK(leases && leases->fragments() == s.fragments.size(),
                   "the ledger was checked before it was journaled");
    s.leases = std::move(*leases);
    s.leases.ReleaseAll();
    for (size_t i = 0; i < s.fragments.size(); ++i) {
      s.fragments[i].round.reset();
      s.fragments[i].decided = s.last_round;
      s.fragments[i].reduced_by.clear();
      SetSnapshot(s.fragments[i], r.snapshots[i]);
    }
    s.cutting.clear();
    s.requests.clear();
    s.evaluated.reset();
    s.sampled = false;
    s.frozen_until.reset();
    s.phase = Phase::kWaiting;
    s.reason = "a new generation waits for its workers";
  }

  void operator()(const Restarted& r) {
    for (Fragment& f : s.fragments) {
      if (!f.round) continue;
      f.round->deadline = f.round->deadline + r.grace;
      // What this process had put together, or reduced itself, is made again.
      Disassemble(*f.round);
      for (Slice& slice : f.round->slices) {
        if (slice.reducer.value == 0) slice.attempt = 0;
      }
      if (f.round->quorum_held) f.round->quorum_held = *f.round->quorum_held + r.grace;
    }
    if (s.frozen_until) s.frozen_until = *s.frozen_until + r.grace;
    s.cutting.clear();  // what it was cut from is gone; a new one is cut when one is due
  }

  void operator()(const PhaseChanged& r) {
    if (r.phase == Phase::kWaiting) s.sampled = false;  // a finished run goes on
    s.phase = r.phase;
    s.reason = r.reason;
  }

  void operator()(const ContractBroken& r) { s.degraded = r.reason; }

  // ---- who takes part ----

  void operator()(const InvitationMade& r) {
    s.invitations[r.id] = OpenInvitation{r.one_off_key, r.expires_unix_s, r.uses};
  }
  void operator()(const InvitationRevoked& r) { s.invitations.erase(r.id); }

  void operator()(const WorkerEnrolled& r) {
    EnrolledWorker& worker = s.workers[r.key];
    worker.name = r.name;
    if (worker.number == 0) worker.number = static_cast<uint32_t>(s.workers.size());
    worker.included.resize(s.fragments.size());
    if (r.invitation.empty()) return;
    OpenInvitation& invitation = s.invitations.at(r.invitation);
    LONGHAUL_CHECK(invitation.uses_left > 0, "an invitation is not used more often than it allows");
    --invitation.uses_left;
  }

  void operator()(const SessionOpened& r) {
    LONGHAUL_CHECK(r.session > s.last_session, "session numbers grow");
    EnrolledWorker& worker = s.workers.at(r.key);
    LONGHAUL_CHECK(worker.session.value == 0, "one live session per key");
    worker.session = s.last_session = r.session;
    Session& session = s.sessions[r.session];
    session.key = r.key;
    session.process = r.process;
    session.name = r.name;
    session.fragments.resize(s.fragments.size());
  }

  void operator()(const SessionEnded& r) {
    const Session session = s.sessions.at(r.session);
    s.sessions.erase(r.session);
    if (session.ready) --s.ready_sessions;
    EnrolledWorker& worker = s.workers.at(session.key);
    worker.session = {};
    if (r.reason == EndReason::kSuperseded) {
      if (worker.superseded.size() == kMaxSuperseded)
        worker.superseded.erase(worker.superseded.begin());
      worker.superseded.push_back(session.process);
    }
    s.ended[r.session] = r.reason;
    if (s.ended.size() > kMaxEndedSessions) s.ended.erase(s.ended.begin());
    if (r.reason == EndReason::kBroken || r.reason == EndReason::kSilent)
      s.leases.Blame(r.session, worker.number);
    s.leases.Release(r.session);
    for (auto& [id, request] : s.requests) {
      if (request.session == r.session) request.session = SessionId{0};
    }
    for (Fragment& f : s.fragments) {
      if (!f.round) continue;
      if (f.round->members.contains(r.session)) --f.round->live_members;
      EraseUnsealed(*f.round, r.session);
    }
  }

  void operator()(const MemberReady& r) {
    Session& session = s.sessions.at(r.session);
    LONGHAUL_CHECK(!session.ready, "a session gets ready once");
    session.ready = true;
    ++s.ready_sessions;
  }

  void operator()(const SessionFinishing& r) { s.sessions.at(r.session).finishing = true; }
  void operator()(const StepsPlanned& r) { s.sessions.at(r.session).steps = r.steps; }
  void operator()(const ExpiryFrozen& r) { s.frozen_until = r.until; }
  void operator()(const ExpiryThawed&) { s.frozen_until.reset(); }
  void operator()(const StateDisputed& r) {
    s.fragment(r.fragment).disputes.insert(s.sessions.at(r.session).key);
  }

  // ---- data ----

  void operator()(const LeaseGranted& r) {
    s.last_fence = r.fence;
    s.leases.Grant(r.session, r.fence, r.positions);
  }

  void operator()(const ProgressDropped& r) {
    SessionFragment& f = s.sessions.at(r.session).fragments.at(r.fragment.value);
    for (const LeaseRange& l : f.carried) {
      LONGHAUL_CHECK(s.leases.DropCarried(r.fragment, r.session, l.fence, l.from, l.to),
                     "what is carried is held");
    }
    f.dropped = {r.session, f.last_sequence};
    f.carried_rounds = 0;
    f.carried.clear();
  }

  // ---- rounds ----

  void operator()(const RoundOpened& r) {
    Fragment& f = s.fragment(r.fragment);
    LONGHAUL_CHECK(!f.round && r.round > s.last_round && r.base == f.version,
                   "one round of a fragment at a time, numbers grow");
    s.last_round = r.round;
    Round& round = f.round.emplace();
    round.id = r.round;
    round.base = r.base;
    round.opened = now;
    round.deadline = now + r.time_limit;
    round.time_limit = r.time_limit;
    for (const Member& m : r.members) round.members[m.session] = m.steps;
    round.live_members = r.members.size();
    round.quorum = r.quorum;
    round.quorum_tokens = r.quorum_tokens;
    round.weight_numerator = r.weight_numerator;
    round.weight_denominator = r.weight_denominator;
  }

  void operator()(const ContributionAccepted& r) {
    const ContributionId id = r.object.id.contribution;
    Session& session = s.sessions.at(id.session);
    SessionFragment& owed = session.fragments.at(r.object.id.fragment.value);
    LONGHAUL_CHECK(id.sequence > owed.last_sequence, "contribution numbers grow");
    owed.last_sequence = id.sequence;
    Round& round = *s.fragment(r.object.id.fragment).round;
    const bool is_new = round.contributions
                            .emplace(id.session, Contribution{.object = r.object,
                                                              .key = session.key,
                                                              .leases = r.leases,
                                                              .steps = r.steps,
                                                              .tokens = r.tokens,
                                                              .quorum_tokens = r.quorum_tokens,
                                                              .weight = r.weight,
                                                              .loss_bits = r.loss_bits})
                            .second;
    LONGHAUL_CHECK(is_new, "one undecided contribution per worker and fragment");
  }

  void operator()(const ContributionHeld& r) {
    Round& round = *s.fragment(r.fragment).round;
    Contribution& c = round.contributions.at(r.id.session);
    LONGHAUL_CHECK(c.id() == r.id && !c.held, "a contribution is held once");
    MarkHeld(round, c);
  }

  void operator()(const ContributionRefused& r) {
    auto session = s.sessions.find(r.id.session);
    if (session != s.sessions.end()) ++s.workers.at(session->second.key).failures;
    Fragment& f = s.fragment(r.fragment);
    if (!f.round) return;
    auto c = f.round->contributions.find(r.id.session);
    if (c != f.round->contributions.end() && c->second.id() == r.id)
      EraseUnsealed(*f.round, r.id.session);
  }

  void operator()(const RoundClosed& r) {
    Fragment& f = s.fragment(r.fragment);
    LONGHAUL_CHECK(f.round && f.round->id == r.round, "only the open round closes");
    Round& round = *f.round;
    LONGHAUL_CHECK(r.closing.attempt == (round.closing ? round.closing->attempt : 0) + 1,
                   "attempts are counted");
    if (round.closing) {
      LONGHAUL_CHECK(std::includes(round.closing->included.begin(), round.closing->included.end(),
                                   r.closing.included.begin(), r.closing.included.end()),
                     "a later attempt's list is a subset of the one before");
      const Closing before = *std::exchange(round.closing, r.closing);
      for (const ContributionId& id : before.included) {
        if (!round.Includes(id)) Unseal(r.fragment, round, id);
      }
    } else {
      for (const ContributionId& id : r.closing.included) Seal(r.fragment, round, id);
      round.closing = r.closing;
    }
    Disassemble(round);
    round.deadline = now + round.time_limit;
  }

  void operator()(const RoundCommitted& r) {
    Fragment& f = s.fragment(r.commit.fragment);
    LONGHAUL_CHECK(f.round && f.round->id == r.commit.round && f.round->closing,
                   "a closed round commits");
    LONGHAUL_CHECK(r.commit.version == f.version.Next(), "versions grow by one");
    const Round round = std::move(*f.round);
    f.round.reset();
    longhaul::Commit commit{.view = r.commit};
    double loss = 0;
    for (const auto& [session, c] : round.contributions) {
      if (!round.Includes(c.id())) {
        Carry(r.commit.fragment, c);
        continue;
      }
      Include(r.commit.fragment, c);
      commit.tokens += c.tokens;
      loss += std::bit_cast<double>(c.loss_bits) * static_cast<double>(c.tokens);
      ++commit.contributions;
    }
    commit.loss_bits =
        std::bit_cast<uint64_t>(commit.tokens ? loss / static_cast<double>(commit.tokens) : 0.0);
    f.decided = round.id;
    // Members that are ahead can make a round much shorter than the next one will be.
    f.last_round_time = std::max(now - round.opened, f.last_round_time / 2);
    f.version = r.commit.version;
    f.state_hash = r.commit.state_hash;
    f.hashes[f.version] = f.state_hash;
    f.commits[f.version] = commit;
    f.reduced_by = round.slices;
    for (Slice& slice : f.reduced_by) slice.continues = true;
    f.disputes.clear();
  }

  void operator()(const RoundAborted& r) {
    Fragment& f = s.fragment(r.fragment);
    LONGHAUL_CHECK(f.round && f.round->id == r.round, "only the open round aborts");
    const Round round = std::move(*f.round);
    f.round.reset();
    f.decided = round.id;
    // Who began anew with a slice has its residual no more.
    for (Slice& before : f.reduced_by) {
      before.continues &=
          std::none_of(round.slices.begin(), round.slices.end(),
                       [&](const Slice& s) { return s.reducer == before.reducer && !s.continues; });
    }
    // The next one has more time: else none of them might ever reach its quorum. Without a
    // measured time they have the most anyway.
    if (f.last_round_time > Duration{0})
      f.last_round_time = std::max(f.last_round_time, (now - round.opened) / 2);
    for (const auto& [session, c] : round.contributions) {
      if (round.Includes(c.id())) Unseal(r.fragment, round, c.id());
      Carry(r.fragment, c);
    }
    ++s.aborted_rounds;
  }

  // ---- slices ----

  void operator()(const PeerOffered& r) { s.sessions.at(r.session).peer_address = r.address; }

  void operator()(const LinkMeasured& r) {
    Session& session = s.sessions.at(r.link.session);
    session.up_bytes_per_s = r.link.up_bytes_per_s;
    session.down_bytes_per_s = r.link.down_bytes_per_s;
  }

  void operator()(const SlicesPlaced& r) {
    Round& round = *s.fragment(r.fragment).round;
    LONGHAUL_CHECK(round.id == r.round && round.contributions.empty() && round.slices.empty() &&
                       r.slices.size() <= kMaxSlices,
                   "a round is cut once, before anybody contributes");
    round.slices = r.slices;
  }

  void operator()(const SlicesMoved& r) {
    Round& round = *s.fragment(r.fragment).round;
    LONGHAUL_CHECK(round.id == r.round && !round.assembled, "what is assembled needs no reducer");
    for (const SliceMove& move : r.moves) {
      Slice& slice = round.slices.at(move.slice);
      auto before = s.sessions.find(slice.reducer);
      if (r.poor && before != s.sessions.end()) before->second.poor_reducer = true;
      slice = {.first_chunk = slice.first_chunk, .chunks = slice.chunks, .reducer = move.reducer};
      if (!round.closing) ForgetHeld(round, move.slice);
    }
    ++round.moves;
    round.deadline = now + round.time_limit;
  }

  void operator()(const ContributionCut& r) {
    Round& round = *s.fragment(r.fragment).round;
    Contribution& c = round.contributions.at(r.id.session);
    LONGHAUL_CHECK(c.id() == r.id && r.slices.size() == round.slices.size(),
                   "a contribution is cut as its round is");
    c.slices = r.slices;
  }

  void operator()(const SliceHeld& r) {
    Round& round = *s.fragment(r.fragment).round;
    const uint64_t all = ~uint64_t{0} >> (64 - round.slices.size());
    for (const ContributionId& id : r.contributions) {
      Contribution& c = round.contributions.at(id.session);
      LONGHAUL_CHECK(c.id() == id && !c.held, "a slice of a contribution is held once");
      c.held_slices |= uint64_t{1} << r.slice;
      if (c.held_slices == all) MarkHeld(round, c);
    }
  }

  void operator()(const SliceReady& r) {
    Round& round = *s.fragment(r.fragment).round;
    LONGHAUL_CHECK(round.id == r.round && round.closing && round.closing->attempt == r.attempt,
                   "a slice is ready for the attempt that is made");
    Slice& slice = round.slices.at(r.slice);
    slice.attempt = r.attempt;
    slice.aggregate = r.aggregate;
  }

  void operator()(const AggregateAssembled& r) {
    Round& round = *s.fragment(r.fragment).round;
    LONGHAUL_CHECK(round.id == r.round && round.AllSlicesReady(), "all slices or none");
    round.assembled = Assembled{r.aggregate, r.state_hash, now};
  }

  void operator()(const AggregateStored& r) {
    Round& round = *s.fragment(r.fragment).round;
    LONGHAUL_CHECK(round.id == r.round && round.assembled, "only what is there can be held");
    round.holders.insert(r.holder);
  }

  // ---- checkpoints and requests ----

  void operator()(const CheckpointCut& r) { s.cutting = r.versions; }

  void operator()(const CheckpointStored& r) {
    s.cutting.clear();
    for (size_t i = 0; i < s.fragments.size(); ++i) {
      Fragment& f = s.fragments[i];
      f.snapshot = r.snapshots.at(i);
      f.oldest_snapshot = r.oldest_kept.at(i);
      f.commits.erase(f.commits.begin(), f.commits.upper_bound(f.oldest_snapshot));
      f.hashes.erase(f.hashes.begin(), f.hashes.lower_bound(f.oldest_snapshot));
    }
  }

  void operator()(const RequestOpened& r) {
    s.last_request = std::max(s.last_request, r.request.id);
    if (r.request.kind == RequestKind::kEvaluate) s.evaluated = s.outer_steps();
    if (r.request.kind == RequestKind::kSample) s.sampled = true;
    s.requests[r.request.id] = OpenRequest{r.request, r.session};
  }

  void operator()(const RequestClosed& r) { s.requests.erase(r.request); }

  // ---- parts of the above ----

  void MarkHeld(Round& round, Contribution& c) {
    c.held = true;
    ++round.held;
    round.held_tokens += c.quorum_tokens;
    if (!round.quorum_held && round.held >= round.quorum &&
        round.held_tokens >= round.quorum_tokens) {
      round.quorum_held = now;
    }
  }

  // A new reducer has nothing of this slice.
  static void ForgetHeld(Round& round, uint32_t slice) {
    for (auto& [session, c] : round.contributions) {
      c.held_slices &= ~(uint64_t{1} << slice);
      if (!std::exchange(c.held, false)) continue;
      --round.held;
      round.held_tokens -= c.quorum_tokens;
    }
  }

  static void Disassemble(Round& round) {
    round.assembled.reset();
    round.holders.clear();
  }

  void Seal(FragmentId fragment, const Round& round, const ContributionId& id) {
    const Contribution& c = round.contributions.at(id.session);
    LONGHAUL_CHECK(c.id() == id && c.held, "only complete contributions are included");
    for (const LeaseRange& l : c.leases) {
      LONGHAUL_CHECK(s.leases.Seal(fragment, id.session, l.fence, l.from, l.to),
                     "a closing round seals what is held");
    }
  }

  void Include(FragmentId fragment, const Contribution& c) {
    for (const LeaseRange& l : c.leases)
      LONGHAUL_CHECK(s.leases.Commit(fragment, l.from, l.to), "sealed ranges commit");
    s.workers.at(c.key).included.at(fragment.value) = c.id();
    auto session = s.sessions.find(c.id().session);
    if (session == s.sessions.end()) return;
    SessionFragment& owed = session->second.fragments.at(fragment.value);
    owed.carried_rounds = 0;
    owed.carried.clear();
  }

  void Unseal(FragmentId fragment, const Round& round, const ContributionId& id) {
    for (const LeaseRange& l : round.contributions.at(id.session).leases) {
      LONGHAUL_CHECK(s.leases.Unseal(fragment, id.session, l.fence, l.from, l.to),
                     "an attempt unseals what it sealed");
    }
  }

  // Its round is decided without it: the progress waits for the next one.
  void Carry(FragmentId fragment, const Contribution& c) {
    auto session = s.sessions.find(c.id().session);
    if (session == s.sessions.end()) return;
    SessionFragment& owed = session->second.fragments.at(fragment.value);
    ++owed.carried_rounds;
    owed.carried = c.leases;
  }

  static void EraseUnsealed(Round& round, SessionId session) {
    auto c = round.contributions.find(session);
    if (c == round.contributions.end() || round.Includes(c->second.id())) return;
    if (c->second.held) {
      --round.held;
      round.held_tokens -= c->second.quorum_tokens;
    }
    round.contributions.erase(c);
  }
};

}  // namespace

void Coordinator::Apply(State& state, const Record& record) {
  state.now = record.now;
  std::visit(Applier{state, record.now}, record.body);
}

}  // namespace longhaul
