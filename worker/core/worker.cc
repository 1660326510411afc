#include "worker/core/worker.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "common/bytes.h"
#include "common/check.h"

namespace longhaul {
namespace {

// Appends [from, to), joining it to the last range when it continues it.
void AppendRange(std::vector<LeaseRange>& ranges, const LeaseRange& next) {
  if (!ranges.empty() && ranges.back().fence == next.fence && ranges.back().to == next.from) {
    ranges.back().to = next.to;
  } else {
    ranges.push_back(next);
  }
}

uint64_t Size(const std::vector<LeaseRange>& ranges) {
  uint64_t n = 0;
  for (const LeaseRange& r : ranges) n += r.to - r.from;
  return n;
}

// What is left of `range` without `used`; all under one fence, positions are never leased twice at
// a time.
void Subtract(LeaseRange range, const std::vector<LeaseRange>& used, std::vector<LeaseRange>& out) {
  std::vector<LeaseRange> cuts;
  for (const LeaseRange& u : used) {
    if (u.from < range.to && range.from < u.to) cuts.push_back(u);
  }
  std::sort(cuts.begin(), cuts.end(), [](const auto& a, const auto& b) { return a.from < b.from; });
  for (const LeaseRange& u : cuts) {
    if (range.from < u.from) out.push_back({range.fence, range.from, u.from});
    range.from = std::max(range.from, u.to);
  }
  if (range.from < range.to) out.push_back(range);
}

}  // namespace

void Worker::Progress::Add(const Progress& other) {
  ranges.insert(ranges.end(), other.ranges.begin(), other.ranges.end());
  steps += other.steps;
  loss_sum += other.loss_sum;
}

// Takes one event in; decisions follow in Decide.
struct WorkerHandler {
  Worker& w;

  void operator()(const WorkerTick&) { w.Announce(); }
  void operator()(const WorkerConnected&) { w.SayHello(); }
  void operator()(const WorkerReceived& e) {
    std::visit([&](const auto& message) { Receive(e, message); }, e.message);
  }
  void operator()(const DataLoaded& e) {
    w.data_ = e;
    w.SayHello();  // the coordinator checks the identity, too
  }
  void operator()(const ObjectFetched& e) {
    if (w.wanted_ && w.wanted_->id == e.id) w.here_ = e.id;
  }
  void operator()(const ObjectGone& e) {
    if (w.wanted_ && w.wanted_->id == e.id) w.wanted_.reset();
  }
  void operator()(const StateLoaded& e) {
    FinishObject(e.state);
    w.sent_.reset();
  }
  void operator()(const CommitApplied& e) { FinishObject(e.state); }

  void FinishObject(const FragmentState& state) {
    --w.jobs_;
    w.wanted_.reset();
    w.here_.reset();
    w.unapplied_ = false;
    w.state_ = state;
    w.CheckHash(state);
  }

  void operator()(const ContributionCoded& e) {
    --w.jobs_;
    if (!w.sent_) return;  // dropped meanwhile
    w.sent_->ready.object = e.object;
    if (e.object.chunks == 0) w.sent_->ready.loss = std::numeric_limits<double>::quiet_NaN();
    w.Announce();
  }

  void operator()(const StepDone& e) {
    --w.jobs_;
    const std::vector<LeaseRange> ranges = std::exchange(w.stepping_, std::nullopt).value();
    if (std::exchange(w.void_step_, false)) return;
    for (const LeaseRange& r : ranges) AppendRange(w.current_.ranges, r);
    ++w.current_.steps;
    w.current_.loss_sum += e.finite ? e.loss : std::numeric_limits<double>::quiet_NaN();
  }

  void operator()(const RequestFinished& e) {
    --w.jobs_;
    w.answers_[e.done.request] = e.done;
    w.effects_.messages.push_back(e.done);
  }
  void operator()(const JobDone&) { --w.jobs_; }
  void operator()(const LeaveWanted& e) {
    w.leaving_ = true;
    if (w.session_.value == 0) return Exit(true, std::nullopt, e.reason);
    w.effects_.messages.push_back(Leave{e.reason});
  }

  void Exit(bool success, std::optional<RefusalCode> code, const std::string& reason) {
    w.over_ = true;
    w.effects_.requests.push_back(ExitWorker{success, code, reason});
  }

  // ---- messages ----
  void Receive(const WorkerReceived& e, const Welcome& welcome) {
    if (welcome.process != w.identity_.process) return;
    const bool new_generation = w.welcome_ && e.generation != w.generation_;
    const bool new_session = welcome.session != w.session_;
    w.generation_ = e.generation;
    w.session_ = welcome.session;
    w.welcome_ = welcome;
    w.assignment_sequence_ = e.sequence;  // a restarted coordinator counts anew
    if (new_session) {
      w.assignment_.reset();
      w.sequence_ = 0;
      if (w.sent_) w.sent_->progress = {};  // its data went back with the old session
    }
    if (new_generation) {
      w.state_.reset();
      w.sent_.reset();
      w.wanted_.reset();
      w.here_.reset();
      w.effects_.requests.push_back(StopFetching{});
    }
    if ((new_session || new_generation) && (w.state_ || w.sent_))
      w.DropProgress({.residual = new_generation});
    if (!std::exchange(w.data_asked_, true)) {
      w.effects_.requests.push_back(
          LoadData{welcome.config, welcome.data_identity, welcome.parameters});
    }
  }

