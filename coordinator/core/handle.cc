// What an event means: checked against the state, it becomes records, answers, or nothing.
#include <algorithm>
#include <bit>
#include <cmath>

#include "common/check.h"
#include "coordinator/core/coordinator.h"
#include "sync/weights.h"

namespace longhaul {
namespace {

constexpr Duration kHeartbeatEvery = Seconds(1);
// So many at once, and more than a third of the members: the fault is taken to be ours.
constexpr uint64_t kManySilent = 3;
constexpr size_t kMaxPeerAddress = 256;
constexpr int kFreezeSilences = 3;  // for so many times the silence limit, at most

}  // namespace

struct EventHandler {
  Coordinator& c;
  const State& s = c.state_;
  Effects& out = c.effects_;

  void operator()(const BootEvent& e) {
    c.recovered_ = e.restarted;
    if (e.restarted) c.Commit(Restarted{SilenceLimit()});
    if (s.phase == Phase::kFinished && !c.AllRoundsDone() && !c.DataUsedUp())
      c.Commit(PhaseChanged{Phase::kWaiting, "more rounds are wanted"});
    c.IssueAll();
  }

  void operator()(const TickEvent&) {}

  // ---- who takes part ----

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
    auto worker = s.workers.find(e.key);
    if (worker == s.workers.end())
      return refuse(RefusalCode::kNotEnrolled, "this key is not enrolled in this run");
    if (s.phase == Phase::kFinished || s.phase == Phase::kStopped)
      return refuse(RefusalCode::kRunOver, "the run is over: " + s.reason);
    const Digest unknown{};
    if (e.hello.data_identity != unknown && e.hello.data_identity != s.data_identity) {
      return refuse(RefusalCode::kWrongData, "this run trains on data " + ToHex(s.data_identity) +
                                                 ", you have " + ToHex(e.hello.data_identity) +
                                                 " (" + e.hello.data_origin + ")");
    }
    const std::vector<ProcessId>& superseded = worker->second.superseded;
    if (std::find(superseded.begin(), superseded.end(), e.hello.process) != superseded.end())
      return refuse(RefusalCode::kSuperseded, "a newer process joined with this key");
    const SessionId live = worker->second.session;
    const bool same = live.value != 0 && s.sessions.at(live).process == e.hello.process;
    if (live.value != 0 && !same) c.Commit(SessionEnded{live, EndReason::kSuperseded});
    if (!same) c.Commit(SessionOpened{s.last_session.Next(), e.key, e.hello.process, e.hello.name});
    const SessionId session = same ? live : s.last_session;
    if (c.WorkersReduce() && s.sessions.at(session).peer_address != e.hello.peer_address &&
        e.hello.peer_address.size() <= kMaxPeerAddress)
      c.Commit(PeerOffered{session, e.hello.peer_address});
    SendWelcome(e, session);
  }

  Duration SilenceLimit() const {
    return kSilentBeats * kHeartbeatEvery * c.patience_per_mille_ / 1000;
  }

  void SendWelcome(const HelloEvent& e, SessionId session) {
    out.replies.push_back({e.reply, Welcome{.session = session,
                                            .process = e.hello.process,
                                            .config = c.config_,
                                            .data_identity = s.data_identity,
                                            .parameters = s.parameters(),
                                            .heartbeat_every = kHeartbeatEvery,
                                            .silence_limit = SilenceLimit(),
                                            .keep_residual = KeepsResidual(e)}});
    c.Notify(session);
  }

  // A new process may keep the residual of its own snapshot only if no contribution sent after it
  // was or can still be included (DESIGN 5).
  bool KeepsResidual(const HelloEvent& e) const {
    const std::vector<ContributionId>& included = s.workers.at(e.key).included;
    if (e.hello.saved_generation != s.generation || e.hello.saved_included != included)
      return false;
    return std::none_of(s.fragments.begin(), s.fragments.end(), [&](const Fragment& f) {
      return f.round && std::any_of(f.round->contributions.begin(), f.round->contributions.end(),
                                    [&](const auto& c) { return c.second.key == e.key; });
    });
  }

