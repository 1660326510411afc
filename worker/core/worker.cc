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
    if (w.welcome_ && w.welcome_->keep_residual) w.Start(LoadSnapshot{});
    w.SayHello();  // the coordinator checks the identity, too
  }
  void operator()(const ObjectFetched& e) {
    if (!w.wanted_ || w.wanted_->id != e.id) return;
    const ObjectInfo object = *std::exchange(w.wanted_, std::nullopt);
    w.here_[object.id.fragment] = object;
    if (w.IsAhead(object)) w.effects_.messages.push_back(AggregateHeld{object});
  }
  void operator()(const ObjectGone& e) {
    if (w.wanted_ && w.wanted_->id == e.id) w.wanted_.reset();
  }
  void operator()(const StateLoaded& e) {
    if (w.loading_) w.parts_.at(e.state.fragment.value).sent.reset();
    FinishObject(e.state);
  }
  void operator()(const CommitApplied& e) { FinishObject(e.state); }

  void FinishObject(const FragmentState& state) {
    --w.jobs_;
    if (!std::exchange(w.loading_, std::nullopt)) return;  // of an older generation
    Worker::Part& part = w.parts_.at(state.fragment.value);
    part.unapplied = false;
    part.state = state;
    w.CheckHash(part);
  }

  void operator()(const ContributionCoded& e) {
    --w.jobs_;
    std::optional<Worker::Sent>& sent = w.parts_.at(e.object.id.fragment.value).sent;
    if (!sent || sent->ready.object.id != e.object.id) return;  // dropped meanwhile
    sent->ready.object = e.object;
    sent->ready.slices = e.slices;
    if (e.object.chunks == 0) sent->ready.loss = std::numeric_limits<double>::quiet_NaN();
    w.Announce();
  }

  void operator()(const StepDone& e) {
    --w.jobs_;
    const std::vector<LeaseRange> ranges = std::exchange(w.stepping_, std::nullopt).value();
    if (std::exchange(w.void_step_, false)) return;
    for (Worker::Part& part : w.parts_) {
      for (const LeaseRange& r : ranges) AppendRange(part.current.ranges, r);
      ++part.current.steps;
      part.current.loss_sum += e.finite ? e.loss : std::numeric_limits<double>::quiet_NaN();
    }
  }

  void operator()(const RequestFinished& e) {
    --w.jobs_;
    w.answers_[e.done.request] = e.done;
    w.effects_.messages.push_back(e.done);
  }
  void operator()(const JobDone&) { --w.jobs_; }
  void operator()(const LeaveWanted& e) {
    if (w.session() == SessionId{0}) return Exit(true, std::nullopt, e.reason);
    const bool nothing = w.jobs_ == 0 && !w.AnyProgress();
    (e.hand_in && !nothing ? w.finishing_ : w.leaving_) = true;
    w.effects_.messages.push_back(Leave{e.reason, !w.leaving_});
  }

  void Exit(bool success, std::optional<RefusalCode> code, const std::string& reason) {
    w.over_ = true;
    w.effects_.requests.push_back(ExitWorker{success, code, reason});
  }

  // ---- messages ----
  void Receive(const WorkerReceived& e, const Welcome& welcome) {
    if (welcome.process != w.identity_.process || e.sequence <= w.welcome_sequence_) return;
    const bool new_generation = w.welcome_ && e.generation != w.generation_;
    const bool new_session = welcome.session != w.session_;
    w.generation_ = e.generation;
    w.session_ = welcome.session;
    w.welcome_ = welcome;
    w.joining_ = false;
    w.welcome_sequence_ = e.sequence;
    w.assignment_sequence_ = std::max(w.assignment_sequence_, e.sequence);
    if (new_session) {
      w.assignment_.reset();
      w.rejoining_ = false;
      for (Worker::Part& part : w.parts_) {
        if (part.sent) part.sent->progress = {};  // its data went back with the old session
      }
    }
    if (new_session || new_generation) ForgetProgress(new_generation);
    if (!std::exchange(w.data_asked_, true)) {
      w.effects_.requests.push_back(
          LoadData{welcome.config, welcome.data_identity, welcome.parameters});
    }
  }

  // A new session starts from the global parameters; what was sent may still turn out to be
  // included, unless the generation is new.
  void ForgetProgress(bool new_generation) {
    bool residual = new_generation;
    bool any = false;
    for (uint64_t i = 0; i < w.parts_.size(); ++i) {
      Worker::Part& part = w.parts_[i];
      any = any || part.state || part.sent;
      residual = residual || part.distrusted;
      if (!new_generation && !part.distrusted) continue;
      if (w.loading_ == FragmentId{i}) w.loading_.reset();
      if (part.distrusted) w.Start(UnloadFragment{FragmentId{i}});
      part = {};
    }
    if (residual) {
      for (Worker::Part& part : w.parts_) part.sent.reset();
      w.wanted_.reset();
      w.here_.clear();
      w.effects_.requests.push_back(StopFetching{});
    }
    if (any || (residual && w.data_)) w.DropProgress({.residual = residual});
  }

  static bool WellFormed(const Assignment& a) {
    if (a.current.empty() || a.snapshots.size() != a.current.size() ||
        a.outcomes.size() != a.current.size())
      return false;
    for (uint64_t i = 0; i < a.current.size(); ++i) {
      if (a.current[i].fragment.value != i || a.outcomes[i].fragment.value != i ||
          a.snapshots[i].id.fragment.value != i)
        return false;
    }
    return true;
  }

  void Receive(const WorkerReceived& e, const Assignment& assignment) {
    if (e.generation != w.generation_ || e.sequence <= w.assignment_sequence_ || !w.welcome_ ||
        !WellFormed(assignment))
      return;
    if (w.parts_.empty()) w.parts_.resize(assignment.current.size());
    if (w.parts_.size() != assignment.current.size()) return;
    for (const RoundView& round : assignment.rounds) {
      if (round.fragment.value < w.parts_.size())
        w.parts_[round.fragment.value].planned_steps = round.own_steps;
    }
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
    if (w.leaving_ || w.finishing_) return Exit(true, std::nullopt, "left");
    if (w.session() == SessionId{0}) return;  // already joining again
    // A refusal may be about something older. What we have stays until a Welcome names another
    // session: as long as ours lives, the coordinator counts on it.
    w.joining_ = true;
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
  // Asked about once: what a later session may keep is in memory.
  const SaveSnapshot saved = data_asked_ || !identity_.saved ? SaveSnapshot{} : *identity_.saved;
  effects_.messages.push_back(Hello{.process = identity_.process,
                                    .name = identity_.name,
                                    .software = identity_.software,
                                    .memory_bytes = identity_.memory_bytes,
                                    .threads = identity_.threads,
                                    .toy = identity_.toy,
                                    .data_identity = data_ ? data_->identity : Digest{},
                                    .data_origin = data_ ? data_->origin : "",
                                    .saved_generation = saved.generation,
                                    .saved_included = saved.included,
                                    .peer_address = identity_.peer_address});
}

