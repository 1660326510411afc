#include "coordinator/core/coordinator.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "common/check.h"
#include "compression/codec.h"
#include "proto/chunk.h"
#include "sync/weights.h"

namespace longhaul {
namespace {

constexpr int kMaxDecisionsPerStep = 1'000'000;

uint32_t PerMille(double share) { return static_cast<uint32_t>(share * 1000.0 + 0.5); }

}  // namespace

ObjectSize CodedSize(const SyncSection& sync, uint64_t parameters) {
  const auto codec = MakeCodec(*CodecSpecByName(sync.codec, sync.bits));
  ObjectSize size{.varies = !codec->fixed_size()};
  for (uint64_t done = 0; done < parameters; done += kChunkElements) {
    size.bytes += codec->EncodedBytes(std::min(kChunkElements, parameters - done));
    ++size.chunks;
  }
  return size;
}

Coordinator::Coordinator(const RunConfig& config)
    : config_(config),
      positions_per_step_(SamplesPerStep(config)),
      quorum_per_mille_(PerMille(config.round.quorum)),
      patience_per_mille_(PerMille(config.run.patience)),
      grace_per_mille_(PerMille(config.round.grace)) {
  LONGHAUL_CHECK(positions_per_step_ > 0, "a step uses at least one sample");
}

std::optional<Refused> Coordinator::WhyNotLive(SessionId session) const {
  if (state_.sessions.contains(session)) return std::nullopt;
  auto it = state_.ended.find(session);
  if (it != state_.ended.end() && it->second == EndReason::kSuperseded) {
    return Refused{RefusalCode::kSuperseded, "a newer process joined with this key"};
  }
  return Refused{RefusalCode::kFenced, "this session is over; join again"};
}

// Handles one event: checks it against the state, commits records, adds replies.
struct EventHandler {
  Coordinator& c;
  const State& s = c.state_;
  Effects& out = c.effects_;

  void operator()(const BootEvent& e) {
    if (e.restarted) c.Commit(Restarted{Seconds(10) * c.patience_per_mille_ / 1000});
    if (s.phase == Phase::kFinished && s.version.value < c.config_.run.rounds)
      c.Commit(PhaseChanged{Phase::kWaiting, "more rounds are wanted"});
    c.IssueAll();
  }

  void operator()(const TickEvent&) {}

  void operator()(const EnrollEvent& e) {
    auto refuse = [&](RefusalCode code, std::string why) {
      out.replies.push_back({e.reply, Refused{code, why}});
    };
    auto it = s.invitations.find(e.enroll.invitation);
    if (it == s.invitations.end() || !e.one_off_key_used) {
      return refuse(RefusalCode::kInvitationUnknown,
                    "this invitation is not known here (revoked, or of another run)");
    }
    if (!e.signature_valid)
      return refuse(RefusalCode::kBadSignature, "the enrolment's signature does not fit its keys");
    if (!s.workers.contains(e.enroll.key)) {
      if (e.unix_s >= it->second.expires_unix_s) {
        return refuse(RefusalCode::kInvitationExpired,
                      "this invitation has expired; ask for a new one");
      }
      if (it->second.uses_left == 0) {
        return refuse(RefusalCode::kInvitationUsedUp,
                      "this invitation has been used as often as it allows");
      }
      if (s.workers.size() >= kMaxWorkers)
        return refuse(RefusalCode::kFull, "no more workers can enrol");
      c.Commit(WorkerEnrolled{e.enroll.key, e.enroll.name, e.enroll.invitation});
    }
    out.replies.push_back({e.reply, Enrolled{}});
  }

  void operator()(const HelloEvent& e) {
    auto refuse = [&](RefusalCode code, std::string why) {
      out.replies.push_back({e.reply, Refused{code, why}});
    };
    if (!s.workers.contains(e.key))
      return refuse(RefusalCode::kNotEnrolled, "this key is not enrolled in this run");
    if (s.phase == Phase::kFinished || s.phase == Phase::kStopped) {
      return refuse(RefusalCode::kRunOver, "the run is over: " + s.reason);
    }
    const Digest unknown{};
    if (e.hello.data_identity != unknown && e.hello.data_identity != s.data_identity) {
      return refuse(RefusalCode::kWrongData, "this run trains on data " + ToHex(s.data_identity) +
                                                 ", you have " + ToHex(e.hello.data_identity) +
                                                 " (" + e.hello.data_origin + ")");
    }
    for (const auto& [id, session] : s.sessions) {
      if (session.key != e.key) continue;
      if (session.process == e.hello.process) return SendWelcome(e, id);
      c.Commit(SessionEnded{id, EndReason::kSuperseded});
      break;
    }
    c.Commit(SessionOpened{s.last_session.Next(), e.key, e.hello.process, e.hello.name});
    SendWelcome(e, s.last_session);
  }