  void operator()(const LeaveEvent& e) {
    auto session = s.sessions.find(e.session);
    if (session == s.sessions.end()) return Ignore(e.session, "its session is over");
    if (!e.hand_in) return c.Commit(SessionEnded{e.session, EndReason::kLeft});
    if (!session->second.finishing) c.Commit(SessionFinishing{e.session});
  }

  // DESIGN 5: when many fall silent at once it is our link, not theirs.
  void operator()(const SilentEvent& e) {
    std::vector<SessionId> silent;
    for (SessionId id : e.sessions) {
      if (s.sessions.contains(id)) silent.push_back(id);
    }
    if (s.frozen_until && c.now_ < *s.frozen_until && !silent.empty()) return;
    const bool many = silent.size() >= kManySilent && silent.size() * 3 > s.sessions.size();
    if (many && !s.frozen_until)
      return c.Commit(ExpiryFrozen{c.now_ + kFreezeSilences * SilenceLimit()});
    if (s.frozen_until) c.Commit(ExpiryThawed{});
    for (SessionId id : silent) c.Commit(SessionEnded{id, EndReason::kSilent});
  }

  void operator()(const LateEvent& e) { c.late_ = {e.sessions.begin(), e.sessions.end()}; }

  void operator()(const StatedEvent& e) {
    auto session = s.sessions.find(e.session);
    if (session == s.sessions.end()) return;
    size_t known = 0;
    for (const FragmentState& stated : e.fragments) {
      if (stated.fragment.value >= s.fragments.size())
        return Ignore(e.session, "it states a fragment that does not exist");
      const Fragment& f = s.fragment(stated.fragment);
      if (stated.version > f.version) return StatesTheFuture(session->first, stated);
      auto hash = f.hashes.find(stated.version);
      if (hash == f.hashes.end()) continue;  // older than all that is kept: it loads a snapshot
      if (hash->second != stated.state_hash) return Dispute(e.session, stated);
      ++known;
    }
    if (known == s.fragments.size() && !session->second.ready) c.Commit(MemberReady{e.session});
  }

  // Right after a recovery this proves that the journal has lost its end; otherwise the worker is
  // wrong.
  void StatesTheFuture(SessionId id, const FragmentState& stated) {
    if (!c.recovered_) return c.Commit(SessionEnded{id, EndReason::kBroken});
    const Version ours = s.fragment(stated.fragment).version;
    out.fatal = "worker " + s.sessions.at(id).name + " holds version " +
                std::to_string(stated.version.value) +
                " of this generation, but the journal ends at version " +
                std::to_string(ours.value) +
                ": the journal has lost its end. Start a new generation from a checkpoint: "
                "longhaul coordinator run.toml --set run.output_dir=NEW --resume CHECKPOINT";
  }

  void Dispute(SessionId id, const FragmentState& stated) {
    const Fragment& f = s.fragment(stated.fragment);
    const uint64_t live = s.sessions.size();
    if (stated.version == f.version) c.Commit(StateDisputed{id, stated.fragment});
    c.Commit(SessionEnded{id, EndReason::kBroken});
    if (f.disputes.size() >= 2 && f.disputes.size() * 2 > live)
      c.Commit(PhaseChanged{Phase::kStopped, "most workers hold another state of version " +
                                                 std::to_string(f.version.value) +
                                                 " than the coordinator"});
  }

  void operator()(const PlanEvent& e) {
    for (const Member& m : e.steps) {
      auto session = s.sessions.find(m.session);
      if (session != s.sessions.end() && session->second.steps != m.steps && m.steps > 0)
        c.Commit(StepsPlanned{m.session, m.steps});
    }
  }

  void operator()(const LinksEvent& e) {
    for (const LinkRates& link : e.links) {
      if (s.sessions.contains(link.session) && link.up_bytes_per_s > 0 && link.down_bytes_per_s > 0)
        c.Commit(LinkMeasured{link});
    }
  }

  // ---- rounds ----