  void Receive(const WorkerReceived& e, const Assignment& assignment) {
    if (e.generation != w.generation_ || e.sequence <= w.assignment_sequence_ || !w.welcome_)
      return;
    w.assignment_ = assignment;
    w.assignment_sequence_ = e.sequence;
    std::erase_if(w.answers_, [&](const auto& answer) {
      return std::none_of(assignment.requests.begin(), assignment.requests.end(),
                          [&](const WorkRequest& r) { return r.id == answer.first; });
    });
    if (assignment.phase != Phase::kFinished && assignment.phase != Phase::kStopped) return;
    w.effects_.messages.push_back(Leave{"the run is over"});
    Exit(assignment.phase == Phase::kFinished, RefusalCode::kRunOver, assignment.reason);
  }

  void Receive(const WorkerReceived&, const Refused& refused) {
    if (refused.code != RefusalCode::kFenced && refused.code != RefusalCode::kWrongGeneration) {
      const bool done = w.leaving_ || refused.code == RefusalCode::kRunOver;
      return Exit(done, refused.code, refused.reason);
    }
    if (w.leaving_) return Exit(true, std::nullopt, "left");
    if (w.session_.value == 0) return;  // already joining again
    w.session_ = SessionId{0};
    w.assignment_.reset();
    w.effects_.reason = refused.reason;
    w.SayHello();
  }