std::vector<FragmentState> Worker::states() const {
  std::vector<FragmentState> states;
  for (const Part& part : parts_) {
    if (part.state) states.push_back(*part.state);
  }
  return states;
}

void Worker::Announce() {
  if (session() == SessionId{0}) return SayHello();
  if (leaving_) return effects_.messages.push_back(Leave{"leaving"});
  if (rejoining_) return effects_.messages.push_back(Leave{"starting again"});
  if (finishing_) effects_.messages.push_back(Leave{"finishing", /*hand_in=*/true});
  for (const Part& part : parts_) {
    if (!part.sent || part.sent->ready.object.id.contribution.session != session_) continue;
    const ContributionReady& ready = part.sent->ready;
    const bool coding = ready.object.root == Digest{} && std::isfinite(ready.loss);
    if (!coding) effects_.messages.push_back(ready);
  }
  for (const auto& [id, done] : answers_) effects_.messages.push_back(done);
  for (const auto& [fragment, object] : here_) {
    if (IsAhead(object)) effects_.messages.push_back(AggregateHeld{object});
  }
}

bool Worker::IsHere(const ObjectInfo& object) const {
  auto it = here_.find(object.id.fragment);
  return it != here_.end() && it->second == object;
}

bool Worker::IsAhead(const ObjectInfo& object) const {
  if (!assignment_ || object.id.kind != ObjectKind::kAggregate) return false;
  const uint64_t fragment = object.id.fragment.value;
  return fragment < assignment_->current.size() &&
         object.id.version > assignment_->current[fragment].version;
}

std::vector<SliceSource> Worker::SourcesOf(const ObjectInfo& object) const {
  for (const AggregateView& view : assignment_->aggregates) {
    if (view.object == object) return view.slices;
  }
  return {};
}

const RoundView* Worker::OpenRound(FragmentId fragment) const {
  for (const RoundView& round : assignment_->rounds) {
    if (round.fragment == fragment) return &round;
  }
  return nullptr;
}

bool Worker::AllLoaded() const {
  return !parts_.empty() &&
         std::all_of(parts_.begin(), parts_.end(), [](const Part& p) { return p.state; });
}

bool Worker::AnyProgress() const {
  return std::any_of(parts_.begin(), parts_.end(), [](const Part& p) { return p.HasProgress(); });
}

bool Worker::Idle() const { return Size(Unused()) < SamplesPerStep(welcome_->config); }