  void Ignore(SessionId session, std::string why) {
    out.ignored.push_back({session, std::move(why)});
  }

  void operator()(const ContributionEvent& e) {
    if (!s.sessions.contains(e.session)) return Ignore(e.session, "its session is over");
    const ContributionId id = e.ready.object.id.contribution;
    const FragmentId fragment = e.ready.object.id.fragment;
    if (fragment.value >= s.fragments.size())
      return Ignore(e.session, "it is for a fragment that does not exist");
    const std::optional<Round>& round = s.fragment(fragment).round;
    if (!round || e.ready.round != round->id || round->closing)
      return Ignore(e.session, "its round is decided or not known");  // the next Assignment tells
    auto before = round->contributions.find(e.session);
    if (before != round->contributions.end()) {
      if (before->second.object == e.ready.object) return;  // said again
      // Two to one round: it contradicts itself, and what it holds is not what we think it does.
      return c.Commit(SessionEnded{e.session, EndReason::kBroken});
    }
    if (std::string why = c.CheckContribution(e.session, e.ready); !why.empty())
      return Ignore(e.session, why);
    if (!std::isfinite(e.ready.loss)) return Refuse(fragment, id, "its loss is not finite");
    Accept(e, *round);
  }

  void Accept(const ContributionEvent& e, const Round& round) {
    const uint64_t tokens = e.ready.steps * c.TokensPerStep();
    // Who hands in what it has counts with what it was planned to do.
    const uint64_t planned = round.members.at(e.session) * c.TokensPerStep();
    const bool finishing = s.sessions.at(e.session).finishing;
    c.Commit(ContributionAccepted{
        .object = e.ready.object,
        .leases = e.ready.leases,
        .steps = e.ready.steps,
        .tokens = tokens,
        .quorum_tokens = finishing ? std::max(tokens, planned) : tokens,
        .weight = ScaledWeight(c.RawWeightOf(e.ready.steps),
                               {round.weight_numerator, round.weight_denominator}),
        .loss_bits = std::bit_cast<uint64_t>(e.ready.loss)});
    if (!round.slices.empty()) {
      c.Commit(ContributionCut{e.ready.object.id.fragment, e.ready.object.id.contribution,
                               e.ready.slices});
    }
  }

  // Refused content: one failure is counted, the session is fenced, and the worker starts again
  // from the global parameters.
  void Refuse(FragmentId fragment, const ContributionId& id, const std::string& why) {
    c.Commit(ContributionRefused{fragment, id, why});
    if (s.sessions.contains(id.session)) c.Commit(SessionEnded{id.session, EndReason::kBroken});
  }

  const Contribution* Find(FragmentId fragment, const ContributionId& id) const {
    if (fragment.value >= s.fragments.size()) return nullptr;
    const std::optional<Round>& round = s.fragment(fragment).round;
    if (!round) return nullptr;
    auto it = round->contributions.find(id.session);
    return it != round->contributions.end() && it->second.id() == id ? &it->second : nullptr;
  }

  void operator()(const HeldEvent& e) {
    const Contribution* held = Find(e.fragment, e.id);
    if (held && !held->held) c.Commit(ContributionHeld{e.fragment, e.id});
  }

  void operator()(const RefusedEvent& e) {
    const Contribution* refused = Find(e.fragment, e.id);
    if (refused && !s.fragment(e.fragment).round->closing) Refuse(e.fragment, e.id, e.reason);
  }

  // The next attempt goes without them; their progress is carried.
  void operator()(const LostEvent& e) {
    if (e.fragment.value >= s.fragments.size()) return;
    const std::optional<Round>& round = s.fragment(e.fragment).round;
    if (!round || round->id != e.round || !round->closing || round->closing->attempt != e.attempt)
      return;
    Lose(e.fragment, *round, e.contributions);
  }