  void SendWelcome(const HelloEvent& e, SessionId session) {
    const Duration beat = Milliseconds(1000);
    out.replies.push_back(
        {e.reply, Welcome{.session = session,
                          .process = e.hello.process,
                          .config = c.config_,
                          .data_identity = s.data_identity,
                          .parameters = s.parameters,
                          .heartbeat_every = beat,
                          .silence_limit = 10 * beat * c.patience_per_mille_ / 1000}});
    out.notify.push_back(session);
  }

  void operator()(const StatedEvent& e) {
    auto session = s.sessions.find(e.session);
    if (session == s.sessions.end()) return;
    if (e.fragment.version > s.version) {
      out.fatal = "worker " + session->second.name + " holds version " +
                  std::to_string(e.fragment.version.value) +
                  " of this generation, but the journal ends at version " +
                  std::to_string(s.version.value) +
                  ": the journal has lost its end. Start a new generation from a checkpoint: "
                  "longhaul coordinator run.toml --set run.output_dir=NEW --resume CHECKPOINT";
      return;
    }
    auto hash = s.hashes.find(e.fragment.version);
    if (hash == s.hashes.end()) return;  // older than all that is kept: it will load a snapshot
    if (hash->second != e.fragment.state_hash)
      return c.Commit(SessionEnded{e.session, EndReason::kBroken});
    if (!session->second.ready) c.Commit(MemberReady{e.session});
  }

  void operator()(const ContributionEvent& e) {
    if (!s.round || e.ready.round != s.round->id || s.round->closing)
      return;                                     // decided or not known: the next
    if (!s.sessions.contains(e.session)) return;  // Assignment tells the worker
    const ContributionId id = e.ready.object.id.contribution;
    if (s.round->contributions.contains(id)) return;
    if (!std::isfinite(e.ready.loss)) return Refuse(e.session, id, "its loss is not finite");
    if (std::string why = c.CheckContribution(e.session, e.ready); !why.empty())
      return Refuse(e.session, id, why);
    const uint64_t tokens = e.ready.steps * c.positions_per_step_ * kSampleTokens;
    const uint64_t raw = c.config_.sync.weights == "equal" ? 1 : tokens;
    c.Commit(ContributionAccepted{
        .object = e.ready.object,
        .leases = e.ready.leases,
        .steps = e.ready.steps,
        .tokens = tokens,
        .weight = ScaledWeight(raw, {s.round->weight_numerator, s.round->weight_denominator}),
        .loss_bits = std::bit_cast<uint64_t>(e.ready.loss)});
  }

  // One failure is counted, the session is fenced, and the worker starts again from the global
  // parameters.
  void Refuse(SessionId session, const ContributionId& id, const std::string& why) {
    c.Commit(ContributionRefused{id, why});
    if (s.sessions.contains(session)) c.Commit(SessionEnded{session, EndReason::kBroken});
  }

  void operator()(const HeldEvent& e) {
    if (!s.round) return;
    auto it = s.round->contributions.find(e.id);
    if (it != s.round->contributions.end() && !it->second.held) c.Commit(ContributionHeld{e.id});
  }

  void operator()(const RefusedEvent& e) {
    if (s.round && s.round->contributions.contains(e.id) && !s.round->closing)
      Refuse(e.id.session, e.id, e.reason);
  }

  void operator()(const PreparedEvent& e) {
    if (!s.round || s.round->id != e.round || !s.round->closing ||
        s.round->closing->attempt != e.attempt)
      return;
    c.Commit(RoundCommitted{CommitView{
        .round = e.round,
        .attempt = e.attempt,
        .fragment = FragmentId{0},
        .version = s.version.Next(),
        .aggregate = e.aggregate,
        .outer_lr_bits = std::bit_cast<uint32_t>(static_cast<float>(c.config_.sync.outer_lr)),
        .outer_momentum_bits =
            std::bit_cast<uint32_t>(static_cast<float>(c.config_.sync.outer_momentum)),
        .state_hash = e.state_hash}});
  }

  void operator()(const CheckpointEvent& e) {
    if (s.snapshot.id.version < e.snapshot.id.version)
      c.Commit(CheckpointStored{e.snapshot, e.oldest_kept});
  }