// Local progress is void: θ = θ̄. A step that runs right now is void, too.
void Worker::DropProgress(const ResetProgress& how) {
  for (Part& part : parts_) {
    part.carried = {};
    part.current = {};
  }
  if (stepping_) void_step_ = true;
  Start(how);
}

void Worker::Rejoin(const std::string& why) {
  rejoining_ = true;  // the next tick says so, after a heartbeat that states what we hold
  effects_.reason = why;
}

void Worker::CheckHash(Part& part) {
  for (const CommitView& c : assignment_ ? assignment_->commits : std::vector<CommitView>{}) {
    if (c.fragment != part.state->fragment || c.version != part.state->version) continue;
    ++hash_checks_;
    if (c.state_hash == part.state->state_hash) return;
    ++hash_mismatches_;
    part.distrusted = true;
    Rejoin("the state of fragment " + std::to_string(c.fragment.value) +
           " is not the coordinator's: fetching it again");
  }
}

void Worker::Decide() {
  if (!assignment_ || !data_ || session() == SessionId{0} || leaving_ || rejoining_ || jobs_ > 0)
    return;
  if (DecideSent() || DecideVersion() || rejoining_) return;
  for (uint64_t i = 0; i < parts_.size(); ++i) {
    if (DecideContribution(parts_[i], FragmentId{i})) return;
  }
  if (DecideSnapshot() || DecideRequest()) return;
  DecideStep();
  DecideLeave();
}

// DESIGN 5, step 9: only commit or abort of its round decides a contribution.
bool Worker::DecideSent() {
  for (uint64_t i = 0; i < parts_.size(); ++i) {
    Part& part = parts_[i];
    const OutcomeView& outcome = assignment_->outcomes[i];
    if (!part.sent || outcome.decided < part.sent->ready.round) continue;
    const ContributionId id = part.sent->ready.object.id.contribution;
    if (outcome.included.session > id.session) {
      // Another process of our key was included since: whether ours was cannot be told any more.
      for (Part& other : parts_) other.sent.reset();
      DropProgress({.residual = true});
      return true;
    }
    ResolveContribution resolve{FragmentId{i}};
    if (outcome.included == id) {
      resolve.outcome = Outcome::kIncluded;
    } else if (outcome.dropped == id) {
      resolve.outcome = Outcome::kDropped;
    } else {
      part.carried.Add(part.sent->progress);
    }
    part.unapplied = resolve.outcome == Outcome::kIncluded;
    part.sent.reset();
    Start(resolve);
    return true;
  }
  return false;
}

void Worker::Start(WorkerRequest job) {
  ++jobs_;
  effects_.requests.push_back(std::move(job));
}

// Towards the newest committed version: the next commit when it is in the list, otherwise the
// snapshot. Nothing when neither helps: the next Assignment will have the commits.
std::optional<Worker::Need> Worker::NextNeed(FragmentId fragment) const {
  const std::optional<FragmentState>& state = parts_[fragment.value].state;
  const ObjectInfo& snapshot = assignment_->snapshots[fragment.value];
  if (!state) return Need{snapshot, std::nullopt};
  if (state->version >= assignment_->current[fragment.value].version) return std::nullopt;
  for (const CommitView& c : assignment_->commits) {
    if (c.fragment == fragment && c.version == state->version.Next()) return Need{c.aggregate, c};
  }
  if (snapshot.id.version <= state->version) return std::nullopt;
  return Need{snapshot, std::nullopt};
}

// One object is fetched at a time.
bool Worker::DecideVersion() {
  std::optional<Need> need;
  for (uint64_t i = 0; i < parts_.size(); ++i) {
    std::optional<Need> next = NextNeed(FragmentId{i});
    if (!next) continue;
    if (!next->commit && parts_[i].state) {
      if (AnyProgress()) {
        Rejoin("too far behind: starting again from a checkpoint");
        return false;
      }
      parts_[i] = {};
      Start(UnloadFragment{FragmentId{i}});
      return true;
    }
    const bool better = IsHere(next->object) || (wanted_ && *wanted_ == next->object);
    if (!need || (better && !IsHere(need->object))) need = std::move(next);
  }
  if (!need) need = NextAhead();
  if (wanted_ && (!need || *wanted_ != need->object)) {
    effects_.requests.push_back(StopFetching{});
    wanted_.reset();
  }
  if (!need) return false;
  if (IsHere(need->object)) {
    loading_ = need->object.id.fragment;
    here_.erase(*loading_);
    need->commit ? Start(ApplyCommit{*need->commit}) : Start(LoadState{need->object});
    return true;
  }
  if (!wanted_) {
    wanted_ = need->object;
    effects_.requests.push_back(FetchObject{need->object, SourcesOf(need->object)});
  }
  return false;
}