  void Lose(FragmentId fragment, const Round& in, const std::vector<ContributionId>& lost) {
    const Round* round = &in;
    Closing next{.attempt = round->closing->attempt + 1};
    for (const ContributionId& id : round->closing->included) {
      if (std::find(lost.begin(), lost.end(), id) != lost.end()) continue;
      next.included.push_back(id);
    }
    next.divisor = c.DivisorOf(next.included, *round);
    if (next.included.size() < round->quorum || next.attempt > kMaxAttempts) {
      return c.Commit(RoundAborted{round->id, fragment, "the reducer lost too many contributions"});
    }
    c.Commit(RoundClosed{round->id, fragment, std::move(next)});
  }

  // What the reducer of a slice has. It is repeated, so most of it is known.
  void operator()(const SliceReportEvent& e) {
    const SliceReport& r = e.report;
    if (r.fragment.value >= s.fragments.size()) return Ignore(e.session, "no such fragment");
    const auto reduces = [&] {
      const std::optional<Round>& round = s.fragment(r.fragment).round;
      return round && round->id == r.round && r.slice < round->slices.size() &&
             round->slices[r.slice].reducer == e.session && !round->assembled;
    };
    if (!reduces()) return;  // decided, or moved: the next Assignment tells
    const Round& round = *s.fragment(r.fragment).round;
    if (r.failed) return c.Commit(c.MoveSlices(r.fragment, {r.slice}, /*poor=*/true));
    if (!round.closing) {
      NoteHeld(r, round);
      for (const ContributionId& id : r.refused) {
        if (reduces() && Find(r.fragment, id)) Refuse(r.fragment, id, r.reason);
      }
      return;
    }
    std::vector<ContributionId> lost = r.lost;
    lost.insert(lost.end(), r.refused.begin(), r.refused.end());
    if (std::any_of(lost.begin(), lost.end(), [&](const auto& id) { return round.Includes(id); }))
      return Lose(r.fragment, round, lost);
    const Slice& slice = round.slices[r.slice];
    if (r.attempt != round.closing->attempt || slice.attempt == r.attempt) return;
    if (r.aggregate.chunks != slice.chunks)
      return Ignore(e.session, "its aggregate is cut wrongly");
    c.Commit(SliceReady{round.id,
                        r.fragment,
                        r.slice,
                        r.attempt,
                        {r.aggregate.chunks, r.aggregate.bytes, r.aggregate.root}});
  }

  void NoteHeld(const SliceReport& r, const Round& round) {
    SliceHeld held{r.fragment, r.slice, {}};
    for (const auto& [session, contribution] : round.contributions) {
      const bool known = contribution.held_slices >> r.slice & 1;
      if (!known && std::find(r.held.begin(), r.held.end(), contribution.id()) != r.held.end())
        held.contributions.push_back(contribution.id());
    }
    if (!held.contributions.empty()) c.Commit(std::move(held));
  }

  void operator()(const AggregateHeldEvent& e) {
    const FragmentId fragment = e.object.id.fragment;
    if (fragment.value >= s.fragments.size() || !s.sessions.contains(e.session)) return;
    const std::optional<Round>& round = s.fragment(fragment).round;
    if (!round || !round->assembled || round->assembled->aggregate != e.object ||
        round->holders.contains(e.session))
      return;
    c.Commit(AggregateStored{round->id, fragment, e.session});
  }

  void operator()(const PreparedEvent& e) {
    if (e.fragment.value >= s.fragments.size()) return;
    const std::optional<Round>& round = s.fragment(e.fragment).round;
    if (!round || round->id != e.round || !round->closing || round->closing->attempt != e.attempt)
      return;
    if (round->slices.empty())
      return c.Commit(c.MakeCommit(e.fragment, {e.aggregate, e.state_hash, {}}));
    if (round->AllSlicesReady() && round->moves == e.moves && !round->assembled)
      c.Commit(AggregateAssembled{e.round, e.fragment, e.aggregate, e.state_hash});
  }

  void operator()(const CheckpointEvent& e) {
    if (e.snapshots.size() != s.fragments.size() || e.oldest_kept.size() != s.fragments.size())
      return;
    uint64_t steps = 0;
    for (const ObjectInfo& o : e.snapshots) steps += o.id.version.value;
    if (steps > s.snapshot_steps()) c.Commit(CheckpointStored{e.snapshots, e.oldest_kept});
  }