  void operator()(const RequestDoneEvent& e) {
    auto it = s.requests.find(e.done.request);
    if (it == s.requests.end() || it->second.session != e.session) return;
    c.Commit(RequestClosed{e.done.request, e.done.loss, e.done.tokens, e.done.text, e.done.error});
  }

  void operator()(const LeaveEvent& e) {
    if (s.sessions.contains(e.session)) c.Commit(SessionEnded{e.session, EndReason::kLeft});
  }

  void operator()(const SilentEvent& e) {
    if (s.sessions.contains(e.session)) c.Commit(SessionEnded{e.session, EndReason::kSilent});
  }

  void operator()(const InviteEvent& e) {
    std::string error;
    if (s.invitations.size() >= kMaxInvitations) {
      error = "there are too many invitations; revoke some";
    } else if (!s.invitations.contains(e.id)) {
      c.Commit(InvitationMade{e.id, e.one_off_key, e.expires_unix_s, e.uses});
    }
    if (e.reply) out.replies.push_back({*e.reply, AdminDone{error}});
  }

  void operator()(const RevokeEvent& e) {
    auto it = s.invitations.find(e.invitation);
    const bool known = it != s.invitations.end();
    if (known) {
      out.requests.push_back(ExpelKey{it->second.one_off_key});
      c.Commit(InvitationRevoked{e.invitation});
    }
    if (e.reply) out.replies.push_back({*e.reply, AdminDone{known ? "" : "no such invitation"}});
  }