// What will be committed next, if all goes well, is fetched while there is nothing else to fetch.
std::optional<Worker::Need> Worker::NextAhead() const {
  for (const AggregateView& view : assignment_->aggregates) {
    const ObjectId& id = view.object.id;
    if (!IsAhead(view.object) || IsHere(view.object) || id.generation != generation_) continue;
    const std::optional<FragmentState>& state = parts_[id.fragment.value].state;
    if (state && state->version.Next() == id.version) return Need{view.object, std::nullopt, true};
  }
  return std::nullopt;
}

bool Worker::DecideContribution(Part& part, FragmentId fragment) {
  const RoundView* round = OpenRound(fragment);
  if (!part.state || part.travels() || !round || round->base != part.state->version) return false;
  if (assignment_->outcomes[fragment.value].decided >= round->round) return false;
  // Who trains no more has nothing to wait for: what was not included goes out with the rest.
  const bool no_more = finishing_ || Idle();
  const uint64_t steps = part.current.steps + (no_more ? part.carried.steps : 0);
  if (steps == 0 || (steps < round->own_steps && !finishing_)) return false;
  const ContributionId id{session_, ++sequence_};
  Sent sent;
  sent.progress = std::exchange(part.carried, {});
  sent.progress.Add(std::exchange(part.current, {}));
  sent.ready.round = round->round;
  sent.ready.base_hash = part.state->state_hash;
  sent.ready.leases = sent.progress.ranges;
  sent.ready.steps = sent.progress.steps;
  sent.ready.loss = sent.progress.loss_sum / static_cast<double>(sent.progress.steps);
  sent.ready.object.id = {ObjectKind::kContribution, generation_, fragment, part.state->version,
                          id};
  part.sent = std::move(sent);
  if (!std::isfinite(part.sent->ready.loss)) {
    Announce();
    DropProgress({.inner_state = true});  // the coordinator will refuse it and fence this session
    return true;
  }
  Start(CodeContribution{id, generation_, fragment, part.state->version, round->slices});
  return true;
}

bool Worker::DecideRequest() {
  if (!AllLoaded()) return false;
  for (const WorkRequest& r : assignment_->requests) {
    if (answers_.contains(r.id) || parts_[0].state->version < r.version) continue;
    Start(RunRequest{r});
    return true;
  }
  return false;
}

// Saved when nothing is undecided: then the residual accounts for exactly what was included so far.
bool Worker::DecideSnapshot() {
  uint64_t steps = 0;
  for (const Part& part : parts_) {
    if (!part.state || part.travels()) return false;
    steps += part.state->version.value;
  }
  const bool leaves = finishing_ && !AnyProgress() && steps > saved_steps_;
  if (!leaves && steps < saved_steps_ + kSnapshotSteps * parts_.size()) return false;
  saved_steps_ = steps;
  SaveSnapshot save{generation_, {}};
  for (const OutcomeView& outcome : assignment_->outcomes)
    save.included.push_back(outcome.included);
  Start(std::move(save));
  return true;
}

// A planned leave is over when nothing that was trained is left to be decided.
void Worker::DecideLeave() {
  if (!finishing_ || jobs_ > 0 || AnyProgress()) return;
  leaving_ = true;
  Announce();
}

std::vector<LeaseRange> Worker::Unused() const {
  std::vector<LeaseRange> used;
  for (const Part& part : parts_) {
    for (const Progress* p :
         {&part.carried, &part.current, part.sent ? &part.sent->progress : nullptr}) {
      if (p) used.insert(used.end(), p->ranges.begin(), p->ranges.end());
    }
  }
  std::vector<LeaseRange> unused;
  for (const LeaseRange& l : assignment_->leases) Subtract(l, used, unused);
  return unused;
}

// Until the new global parameters are here, what is trained starts from the old ones. Of several
// fragments, one in flight holds back nothing until it is due again: workers that lost step would
// otherwise wait for each other, each for a round that needs the other's steps.
uint64_t Worker::StepLimit(const Part& part) const {
  const RunConfig& config = welcome_->config;
  if (part.state->version.value >= config.run.rounds) return UINT64_MAX;  // it is done
  const uint64_t due = part.planned_steps > 0 ? part.planned_steps : StepsPerRound(config);
  return part.travels() && parts_.size() == 1 ? config.sync.overlap_steps : due;
}

bool Worker::DecideStep() {
  if (finishing_ || !AllLoaded() || assignment_->phase != Phase::kRunning) return false;
  for (const Part& part : parts_) {
    if (part.current.steps >= StepLimit(part)) return false;
  }
  const RunConfig& config = welcome_->config;
  uint64_t missing = SamplesPerStep(config);
  const std::vector<LeaseRange> unused = Unused();
  if (Size(unused) < missing) return false;
  TrainStep step{.step = parts_[0].state->version.value * StepsPerRound(config) +
                         parts_[0].current.steps};
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