  void operator()(const RollBackEvent& e) {
    c.Commit(GenerationStarted{e.generation, e.snapshots, e.leases});
  }

  void operator()(const RequestDoneEvent& e) {
    auto it = s.requests.find(e.done.request);
    if (it == s.requests.end() || it->second.session != e.session)
      return Ignore(e.session, "nobody asked it for this");
    c.Commit(RequestClosed{e.done.request, e.done.loss, e.done.tokens, e.done.text, e.done.error});
  }

  // ---- the operator ----

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
      c.Ask(ExpelKey{it->second.one_off_key});
      c.Commit(InvitationRevoked{e.invitation});
    }
    if (e.reply) out.replies.push_back({*e.reply, AdminDone{known ? "" : "no such invitation"}});
  }

  void operator()(const AllowEvent& e) {
    if (!s.workers.contains(e.key)) c.Commit(WorkerEnrolled{e.key, e.name, ""});
  }
};

std::string Coordinator::CheckContribution(SessionId id, const ContributionReady& ready) const {
  const ObjectId& object = ready.object.id;
  const Fragment& f = state_.fragment(object.fragment);
  const Round& round = *f.round;
  if (!round.members.contains(id)) return "it is not a member of this round";
  if (object.kind != ObjectKind::kContribution || object.generation != state_.generation ||
      object.contribution.session != id || object.version != round.base) {
    return "it is named wrongly";
  }
  const SessionFragment& owed = state_.sessions.at(id).fragments[object.fragment.value];
  if (object.contribution.sequence <= owed.last_sequence) return "its number was used before";
  if (ready.base_hash != f.state_hash) return "its base is not the current state";
  std::vector<LeaseRange> ranges = ready.leases;
  std::sort(ranges.begin(), ranges.end(),
            [](const LeaseRange& a, const LeaseRange& b) { return a.from < b.from; });
  uint64_t positions = 0;
  uint64_t end = 0;
  for (const LeaseRange& l : ranges) {
    if (l.from < end || !state_.leases.Holds(object.fragment, id, l.fence, l.from, l.to))
      return "it names data that is not leased to it";
    end = l.to;
    positions += l.to - l.from;
  }
  if (ready.steps == 0 || positions != ready.steps * positions_per_step_)
    return "steps and data do not fit";
  if (!std::isfinite(ready.loss)) return "";  // coded into nothing: its size says nothing
  const ObjectSize size = CodedSize(config_.sync, f.elements);
  if (ready.object.chunks != size.chunks || ready.object.bytes > size.bytes ||
      (!size.varies && ready.object.bytes != size.bytes) || !FitsSlices(round, f.elements, ready))
    return "its size is wrong";
  return "";
}

Effects Coordinator::Step(const Event& event) {
  constexpr int kMaxDecisionsPerStep = 1'000'000;
  effects_ = {};
  notify_.clear();
  notify_all_ = false;
  now_ = std::max(event.now, state_.now);
  std::visit(EventHandler{*this}, event.body);
  for (int i = 0; effects_.fatal.empty(); ++i) {
    LONGHAUL_CHECK(i < kMaxDecisionsPerStep, "decisions come to an end");
    std::optional<RecordBody> next = Decide();
    if (!next) break;
    const auto* opened = std::get_if<RoundOpened>(&*next);
    std::optional<SlicesPlaced> placed;
    if (opened) placed = PlaceSlices(*opened);
    Commit(std::move(*next));
    if (placed) Commit(std::move(*placed));
  }
  if (std::exchange(own_slices_changed_, false) && WorkersReduce()) Ask(MakeReduceSlices());
  if (notify_all_) {
    for (const auto& [id, session] : state_.sessions) notify_.insert(id);
  }
  effects_.notify.assign(notify_.begin(), notify_.end());
  effects_.wake = NextWake();
  return std::move(effects_);
}

}  // namespace longhaul
