#include "tests/transcript_coordinator.h"

#include <map>

#include "common/hash.h"
#include "proto/chunk.h"

namespace longhaul {
namespace {

constexpr uint64_t kElements = 100;
constexpr Generation kFirstGeneration{1, 42};

std::string NameOf(const WorkerKey& key) {
  return key.bytes[1] > 0 ? "i" + std::to_string(key.bytes[1]) : "w" + std::to_string(key.bytes[0]);
}

WorkerKey OneOffKey(uint64_t invitation) {
  WorkerKey key;
  key.bytes[1] = static_cast<uint8_t>(invitation);
  return key;
}

struct RequestText {
  std::string operator()(const ExpectContribution& r) {
    return "expect " + Text(r.object.id.contribution) + " " + Text(r.object.id.fragment) +
           " weight " + std::to_string(r.weight);
  }
  std::string operator()(const DropContribution& r) {
    return "drop " + Text(r.id) + " " + Text(r.fragment);
  }
  std::string operator()(const ReduceRound& r) {
    std::string text = "reduce " + Text(r.fragment) + " round " + std::to_string(r.round.value) +
                       " attempt " + std::to_string(r.attempt) + " to " + Text(r.version) + ":";
    for (const auto& [id, weight] : r.included)
      text += " " + Text(id) + "*" + std::to_string(weight);
    return text + " / " + std::to_string(r.divisor);
  }
  std::string operator()(const InstallRound& r) {
    return "install " + Text(r.fragment) + " round " + std::to_string(r.round.value) + " attempt " +
           std::to_string(r.attempt);
  }
  std::string operator()(const ReduceSlices& r) {
    std::string text = "reduce slices:";
    for (const SliceOrder& order : r.orders) text += " " + OrderText(order);
    return text;
  }
  std::string operator()(const AssembleRound& r) {
    std::string text = "assemble " + Text(r.fragment) + " round " + std::to_string(r.round.value) +
                       " attempt " + std::to_string(r.attempt) + " to " + Text(r.version) + ":";
    for (const AssembleRound::Part& part : r.parts) text += " " + Text(part.reducer);
    return text;
  }
  std::string operator()(const StoreCheckpoint& r) {
    std::string text = "store checkpoint";
    for (Version v : r.versions) text += " " + Text(v);
    return text;
  }
  std::string operator()(const AdmitKey& r) { return "admit " + NameOf(r.key); }
  std::string operator()(const ExpelKey& r) { return "expel " + NameOf(r.key); }
  std::string operator()(const ShutDown& r) {
    return r.success ? "shut down, success" : "shut down, no success";
  }
};

}  // namespace

CoordinatorScript::Command CoordinatorScript::Find(const std::string& name) {
  using C = CoordinatorScript;
  static const std::map<std::string, Command> kCommands = {
      {"run", &C::Begin},
      {"enroll", &C::EnrollWorker},
      {"invite", &C::Invite},
      {"revoke", &C::Revoke},
      {"hello", &C::SayHello},
      {"join", &C::JoinAll},
      {"stated", &C::Stated},
      {"ready", &C::Ready},
      {"held", &C::Held},
      {"refused", &C::RefusedContent},
      {"lost", &C::Lost},
      {"prepared", &C::Prepared},
      {"slice", &C::Slice},
      {"holds", &C::Holds},
      {"stored", &C::Stored},
      {"roll-back", &C::RollBack},
      {"done", &C::Done},
      {"leave", &C::LeaveSession},
      {"silent", &C::Silent},
      {"late", &C::Late},
      {"plan", &C::Plan},
      {"link", &C::Link},
      {"tick", &C::Tick},
      {"restart", &C::Restart},
      {"assignment", &C::ShowAssignment},
      {"coverage", &C::ShowCoverage},
      {"waiting-for", &C::ShowWaiting},
      {"degraded", &C::ShowDegraded},
  };
  const auto it = kCommands.find(name);
  return it == kCommands.end() ? nullptr : it->second;
}

Lines CoordinatorScript::Run(const std::string& command) {
  Words words(command);
  out_.clear();
  const Command run = Find(words.Word());
  if (!run || (!core_ && run != &CoordinatorScript::Begin)) return {kNotUnderstood};
  (this->*run)(words);
  if (!words.ok() || !words.AtEnd()) return {kNotUnderstood};
  return std::move(out_);
}

void CoordinatorScript::Feed(const Words& w, EventBody body) {
  if (!w.ok() || !w.AtEnd()) return;
  Print(core_->Step(Event{now_, std::move(body)}));
}

void CoordinatorScript::Print(const Effects& effects) {
  for (const Record& record : effects.records) {
    journal_.push_back(EncodeRecord(record));
    out_.push_back("record " + DescribeRecord(record));
  }
  for (const Reply& reply : effects.replies) out_.push_back("reply " + Text(reply.message));
  for (const Request& request : effects.requests) {
    out_.push_back("request " + std::visit(RequestText{}, request));
    if (const auto* cut = std::get_if<StoreCheckpoint>(&request)) cut_ = *cut;
  }
  Lines told;
  for (SessionId session : effects.notify) {
    const std::optional<Refused> refused = core_->WhyNotLive(session);
    if (refused) {
      out_.push_back("tell " + Text(session) + " " + Text(Message(*refused)));
    } else {
      told.push_back(Text(session));
    }
  }
  if (!told.empty()) out_.push_back("tell " + Join(told, " ") + " what changed");
  for (const Ignored& ignored : effects.ignored)
    out_.push_back("ignored from " + Text(ignored.session) + ": " + ignored.reason);
  if (!effects.fatal.empty()) out_.push_back("fatal " + effects.fatal);
  if (effects.wake != wake_) {
    wake_ = effects.wake;
    out_.push_back(wake_ ? "wake at " + Text(wake_->since_epoch) : "wake never");
  }
}

// ---- the run ----

void CoordinatorScript::Begin(Words& w) {
  if (!w.Take("samples")) return w.Fail();
  samples_ = w.Number();
  const uint64_t elements = w.Take("chunks") ? w.Number() * kChunkElements : kElements;
  config_ = TranscriptConfig(w);
  core_ = std::make_unique<Coordinator>(config_);
  RunStarted begin{
      .run_id = "0000000000000001", .generation = kFirstGeneration, .positions = samples_};
  for (uint64_t f = 0; f < config_.sync.fragments; ++f) {
    begin.elements.push_back(elements);
    begin.snapshots.push_back(TranscriptSnapshot(kFirstGeneration, FragmentId{f}, Version{0}));
  }
  const Record record{now_, begin};
  State state;
  Coordinator::Apply(state, record);
  journal_ = {EncodeRecord(record)};
  ByteWriter leases;
  state.leases.Encode(leases);
  stored_ = {std::vector<Version>(config_.sync.fragments), RoundId{0}, leases.Take()};
  core_->Restore(std::move(state));
  out_.push_back("record " + DescribeRecord(record));
  Feed(w, BootEvent{});
}

void CoordinatorScript::Restart(Words& w) {
  State folded;
  for (const std::string& bytes : journal_) {
    auto record = DecodeRecord(AsBytes(bytes));
    if (!record.ok()) return out_.push_back("the journal cannot be read");
    Coordinator::Apply(folded, *record);
  }
  std::optional<State> decoded = DecodeState(AsBytes(EncodeState(folded)));
  if (!decoded || !(*decoded == state()))
    return out_.push_back("the journal leads to another state");
  core_ = std::make_unique<Coordinator>(config_);
  core_->Restore(std::move(*decoded));
  Feed(w, BootEvent{.restarted = true});
}

void CoordinatorScript::Tick(Words& w) {
  now_ = now_ + w.Time();
  Feed(w, TickEvent{});
}

void CoordinatorScript::Stored(Words& w) {
  if (!cut_) return w.Fail();
  stored_ = std::exchange(cut_, std::nullopt);
  CheckpointEvent done{{}, stored_->versions};
  for (uint64_t f = 0; f < stored_->versions.size(); ++f) {
    done.snapshots.push_back(
        TranscriptSnapshot(state().generation, FragmentId{f}, stored_->versions[f]));
  }
  Feed(w, done);
}

void CoordinatorScript::RollBack(Words& w) {
  const Generation& old = state().generation;
  RollBackEvent back{.generation = {old.counter + 1, old.random + 1}, .leases = stored_->leases};
  for (uint64_t f = 0; f < stored_->versions.size(); ++f) {
    back.snapshots.push_back(
        TranscriptSnapshot(back.generation, FragmentId{f}, stored_->versions[f]));
  }
  Feed(w, back);
}

void CoordinatorScript::Done(Words& w) {
  RequestDone done{.request = {w.Number()}, .loss = 2, .tokens = 10};
  const auto it = state().requests.find(done.request);
  const SessionId asked = it == state().requests.end() ? SessionId{1} : it->second.session;
  Feed(w, RequestDoneEvent{asked, done});
}

// ---- who takes part ----

void CoordinatorScript::EnrollWorker(Words& w) {
  const uint64_t worker = w.Number("w");
  const std::string name = "w" + std::to_string(worker);
  if (!w.Take("with")) return Feed(w, AllowEvent{TranscriptKey(worker), name});
  EnrollEvent event{.signature_valid = true, .one_off_key_used = true};
  event.enroll.invitation = w.Word();
  event.enroll.key = TranscriptKey(worker);
  event.enroll.name = name;
  Feed(w, event);
}

void CoordinatorScript::Invite(Words& w) {
  const uint64_t number = w.Number("i");
  uint32_t uses = 1;
  if (w.Take("uses")) uses = static_cast<uint32_t>(w.Number());
  Feed(w,
       InviteEvent{ReplyTo{}, "i" + std::to_string(number), OneOffKey(number), UINT64_MAX, uses});
}

void CoordinatorScript::Revoke(Words& w) {
  const std::string invitation = w.Word();
  Feed(w, RevokeEvent{ReplyTo{}, invitation});
}

void CoordinatorScript::SayHello(Words& w) {
  HelloEvent event;
  const uint64_t worker = w.Number("w");
  event.key = TranscriptKey(worker);
  event.hello.name = "w" + std::to_string(worker);
  event.hello.process = {0, w.Number("p")};
  if (w.Take("other-data")) event.hello.data_identity = Blake2b("other data");
  Feed(w, event);
}

void CoordinatorScript::JoinAll(Words& w) {
  std::vector<uint64_t> workers;
  while (w.ok() && !w.AtEnd()) workers.push_back(w.Number("w"));
  for (uint64_t worker : workers) {
    const std::string name = "w" + std::to_string(worker);
    Feed(w, AllowEvent{TranscriptKey(worker), name});
    HelloEvent hello{.key = TranscriptKey(worker)};
    hello.hello.name = name;
    hello.hello.process = {0, worker};
    if (config_.reduce.placement == "workers") hello.hello.peer_address = name + ":1";
    Feed(w, hello);
  }
  for (uint64_t worker : workers) {
    const auto enrolled = state().workers.find(TranscriptKey(worker));
    if (enrolled == state().workers.end()) return w.Fail();
    StatedEvent stated{enrolled->second.session, {}};
    for (uint64_t f = 0; f < state().fragments.size(); ++f) {
      const Version version = state().fragments[f].version;
      stated.fragments.push_back({FragmentId{f}, version, TranscriptHash(FragmentId{f}, version)});
    }
    Feed(w, stated);
  }
}

void CoordinatorScript::Stated(Words& w) {
  StatedEvent event{w.Session(), {}};
  const bool from_one = w.NextIs("f");
  FragmentId fragment = from_one ? w.Fragment() : FragmentId{0};
  std::vector<Version> versions;
  while (w.NextIs("v")) versions.push_back(w.AVersion());
  if (versions.empty()) w.Fail();
  if (versions.size() == 1 && !from_one) versions.resize(state().fragments.size(), versions[0]);
  const bool wrong = w.Take("wrong");
  for (Version version : versions) {
    event.fragments.push_back({fragment, version, TranscriptHash(fragment, version, wrong)});
    fragment = fragment.Next();
  }
  Feed(w, event);
}

void CoordinatorScript::LeaveSession(Words& w) {
  const SessionId session = w.Session();
  const bool hand_in = w.Take("hand-in");
  Feed(w, LeaveEvent{session, hand_in});
}

void CoordinatorScript::Silent(Words& w) {
  SilentEvent event;
  while (!w.AtEnd()) event.sessions.push_back(w.Session());
  Feed(w, event);
}

void CoordinatorScript::Late(Words& w) {
  LateEvent event;
  while (!w.AtEnd()) event.sessions.push_back(w.Session());
  Feed(w, event);
}

void CoordinatorScript::Plan(Words& w) {
  const SessionId session = w.Session();
  const uint64_t steps = w.Number();
  Feed(w, PlanEvent{{{session, steps}}});
}

void CoordinatorScript::Link(Words& w) {
  const SessionId session = w.Session();
  const uint64_t up = w.Number();
  Feed(w, LinksEvent{{{session, up, w.Number()}}});
}

// ---- rounds ----

std::vector<LeaseRange> CoordinatorScript::Lowest(SessionId session, FragmentId fragment,
                                                  uint64_t positions) const {
  std::vector<LeaseRange> ranges;
  if (fragment.value >= state().fragments.size()) return ranges;
  for (const Ledger::Range& r : state().leases.ledger(fragment).LeasesOf(session)) {
    const uint64_t n = std::min(positions, r.to - r.from);
    if (n == 0) break;
    ranges.push_back({r.fence, r.from, r.from + n});
    positions -= n;
  }
  return ranges;
}

void CoordinatorScript::Ready(Words& w) {
  const SessionId session = w.Session();
  const FragmentId fragment = w.Fragment();
  if (fragment.value >= state().fragments.size()) return w.Fail();
  const Fragment& f = state().fragment(fragment);
  const auto live = state().sessions.find(session);
  const ObjectSize size = CodedSize(config_.sync, f.elements);
  ContributionReady ready{.round = f.round ? f.round->id : f.decided, .base_hash = f.state_hash};
  ContributionId id{session, 1};
  if (live != state().sessions.end())
    id.sequence = live->second.fragments[fragment.value].last_sequence + 1;
  ready.loss = 1;
  ready.object = {.id = {ObjectKind::kContribution, state().generation, fragment, f.version, id},
                  .chunks = size.chunks,
                  .bytes = size.bytes};
  uint64_t first = 0;
  for (size_t i = 0; f.round && i < f.round->slices.size(); ++i) {
    const uint32_t chunks = f.round->slices[i].chunks;
    const uint64_t n = std::min(chunks * kChunkElements, f.elements - first);
    ready.slices.push_back({chunks, CodedSize(config_.sync, n).bytes, {}});
    first += n;
  }
  while (w.ok() && !w.AtEnd()) {
    const std::string what = w.Word();
    if (what == "steps") {
      ready.steps = w.Number();
      ready.leases = Lowest(session, fragment, ready.steps);
    } else if (what == "round") {
      ready.round = {w.Number()};
    } else if (what == "number") {
      ready.object.id.contribution.sequence = w.Number();
    } else if (what == "base") {
      ready.object.id.version = w.AVersion();
    } else if (what == "fence") {
      ready.leases.at(0).fence = {w.Number()};
    } else if (what == "loss") {
      ready.loss = w.Real();
    } else if (what == "bytes") {
      ready.object.bytes = w.Number();
    } else if (what == "uncut") {
      ready.slices.clear();
    } else if (what == "generation") {
      ready.object.id.generation.counter = w.Number();
    } else {
      w.Fail();
    }
  }
  Feed(w, ContributionEvent{session, ready});
}

void CoordinatorScript::Held(Words& w) {
  const ContributionId id = w.Contribution();
  const FragmentId fragment = w.Fragment();
  Feed(w, HeldEvent{fragment, id});
}

void CoordinatorScript::RefusedContent(Words& w) {
  const ContributionId id = w.Contribution();
  const FragmentId fragment = w.Fragment();
  const std::string reason = w.Rest();
  Feed(w, RefusedEvent{fragment, id, reason});
}

void CoordinatorScript::Lost(Words& w) {
  LostEvent event{.fragment = w.Fragment()};
  if (event.fragment.value >= state().fragments.size()) return w.Fail();
  const std::optional<Round>& round = state().fragment(event.fragment).round;
  if (round && round->closing) {
    event.round = round->id;
    event.attempt = round->closing->attempt;
  }
  while (!w.AtEnd()) event.contributions.push_back(w.Contribution());
  Feed(w, event);
}

void CoordinatorScript::Prepared(Words& w) {
  PreparedEvent event{.fragment = w.Fragment()};
  if (event.fragment.value >= state().fragments.size()) return w.Fail();
  const Fragment& f = state().fragment(event.fragment);
  if (f.round) event.round = f.round->id;
  if (f.round && f.round->closing) event.attempt = f.round->closing->attempt;
  if (w.Take("round")) event.round = {w.Number()};
  if (w.Take("attempt")) event.attempt = static_cast<uint32_t>(w.Number());
  if (f.round) event.moves = f.round->moves;
  if (w.Take("moves")) event.moves = static_cast<uint32_t>(w.Number());
  const Version next = f.version.Next();
  event.aggregate = {.id = {ObjectKind::kAggregate, state().generation, event.fragment, next, {}},
                     .chunks = 1};
  event.state_hash = TranscriptHash(event.fragment, next);
  Feed(w, event);
}

// slice s1 f0 0 held s1/1 s2/1 | lost s2/1 | refused s2/1 | ready | failed
void CoordinatorScript::Slice(Words& w) {
  SliceReportEvent event{w.Session(), {}};
  SliceReport& r = event.report;
  r.fragment = w.Fragment();
  r.slice = static_cast<uint32_t>(w.Number());
  if (r.fragment.value >= state().fragments.size()) return w.Fail();
  const Fragment& f = state().fragment(r.fragment);
  if (f.round) r.round = f.round->id;
  std::vector<ContributionId>* list = nullptr;
  while (w.ok() && !w.AtEnd()) {
    if (w.NextIs("s")) {
      if (!list) return w.Fail();
      list->push_back(w.Contribution());
      continue;
    }
    const std::string what = w.Word();
    if (what == "held") {
      list = &r.held;
    } else if (what == "lost") {
      list = &r.lost;
    } else if (what == "refused") {
      list = &r.refused;
      r.reason = "it does not decode";
    } else if (what == "failed") {
      r.failed = true;
    } else if (what == "ready" && f.round && f.round->closing && r.slice < f.round->slices.size()) {
      r.attempt = f.round->closing->attempt;
      if (w.Take("attempt")) r.attempt = static_cast<uint32_t>(w.Number());
      r.aggregate.chunks = f.round->slices[r.slice].chunks;
    } else {
      w.Fail();
    }
  }
  Feed(w, event);
}

void CoordinatorScript::Holds(Words& w) {
  AggregateHeldEvent event{w.Session(), {}};
  const FragmentId fragment = w.Fragment();
  if (fragment.value >= state().fragments.size()) return w.Fail();
  const std::optional<Round>& round = state().fragment(fragment).round;
  if (round && round->assembled) event.object = round->assembled->aggregate;
  if (w.Take("other")) event.object.bytes = 77;
  Feed(w, event);
}

// ---- questions ----

void CoordinatorScript::ShowAssignment(Words& w) {
  const SessionId session = w.Session();
  const std::optional<Refused> refused = core_->WhyNotLive(session);
  out_ =
      refused ? Lines{Text(Message(*refused))} : AssignmentText(core_->AssignmentFor(session, {}));
}

void CoordinatorScript::ShowCoverage(Words&) {
  const LeaseBook& book = state().leases;
  for (uint64_t f = 0; f < state().fragments.size(); ++f) {
    const FragmentId fragment{f};
    const Ledger::Totals& t = book.totals(fragment);
    std::string line = Text(fragment) + ":";
    const std::pair<const char*, uint64_t> parts[] = {
        {"committed", t.committed},
        {"sealed", t.sealed},
        {"leased", t.leased},
        {"free", t.free},
        {"other fragment committed",
         book.discarded(fragment, DiscardReason::kOtherFragmentCommitted)},
        {"carried too often", book.discarded(fragment, DiscardReason::kCarry)},
        {"quarantined", t.quarantined}};
    for (const auto& [name, n] : parts) {
      if (n > 0) line += " " + std::string(name) + " " + std::to_string(n);
    }
    out_.push_back(line);
  }
  for (const FailureMap::Entry& entry : book.Quarantined()) {
    std::string line =
        "quarantined " + std::to_string(entry.from) + "-" + std::to_string(entry.to) + " by";
    for (uint32_t worker : entry.workers) line += " worker " + std::to_string(worker);
    out_.push_back(line);
  }
}

void CoordinatorScript::ShowWaiting(Words&) { out_.push_back(core_->WaitingFor()); }
void CoordinatorScript::ShowDegraded(Words&) {
  out_.push_back(state().degraded.empty() ? "no" : state().degraded);
}

}  // namespace longhaul