  template <class T>
  void Receive(const WorkerReceived&, const T&) {}  // not for this core
};

WorkerEffects Worker::Step(const WorkerEvent& event) {
  effects_ = {};
  if (!over_) std::visit(WorkerHandler{*this}, event);
  if (!over_) Decide();
  return std::move(effects_);
}

void Worker::SayHello() {
  effects_.messages.push_back(Hello{.process = identity_.process,
                                    .name = identity_.name,
                                    .software = identity_.software,
                                    .memory_bytes = identity_.memory_bytes,
                                    .threads = identity_.threads,
                                    .toy = identity_.toy,
                                    .data_identity = data_ ? data_->identity : Digest{},
                                    .data_origin = data_ ? data_->origin : ""});
}

void Worker::Announce() {
  if (session_.value == 0) return SayHello();
  if (leaving_) return effects_.messages.push_back(Leave{"leaving"});
  const bool coding =
      sent_ && sent_->ready.object.root == Digest{} && std::isfinite(sent_->ready.loss);
  if (sent_ && !coding && sent_->ready.object.id.contribution.session == session_) {
    effects_.messages.push_back(sent_->ready);
  }
  for (const auto& [id, done] : answers_) effects_.messages.push_back(done);
}

const OutcomeView* Worker::Outcome() const {
  return assignment_->outcomes.empty() ? nullptr : &assignment_->outcomes[0];
}

const RoundView* Worker::OpenRound() const {
  return assignment_->rounds.empty() ? nullptr : &assignment_->rounds[0];
}

// Local progress is void: θ = θ̄. A step that runs right now is void, too.
void Worker::DropProgress(const ResetProgress& how) {
  carried_ = {};
  current_ = {};
  if (stepping_) void_step_ = true;
  Start(how);
}

void Worker::CheckHash(const FragmentState& mine) {
  for (const CommitView& c : assignment_ ? assignment_->commits : std::vector<CommitView>{}) {
    if (c.version != mine.version) continue;
    ++hash_checks_;
    if (c.state_hash == mine.state_hash) return;
    ++hash_mismatches_;
    state_.reset();  // fetch it again before anything is contributed
    sent_.reset();
    DropProgress({.residual = true, .unload = true});
  }
}

void Worker::Decide() {
  if (!assignment_ || !data_ || session_.value == 0 || leaving_ || jobs_ > 0) return;
  DecideSent() || DecideVersion() || DecideProgress() || DecideContribution() || DecideRequest() ||
      DecideStep();
}

// DESIGN 5, step 9: only commit or abort of its round decides a contribution.
bool Worker::DecideSent() {
  const OutcomeView* outcome = Outcome();
  if (!sent_ || !outcome || outcome->decided < sent_->ready.round) return false;
  const bool included = outcome->included == sent_->ready.object.id.contribution;
  if (!included) carried_.Add(sent_->progress);
  unapplied_ = included;
  sent_.reset();
  Start(ResolveContribution{included});
  return true;
}

void Worker::Start(WorkerRequest job) {
  ++jobs_;
  effects_.requests.push_back(std::move(job));
}

bool Worker::WantObject(const ObjectInfo& object) {
  if (here_ == object.id) return true;
  if (!wanted_ || wanted_->id != object.id) {
    if (wanted_) effects_.requests.push_back(StopFetching{});
    wanted_ = object;
    here_.reset();
    effects_.requests.push_back(FetchObject{object});
  }
  return false;
}

// Towards the newest committed version: the next commit when it is in the list, otherwise the
// snapshot.
bool Worker::DecideVersion() {
  if (assignment_->current.empty() || assignment_->snapshots.empty()) return false;
  if (state_ && state_->version >= assignment_->current[0].version) return false;
  if (state_) {
    for (const CommitView& c : assignment_->commits) {
      if (c.version != state_->version.Next()) continue;
      if (!WantObject(c.aggregate)) return false;
      Start(ApplyCommit{c});
      return true;
    }
  }
  const ObjectInfo& snapshot = assignment_->snapshots[0];
  if (state_ && snapshot.id.version <= state_->version)
    return false;  // the next Assignment will have the commits
  if (state_) {
    state_.reset();
    DropProgress({.unload = true});
    return true;
  }
  if (!WantObject(snapshot)) return false;
  Start(LoadState{snapshot});
  return true;
}

bool Worker::Leased(const Progress& progress) const {
  return std::all_of(progress.ranges.begin(), progress.ranges.end(), [this](const LeaseRange& r) {
    uint64_t from = r.from;
    for (const LeaseRange& l : assignment_->leases) {  // in order of position
      if (l.fence == r.fence && l.from <= from && from < l.to) from = std::min(l.to, r.to);
    }
    return from >= r.to;
  });
}

// Progress on ranges that are not ours any more is void.
bool Worker::DecideProgress() {
  if (!state_) return false;
  if (Leased(carried_) && Leased(current_)) return false;
  DropProgress({});
  return true;
}

bool Worker::DecideContribution() {
  const RoundView* round = OpenRound();
  if (!round || sent_ || !state_ || round->base != state_->version) return false;
  // Who has trained on all its data already, but was not included, has nothing to wait for.
  const bool idle = Size(Unused()) < SamplesPerStep(welcome_->config);
  if (current_.steps + (idle ? carried_.steps : 0) < round->own_steps) return false;
  const OutcomeView* outcome = Outcome();
  if (!outcome || outcome->decided >= round->round) return false;
  const ContributionId id{session_, ++sequence_};
  Sent sent;
  sent.progress = std::exchange(carried_, {});
  sent.progress.Add(std::exchange(current_, {}));
  sent.ready.round = round->round;
  sent.ready.base_hash = state_->state_hash;
  sent.ready.leases = sent.progress.ranges;
  sent.ready.steps = sent.progress.steps;
  sent.ready.loss = sent.progress.loss_sum / static_cast<double>(sent.progress.steps);
  sent.ready.object.id = {ObjectKind::kContribution, generation_, FragmentId{0}, state_->version,
                          id};
  sent_ = std::move(sent);
  if (!std::isfinite(sent_->ready.loss)) {
    Announce();
    DropProgress({.inner_state = true});  // the coordinator will refuse it and fence this session
    return true;
  }
  Start(CodeContribution{id, generation_, state_->version});
  return true;
}

bool Worker::DecideRequest() {
  for (const WorkRequest& r : assignment_->requests) {
    if (answers_.contains(r.id) || !state_ || state_->version < r.version) continue;
    Start(RunRequest{r});
    return true;
  }
  return false;
}

std::vector<LeaseRange> Worker::Unused() const {
  std::vector<LeaseRange> used = carried_.ranges;
  used.insert(used.end(), current_.ranges.begin(), current_.ranges.end());
  if (sent_) used.insert(used.end(), sent_->progress.ranges.begin(), sent_->progress.ranges.end());
  std::vector<LeaseRange> unused;
  for (const LeaseRange& l : assignment_->leases) Subtract(l, used, unused);
  return unused;
}

bool Worker::DecideStep() {
  if (!state_ || assignment_->phase != Phase::kRunning) return false;
  const RunConfig& config = welcome_->config;
  // Until the new global parameters are here, what is trained starts from the old ones.
  const bool travels = sent_ || unapplied_;
  const uint64_t limit = travels ? config.sync.overlap_steps : config.sync.inner_steps;
  if (current_.steps >= limit) return false;
  uint64_t missing = SamplesPerStep(config);
  const std::vector<LeaseRange> unused = Unused();
  if (Size(unused) < missing) return false;
  TrainStep step{.step = state_->version.value * config.sync.inner_steps + current_.steps};
  std::vector<LeaseRange> ranges;
  for (const LeaseRange& l : unused) {
    const uint64_t n = std::min(missing, l.to - l.from);
    if (n == 0) break;
    for (uint64_t p = l.from; p < l.from + n; ++p) step.positions.push_back(p);
    ranges.push_back({l.fence, l.from, l.from + n});
    missing -= n;
  }
  stepping_ = std::move(ranges);
  Start(std::move(step));
  return true;
}

}  // namespace longhaul