  void operator()(const AllowEvent& e) {
    if (!s.workers.contains(e.key)) c.Commit(WorkerEnrolled{e.key, e.name, ""});
  }
};

Effects Coordinator::Step(const Event& event) {
  effects_ = {};
  now_ = std::max(event.now, state_.now);
  std::visit(EventHandler{*this}, event.body);
  for (int i = 0; effects_.fatal.empty(); ++i) {
    LONGHAUL_CHECK(i < kMaxDecisionsPerStep, "decisions come to an end");
    std::optional<RecordBody> next = Decide();
    if (!next) break;
    Commit(std::move(*next));
  }
  effects_.wake = NextWake();
  return std::move(effects_);
}

std::string Coordinator::CheckContribution(SessionId id, const ContributionReady& ready) const {
  const Round& round = *state_.round;
  const Session& session = state_.sessions.at(id);
  const ObjectId& object = ready.object.id;
  if (!round.members.contains(id)) return "not a member of this round";
  if (object.kind != ObjectKind::kContribution || object.generation != state_.generation ||
      object.contribution.session != id || object.version != round.base ||
      object.fragment != FragmentId{0}) {
    return "it is named wrongly";
  }
  if (object.contribution.sequence <= session.last_sequence) return "its number was used before";
  for (const auto& [other, c] : round.contributions) {
    if (other.session == id) return "a second contribution to one round";
  }
  if (ready.base_hash != state_.state_hash) return "its base is not the current state";
  const ObjectSize size = CodedSize(config_.sync, state_.parameters);
  if (ready.object.chunks != size.chunks || ready.object.bytes > size.bytes ||
      (!size.varies && ready.object.bytes != size.bytes))
    return "its size is wrong";
  uint64_t positions = 0;
  for (const LeaseRange& l : ready.leases) {
    if (!state_.ledger.Holds(id, l.fence, l.from, l.to))
      return "it names data that is not leased to it";
    positions += l.to - l.from;
  }
  if (ready.steps == 0 || positions != ready.steps * positions_per_step_)
    return "steps and data do not fit";
  return "";
}

void Coordinator::Commit(RecordBody body) {
  Record record{now_, std::move(body)};
  // Requests that concern what the record removes are derived before it is applied.
  const std::optional<Round> before = state_.round;
  Apply(state_, record);
  if (before && !state_.round) {
    const bool committed = std::holds_alternative<RoundCommitted>(record.body);
    if (committed) effects_.requests.push_back(InstallRound{before->id, before->closing->attempt});
    for (const auto& [id, c] : before->contributions)
      effects_.requests.push_back(DropContribution{id});
    if (committed && CheckpointDue()) effects_.requests.push_back(StoreCheckpoint{state_.version});
  }
  DeriveRequests(record.body);
  effects_.records.push_back(std::move(record));
}

ReduceRound Coordinator::MakeReduceRound(const Round& round) const {
  ReduceRound r{.round = round.id,
                .attempt = round.closing->attempt,
                .divisor = round.closing->divisor,
                .version = state_.version.Next(),
                .outer_lr_bits = std::bit_cast<uint32_t>(static_cast<float>(config_.sync.outer_lr)),
                .outer_momentum_bits =
                    std::bit_cast<uint32_t>(static_cast<float>(config_.sync.outer_momentum))};
  for (const ContributionId& id : round.closing->included) {
    r.included.emplace_back(id, round.contributions.at(id).weight);
  }
  return r;
}

void Coordinator::DeriveRequests(const RecordBody& body) {
  auto notify_all = [this] {
    for (const auto& [id, session] : state_.sessions) effects_.notify.push_back(id);
  };
  if (const auto* r = std::get_if<ContributionAccepted>(&body)) {
    effects_.requests.push_back(ExpectContribution{r->object, r->weight});
  } else if (const auto* r = std::get_if<ContributionRefused>(&body)) {
    effects_.requests.push_back(DropContribution{r->id});
  } else if (std::holds_alternative<RoundClosed>(body)) {
    effects_.requests.push_back(MakeReduceRound(*state_.round));
  } else if (const auto* r = std::get_if<WorkerEnrolled>(&body)) {
    effects_.requests.push_back(AdmitKey{r->key});
  } else if (const auto* r = std::get_if<InvitationMade>(&body)) {
    effects_.requests.push_back(AdmitKey{r->one_off_key, /*invitation=*/true});
  } else if (const auto* r = std::get_if<LeaseGranted>(&body)) {
    effects_.notify.push_back(r->session);
  } else if (const auto* r = std::get_if<ProgressDropped>(&body)) {
    effects_.notify.push_back(r->session);
  } else if (const auto* r = std::get_if<SessionEnded>(&body)) {
    effects_.notify.push_back(r->session);  // it learns why
  } else if (const auto* r = std::get_if<RequestOpened>(&body)) {
    effects_.notify.push_back(r->session);
  } else if (std::holds_alternative<RoundOpened>(body) ||
             std::holds_alternative<RoundCommitted>(body) ||
             std::holds_alternative<RoundAborted>(body)) {
    notify_all();
  } else if (const auto* r = std::get_if<PhaseChanged>(&body)) {
    notify_all();
    if (r->phase == Phase::kFinished || r->phase == Phase::kStopped) {
      effects_.requests.push_back(ShutDown{r->phase == Phase::kFinished});
    }
  }
}

void Coordinator::IssueAll() {
  for (const auto& [key, worker] : state_.workers) effects_.requests.push_back(AdmitKey{key});
  for (const auto& [id, invitation] : state_.invitations) {
    effects_.requests.push_back(AdmitKey{invitation.one_off_key, /*invitation=*/true});
  }
  if (CheckpointDue()) effects_.requests.push_back(StoreCheckpoint{state_.version});
  if (state_.round) {
    for (const auto& [id, c] : state_.round->contributions) {
      effects_.requests.push_back(ExpectContribution{c.object, c.weight});
    }
    if (state_.round->closing) effects_.requests.push_back(MakeReduceRound(*state_.round));
  }
  if (state_.phase == Phase::kFinished || state_.phase == Phase::kStopped) {
    effects_.requests.push_back(ShutDown{state_.phase == Phase::kFinished});
  }
}

Assignment Coordinator::AssignmentFor(SessionId id, std::optional<Version> stated) const {
  const Session& session = state_.sessions.at(id);
  Assignment a{.phase = state_.phase, .reason = state_.reason};
  a.current.push_back({FragmentId{0}, state_.version, state_.state_hash});
  a.snapshots.push_back(state_.snapshot);
  Version known = state_.snapshot.id.version;
  if (stated && *stated >= state_.oldest_snapshot) known = *stated;
  for (auto it = state_.commits.upper_bound(known); it != state_.commits.end(); ++it) {
    if (a.commits.size() == kMaxCommitsPerMessage) break;
    a.commits.push_back(it->second.view);
  }
  if (state_.round && state_.round->members.contains(id) && !state_.round->closing) {
    a.rounds.push_back(
        {state_.round->id, FragmentId{0}, state_.round->base, config_.sync.inner_steps});
  }
  a.outcomes.push_back({FragmentId{0}, state_.decided, state_.workers.at(session.key).included});
  for (const Ledger::Range& range : state_.ledger.LeasesOf(id)) {
    if (a.leases.size() == kMaxLeasesPerMessage) break;
    a.leases.push_back({range.fence, range.from, range.to});
  }
  for (const auto& [request_id, open] : state_.requests) {
    if (open.session == id && a.requests.size() < kMaxRequestsPerMessage)
      a.requests.push_back(open.request);
  }
  return a;
}

}  // namespace longhaul
