#include "tests/transcript_worker.h"

#include <algorithm>
#include <limits>
#include <map>
#include <sstream>

#include "common/hash.h"

namespace longhaul {
namespace {

constexpr ProcessId kProcess{1, 2};

std::string PositionText(const std::vector<uint64_t>& positions) {
  Lines parts;
  for (size_t i = 0; i < positions.size();) {
    size_t end = i + 1;
    while (end < positions.size() && positions[end] == positions[end - 1] + 1) ++end;
    parts.push_back(std::to_string(positions[i]) + "-" + std::to_string(positions[end - 1] + 1));
    i = end;
  }
  return Join(parts, " ");
}

struct RequestText {
  std::string operator()(const LoadData&) { return "load the data"; }
  std::string operator()(const FetchObject& r) {
    const ObjectId& id = r.object.id;
    return (id.kind == ObjectKind::kState ? "fetch snapshot " : "fetch aggregate ") +
           Text(id.fragment) + " " + Text(id.version);
  }
  std::string operator()(const StopFetching&) { return "stop fetching"; }
  std::string operator()(const LoadState& r) {
    return "load " + Text(r.object.id.fragment) + " " + Text(r.object.id.version);
  }
  std::string operator()(const ApplyCommit& r) {
    return "apply " + Text(r.commit.fragment) + " " + Text(r.commit.version);
  }
  std::string operator()(const TrainStep& r) {
    return "train step " + std::to_string(r.step) + " on " + PositionText(r.positions);
  }
  std::string operator()(const CodeContribution& r) {
    return "code " + Text(r.id) + " " + Text(r.fragment) + " from " + Text(r.base);
  }
  std::string operator()(const ResolveContribution& r) {
    static constexpr const char* kNames[] = {"", "included", "not included", "dropped"};
    return "resolve " + Text(r.fragment) + ": " + kNames[static_cast<int>(r.outcome) % 4];
  }
  std::string operator()(const ResetProgress& r) {
    return std::string("reset progress") + (r.inner_state ? ", inner state" : "") +
           (r.residual ? ", residual" : "");
  }
  std::string operator()(const UnloadFragment& r) { return "unload " + Text(r.fragment); }
  std::string operator()(const SaveSnapshot& r) {
    std::string text = "save snapshot, residual up to";
    for (const ContributionId& id : r.included) text += " " + Text(id);
    return text;
  }
  std::string operator()(const LoadSnapshot&) { return "load snapshot"; }
  std::string operator()(const RunRequest& r) {
    return "answer " + std::to_string(r.request.id.value);
  }
  std::string operator()(const ExitWorker& r) {
    return std::string("exit, ") + (r.success ? "success: " : "no success: ") + r.reason;
  }
};

}  // namespace

WorkerScript::Command WorkerScript::Find(const std::string& name) {
  using W = WorkerScript;
  static const std::map<std::string, Command> kCommands = {
      {"worker", &W::Begin},    {"connected", &W::Connected}, {"tick", &W::Tick},
      {"leave", &W::LeaveRun},  {"welcome", &W::WelcomeTo},   {"refuse", &W::Refuse},
      {"assign", &W::Assign},   {"again", &W::Again},         {"data", &W::Data},
      {"fetched", &W::Fetched}, {"gone", &W::Gone},           {"loaded", &W::Loaded},
      {"applied", &W::Applied}, {"stepped", &W::Stepped},     {"coded", &W::Coded},
      {"done", &W::Done},       {"answered", &W::Answered},   {"state", &W::ShowState},
  };
  const auto it = kCommands.find(name);
  return it == kCommands.end() ? nullptr : it->second;
}

Lines WorkerScript::Run(const std::string& command) {
  Words words(command);
  out_.clear();
  const Command run = Find(words.Word());
  if (!run || (!core_ && run != &WorkerScript::Begin)) return {kNotUnderstood};
  (this->*run)(words);
  if (!words.ok() || !words.AtEnd()) return {kNotUnderstood};
  return std::move(out_);
}

void WorkerScript::Feed(const Words& w, const WorkerEvent& event) {
  if (!w.ok() || !w.AtEnd()) return;
  const WorkerEffects effects = core_->Step(event);
  for (const Message& message : effects.messages) out_.push_back("say " + Text(message));
  for (const WorkerRequest& request : effects.requests) {
    out_.push_back("request " + std::visit(RequestText{}, request));
    if (std::holds_alternative<StopFetching>(request)) {
      std::erase_if(asked_,
                    [](const WorkerRequest& r) { return std::holds_alternative<FetchObject>(r); });
    } else {
      asked_.push_back(request);
    }
  }
  if (!effects.reason.empty()) out_.push_back("reason " + effects.reason);
}

void WorkerScript::Receive(const Words& w, const Message& message, uint64_t sequence) {
  Feed(w, WorkerReceived{generation_, sequence, message});
}

template <class T>
std::optional<T> WorkerScript::Asked(Words& w) {
  const auto it = std::ranges::find_if(
      asked_, [](const WorkerRequest& r) { return std::holds_alternative<T>(r); });
  if (it == asked_.end()) {
    w.Fail();
    return std::nullopt;
  }
  T request = std::get<T>(*it);
  asked_.erase(it);
  return request;
}

// ---- the process and the coordinator ----

void WorkerScript::Begin(Words& w) {
  *this = {};
  config_ = TranscriptConfig(w);
  core_ = std::make_unique<Worker>(WorkerIdentity{.process = kProcess, .name = "w"});
  assignment_.phase = Phase::kRunning;
  for (uint64_t f = 0; f < config_.sync.fragments; ++f) {
    const FragmentId fragment{f};
    assignment_.current.push_back({fragment, Version{0}, TranscriptHash(fragment, Version{0})});
    assignment_.snapshots.push_back(TranscriptSnapshot(generation_, fragment, Version{0}));
    assignment_.outcomes.push_back({.fragment = fragment});
  }
}

void WorkerScript::Connected(Words& w) { Feed(w, WorkerConnected{}); }
void WorkerScript::Tick(Words& w) { Feed(w, WorkerTick{}); }

void WorkerScript::LeaveRun(Words& w) {
  const bool hand_in = w.Take("hand-in");
  Feed(w, LeaveWanted{"the operator wants it", hand_in});
}

void WorkerScript::WelcomeTo(Words& w) {
  Welcome welcome{.session = w.Session(), .process = kProcess, .config = config_};
  if (w.Take("generation")) generation_ = {w.Number(), 42};
  Receive(w, welcome);
}

void WorkerScript::Refuse(Words& w) {
  const auto code = static_cast<RefusalCode>(w.Number());
  const std::string why = w.Rest();
  Receive(w, Refused{code, why});
}

void WorkerScript::Assign(Words& w) {
  std::istringstream changes(w.Rest());
  std::string change;
  while (std::getline(changes, change, ';')) {
    Words words(change);
    Change(words);
    if (!words.ok() || !words.AtEnd()) return w.Fail();
  }
  Receive(w, assignment_);
}

void WorkerScript::Again(Words& w) { Receive(w, assignment_, sequence_ - 1); }

void WorkerScript::Change(Words& w) {
  static const std::map<std::string, Phase> kPhases = {{"waiting", Phase::kWaiting},
                                                       {"running", Phase::kRunning},
                                                       {"finished", Phase::kFinished},
                                                       {"stopped", Phase::kStopped}};
  const std::string what = w.Word();
  if (const auto phase = kPhases.find(what); phase != kPhases.end()) {
    assignment_.phase = phase->second;
  } else if (what == "round") {
    ChangeRound(w);
  } else if (what == "close") {
    const FragmentId f = w.Fragment();
    std::erase_if(assignment_.rounds, [&](const RoundView& r) { return r.fragment == f; });
  } else if (what == "decide") {
    const FragmentId f = w.Fragment();
    if (!w.Take("round")) w.Fail();
    Outcome(f, w).decided = {w.Number()};
    Include(f, w);
  } else if (what == "commit") {
    ChangeCommit(w);
  } else if (what == "forget") {
    const FragmentId f = w.Fragment();
    const Version version = w.AVersion();
    if (!w.ok() || f.value >= assignment_.snapshots.size()) return w.Fail();
    assignment_.snapshots[f.value] = TranscriptSnapshot(generation_, f, version);
    std::erase_if(assignment_.commits,
                  [&](const CommitView& c) { return c.fragment == f && c.version <= version; });
  } else if (what == "evaluate") {
    const RequestId id{w.Number()};
    assignment_.requests.push_back({.id = id, .version = w.AVersion()});
  } else if (what == "unask") {
    const RequestId id{w.Number()};
    std::erase_if(assignment_.requests, [&](const WorkRequest& r) { return r.id == id; });
  } else if (what == "lease") {
    ChangeLease(w);
  } else if (what == "unlease") {
    const Fence fence{w.Number()};
    std::erase_if(assignment_.leases, [&](const LeaseRange& l) { return l.fence == fence; });
  } else {
    w.Fail();
  }
}

OutcomeView& WorkerScript::Outcome(FragmentId fragment, Words& w) {
  if (fragment.value >= assignment_.outcomes.size()) w.Fail();
  return assignment_.outcomes[w.ok() ? fragment.value : 0];
}

// Rounds of this fragment up to the decided one are over.
void WorkerScript::Include(FragmentId fragment, Words& w) {
  OutcomeView& outcome = Outcome(fragment, w);
  if (w.Take("included")) outcome.included = w.Contribution();
  if (w.Take("dropped")) outcome.dropped = w.Contribution();
  std::erase_if(assignment_.rounds, [&](const RoundView& r) {
    return r.fragment == fragment && r.round <= outcome.decided;
  });
}

void WorkerScript::ChangeRound(Words& w) {
  RoundView round{.round = {w.Number()}, .fragment = w.Fragment()};
  if (!w.Take("steps") || round.fragment.value >= assignment_.current.size()) return w.Fail();
  round.own_steps = w.Number();
  round.base = assignment_.current[round.fragment.value].version;
  assignment_.rounds.push_back(round);
}

void WorkerScript::ChangeCommit(Words& w) {
  const FragmentId f = w.Fragment();
  if (f.value >= assignment_.current.size()) return w.Fail();
  Version& version = assignment_.current[f.value].version;
  version = w.NextIs("v") ? w.AVersion() : version.Next();
  assignment_.current[f.value].state_hash = TranscriptHash(f, version);
  if (!w.Take("round")) w.Fail();
  CommitView commit{.round = {w.Number()}, .attempt = 1, .fragment = f, .version = version};
  commit.aggregate.id = {ObjectKind::kAggregate, generation_, f, version, {}};
  commit.state_hash = TranscriptHash(f, version);
  Outcome(f, w).decided = commit.round;
  assignment_.commits.push_back(std::move(commit));
  Include(f, w);
}

void WorkerScript::ChangeLease(Words& w) {
  const Fence fence{w.Number()};
  std::string range = w.Word();
  std::ranges::replace(range, '-', ' ');
  Words ends(range);
  const uint64_t from = ends.Number();
  assignment_.leases.push_back({fence, from, ends.Number()});
  std::ranges::sort(assignment_.leases, {}, &LeaseRange::from);
  if (!ends.ok()) w.Fail();
}

// ---- answers ----

void WorkerScript::Data(Words& w) {
  if (Asked<LoadData>(w)) Feed(w, DataLoaded{Blake2b("the data"), "a file"});
}

void WorkerScript::Fetched(Words& w) {
  if (auto r = Asked<FetchObject>(w)) Feed(w, ObjectFetched{r->object.id});
}

void WorkerScript::Gone(Words& w) {
  if (auto r = Asked<FetchObject>(w)) Feed(w, ObjectGone{r->object.id});
}

void WorkerScript::Loaded(Words& w) {
  const bool wrong = w.Take("wrong");
  if (auto r = Asked<LoadState>(w)) {
    const ObjectId& id = r->object.id;
    Feed(w, StateLoaded{{id.fragment, id.version, TranscriptHash(id.fragment, id.version, wrong)}});
  }
}

void WorkerScript::Applied(Words& w) {
  const bool wrong = w.Take("wrong");
  if (auto r = Asked<ApplyCommit>(w)) {
    const CommitView& c = r->commit;
    Feed(w, CommitApplied{{c.fragment, c.version, TranscriptHash(c.fragment, c.version, wrong)}});
  }
}

void WorkerScript::Stepped(Words& w) {
  const bool nan = w.Take("nan");
  const double loss = nan ? std::numeric_limits<double>::quiet_NaN() : 1.0;
  if (Asked<TrainStep>(w)) Feed(w, StepDone{loss, !nan});
}

void WorkerScript::Coded(Words& w) {
  const bool empty = w.Take("empty");
  auto r = Asked<CodeContribution>(w);
  if (!r) return;
  ObjectInfo object{.id = {ObjectKind::kContribution, r->generation, r->fragment, r->base, r->id},
                    .chunks = empty ? 0u : 1u,
                    .bytes = 100,
                    .root = Blake2b("contribution")};
  Feed(w, ContributionCoded{object});
}

void WorkerScript::Done(Words& w) {
  const auto it = std::ranges::find_if(asked_, [](const WorkerRequest& r) {
    return std::holds_alternative<ResolveContribution>(r) ||
           std::holds_alternative<ResetProgress>(r) || std::holds_alternative<UnloadFragment>(r) ||
           std::holds_alternative<SaveSnapshot>(r) || std::holds_alternative<LoadSnapshot>(r);
  });
  if (it == asked_.end()) return w.Fail();
  asked_.erase(it);
  Feed(w, JobDone{});
}

void WorkerScript::Answered(Words& w) {
  if (auto r = Asked<RunRequest>(w))
    Feed(w, RequestFinished{{.request = r->request.id, .loss = 2}});
}

void WorkerScript::ShowState(Words&) {
  std::string line = core_->session().value > 0 ? Text(core_->session()) : "no session";
  for (const FragmentState& s : core_->states())
    line += ", " + Text(s.fragment) + " " + Text(s.version);
  out_.push_back(line + ", generation " + std::to_string(core_->generation().counter));
  if (core_->assignment()) {
    for (const std::string& part : AssignmentText(*core_->assignment())) out_.push_back(part);
  }
}

}  // namespace longhaul
