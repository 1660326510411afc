#include "tests/core_world.h"

#include <algorithm>

#include "common/check.h"
#include "common/hash.h"
#include "compression/codec.h"

namespace longhaul {

namespace {
constexpr uint64_t kParameters = 100;
constexpr Generation kGeneration{1, 42};

}  // namespace

ObjectInfo CoreWorld::Snapshot(const Generation& g, FragmentId fragment, Version v) {
  return {.id = {ObjectKind::kState, g, fragment, v, {}},
          .chunks = 1,
          .bytes = 8 * kParameters,
          .root = HashOf(fragment, v)};
}

RunConfig SmallConfig(uint32_t fragments) {
  RunConfig c;
  c.run.rounds = 3;
  c.run.min_workers = 2;
  c.sync.inner_steps = 4;
  c.sync.fragments = fragments;
  c.data.sequence_length = 128;
  c.train.per_device_train_batch_size = 8;
  c.checkpoint.every_rounds = 2;
  return c;
}

Digest CoreWorld::HashOf(FragmentId fragment, Version v) {
  return Blake2b("state " + std::to_string(fragment.value) + " " + std::to_string(v.value));
}

CoreWorld::CoreWorld(const RunConfig& config, uint64_t positions) : config_(config) {
  coordinator_ = std::make_unique<Coordinator>(config);
  RunStarted begin{.run_id = "0000000000000001", .generation = kGeneration, .positions = positions};
  for (uint64_t f = 0; f < config.sync.fragments; ++f) {
    begin.elements.push_back(kParameters);
    begin.snapshots.push_back(Snapshot(kGeneration, FragmentId{f}, Version{0}));
  }
  Record record{Timestamp{}, begin};
  State state;
  Coordinator::Apply(state, record);
  journal_.push_back(EncodeRecord(record));
  coordinator_->Restore(std::move(state));
  Feed(BootEvent{});
}

int CoreWorld::AddWorker(uint8_t key) {
  WorkerProcess p;
  p.key.bytes[0] = key;
  WorkerIdentity identity;
  identity.process = {key, next_process_++};
  identity.name = "w" + std::to_string(key);
  identity.peer_address = identity.name + ":1";
  p.core = std::make_unique<Worker>(identity);
  workers_.push_back(std::move(p));
  const int i = static_cast<int>(workers_.size()) - 1;
  Feed(AllowEvent{workers_[i].key, identity.name});
  FeedWorker(i, WorkerConnected{});
  return i;
}

void CoreWorld::KillWorker(int i) {
  workers_.at(i).alive = false;
  Silence({i});
}

void CoreWorld::Silence(std::vector<int> workers) {
  SilentEvent silent;
  for (int i : workers) silent.sessions.push_back(workers_.at(i).core->session());
  Feed(silent);
}

void CoreWorld::LeaveWorker(int i, bool hand_in) { FeedWorker(i, LeaveWanted{"test", hand_in}); }

void CoreWorld::RestartCoordinator() {
  State state;
  for (const std::string& bytes : journal_) {
    auto record = DecodeRecord(AsBytes(bytes));
    LONGHAUL_CHECK(record.ok(), "the journal can be read");
    Coordinator::Apply(state, *record);
  }
  coordinator_ = std::make_unique<Coordinator>(config_);
  coordinator_->Restore(std::move(state));
  queue_.clear();  // what was on its way is lost
  sequence_ += 1000;
  Feed(BootEvent{.restarted = true});
  for (size_t i = 0; i < workers_.size(); ++i) {
    if (workers_[i].alive && !workers_[i].exit) FeedWorker(static_cast<int>(i), WorkerConnected{});
  }
}

void CoreWorld::Tick(Duration step) {
  now_ = now_ + step;
  Feed(TickEvent{});
  for (size_t i = 0; i < workers_.size(); ++i) {
    WorkerProcess& w = workers_[i];
    if (!w.alive || w.exit) continue;
    // The heartbeat's part of the shell: stated versions, and the Assignment as its answer.
    const SessionId session = w.core->session();
    if (session.value == 0) {
      FeedWorker(static_cast<int>(i), WorkerTick{});
      continue;
    }
    if (auto refused = coordinator_->WhyNotLive(session)) {
      SendTo(static_cast<int>(i), *refused);
      continue;
    }
    w.stated = w.core->states();
    if (!w.stated.empty()) Feed(StatedEvent{session, w.stated});
    if (!coordinator_->WhyNotLive(session))
      SendTo(static_cast<int>(i), coordinator_->AssignmentFor(session, w.stated));
    FeedWorker(static_cast<int>(i), WorkerTick{});
  }
  Deliver();
}

void CoreWorld::RunUntil(uint64_t version, int max_ticks) {
  step_limit_ = version;
  Deliver();
  for (int i = 0; i < max_ticks && this->version() < version; ++i) Tick(Milliseconds(500));
}

void CoreWorld::Deliver() {
  while (true) {
    while (!queue_.empty()) {
      auto next = std::move(queue_.front());
      queue_.pop_front();
      next();
    }
    bool answered = false;
    for (size_t i = 0; i < workers_.size(); ++i) {
      WorkerProcess& w = workers_[i];
      if (w.answers.empty() || !w.alive || !may_answer(static_cast<int>(i))) continue;
      const bool hold = version() >= step_limit_ || !may_step(static_cast<int>(i));
      if (std::holds_alternative<StepDone>(w.answers.front()) && hold) continue;
      WorkerEvent answer = std::move(w.answers.front());
      w.answers.pop_front();
      FeedWorker(static_cast<int>(i), answer);
      answered = true;
    }
    if (!answered && queue_.empty()) return;
  }
}

std::vector<std::string> CoreWorld::JournalText() const {
  std::vector<std::string> lines;
  for (const Record& record : Records()) lines.push_back(DescribeRecord(record));
  return lines;
}

std::vector<Record> CoreWorld::Records() const {
  std::vector<Record> records;
  for (const std::string& bytes : journal_) records.push_back(*DecodeRecord(AsBytes(bytes)));
  return records;
}

int CoreWorld::WorkerOf(SessionId session) const {
  for (size_t i = 0; i < workers_.size(); ++i) {
    if (workers_[i].core->session() == session && workers_[i].alive) return static_cast<int>(i);
  }
  return -1;
}

Effects CoreWorld::Feed(EventBody body) {
  Effects effects = coordinator_->Step(Event{now_, std::move(body)});
  LONGHAUL_CHECK(effects.fatal.empty(), "the journal is not behind");
  for (const Record& r : effects.records) {
    journal_.push_back(EncodeRecord(r));
    if (const auto* c = std::get_if<RoundClosed>(&r.body))
      included_[c->fragment] = c->closing.included;
    if (const auto* c = std::get_if<RoundCommitted>(&r.body)) CountCommitted(c->commit.fragment);
    if (const auto* c = std::get_if<ContributionAccepted>(&r.body)) {
      leases_of_[c->object.id.contribution] = c->leases;
      steps_of_[c->object.id.contribution] = c->steps;
    }
    if (const auto* c = std::get_if<RoundClosed>(&r.body)) {
      for (const ContributionId& id : c->closing.included)
        included_steps.push_back(steps_of_.at(id));
    }
  }
  for (const Reply& reply : effects.replies)
    SendTo(static_cast<int>(reply.to.token), reply.message);
  for (SessionId session : effects.notify) {
    const int i = WorkerOf(session);
    if (i < 0) continue;
    auto refused = coordinator_->WhyNotLive(session);
    if (refused) {
      SendTo(i, *refused);
    } else {
      SendTo(i, coordinator_->AssignmentFor(session, workers_[i].stated));
    }
  }
  for (const Request& request : effects.requests) Do(request);
  return effects;
}

void CoreWorld::Do(const Request& request) {
  if (const auto* r = std::get_if<ExpectContribution>(&request)) {
    if (reducer_works)
      queue_.push_back([this, id = r->object.id] {
        Feed(HeldEvent{id.fragment, id.contribution});
      });
  } else if (const auto* r = std::get_if<ReduceRound>(&request)) {
    if (!reducer_closes) return;
    ObjectInfo aggregate{
        .id = {ObjectKind::kAggregate, state().generation, r->fragment, r->version, {}},
        .chunks = 1};
    aggregate.root = Blake2b("aggregate " + std::to_string(r->version.value));
    const PreparedEvent prepared{
        r->fragment, r->round, r->attempt, aggregate, HashOf(r->fragment, r->version), 0};
    queue_.push_back([this, prepared] { Feed(prepared); });
  } else if (const auto* r = std::get_if<ReduceSlices>(&request)) {
    FollowOrders(SessionId{0}, r->orders);
  } else if (const auto* r = std::get_if<AssembleRound>(&request)) {
    ObjectInfo aggregate{.id = r->parts.at(0).object.id, .chunks = 1};
    aggregate.root = Blake2b("aggregate " + std::to_string(r->version.value));
    const PreparedEvent prepared{
        r->fragment, r->round, r->attempt, aggregate, HashOf(r->fragment, r->version), r->moves};
    queue_.push_back([this, prepared] { Feed(prepared); });
  } else if (const auto* r = std::get_if<StoreCheckpoint>(&request)) {
    queue_.push_back([this, versions = r->versions] {
      CheckpointEvent done{{}, versions};
      for (uint64_t f = 0; f < versions.size(); ++f)
        done.snapshots.push_back(Snapshot(state().generation, FragmentId{f}, versions[f]));
      Feed(done);
    });
  }
}

void CoreWorld::FollowOrders(SessionId reducer, const std::vector<SliceOrder>& orders) {
  if (!reducer_works) return;
  for (const SliceOrder& order : orders) {
    SliceReport report{.round = order.round, .fragment = order.fragment, .slice = order.slice};
    for (const SliceContribution& c : order.contributions) report.held.push_back(c.id);
    if (reducer_closes) report.attempt = order.attempt;
    report.aggregate.chunks = order.chunks;
    queue_.push_back([this, reducer, report] { Feed(SliceReportEvent{reducer, report}); });
  }
}

void CoreWorld::CountCommitted(FragmentId fragment) {
  for (const ContributionId& id : included_[fragment]) {
    for (const LeaseRange& l : leases_of_.at(id)) {
      for (uint64_t p = l.from; p < l.to; ++p) ++committed[fragment][p];
    }
  }
}

void CoreWorld::SendTo(int i, const Message& message) {
  WorkerReceived received{state().generation, ++sequence_, message};
  queue_.push_back([this, i, received] {
    if (!workers_.at(i).alive || workers_.at(i).exit) return;
    FeedWorker(i, received);
    if (const auto* a = std::get_if<Assignment>(&received.message))
      FollowOrders(workers_.at(i).core->session(), a->orders);
  });
}

void CoreWorld::FeedWorker(int i, const WorkerEvent& event) {
  WorkerEffects effects = workers_.at(i).core->Step(event);
  for (const Message& m : effects.messages) queue_.push_back([this, i, m] { Receive(i, m); });
  for (const WorkerRequest& r : effects.requests) Answer(i, r);
}

void CoreWorld::Receive(int i, const Message& message) {
  WorkerProcess& w = workers_.at(i);
  if (!w.alive) return;
  const SessionId session = w.core->session();
  if (const auto* hello = std::get_if<Hello>(&message)) {
    Feed(HelloEvent{ReplyTo{static_cast<uint64_t>(i)}, w.key, *hello});
  } else if (auto refused = coordinator_->WhyNotLive(session)) {
    SendTo(i, *refused);
  } else if (const auto* ready = std::get_if<ContributionReady>(&message)) {
    Feed(ContributionEvent{session, *ready});
  } else if (const auto* done = std::get_if<RequestDone>(&message)) {
    Feed(RequestDoneEvent{session, *done});
  } else if (const auto* held = std::get_if<AggregateHeld>(&message)) {
    Feed(AggregateHeldEvent{session, held->object});
  } else if (const auto* leave = std::get_if<Leave>(&message)) {
    Feed(LeaveEvent{session, leave->hand_in});
  }
}

void CoreWorld::Answer(int i, const WorkerRequest& request) {
  WorkerProcess& w = workers_.at(i);
  auto answer = [&w](WorkerEvent e) { w.answers.push_back(std::move(e)); };
  if (std::holds_alternative<LoadData>(request)) {
    answer(DataLoaded{});
  } else if (const auto* r = std::get_if<FetchObject>(&request)) {
    answer(ObjectFetched{r->object.id});
  } else if (const auto* r = std::get_if<LoadState>(&request)) {
    const ObjectId& id = r->object.id;
    answer(StateLoaded{{id.fragment, id.version, HashOf(id.fragment, id.version)}});
  } else if (const auto* r = std::get_if<ApplyCommit>(&request)) {
    const CommitView& c = r->commit;
    answer(CommitApplied{{c.fragment, c.version, HashOf(c.fragment, c.version)}});
  } else if (std::holds_alternative<TrainStep>(request)) {
    const double l = loss(i);
    answer(StepDone{l, std::isfinite(l)});
  } else if (const auto* r = std::get_if<CodeContribution>(&request)) {
    const uint64_t bytes = FindCodec(CodecId::kInt8)->EncodedBytes(kParameters);
    ContributionCoded coded{
        {.id = {ObjectKind::kContribution, r->generation, r->fragment, r->base, r->id},
         .chunks = 1,
         .bytes = bytes,
         .root = Blake2b("contribution")},
        {}};
    if (!r->slices.empty()) coded.slices = {{1, bytes, coded.object.root}};
    answer(coded);
  } else if (const auto* r = std::get_if<RunRequest>(&request)) {
    answer(RequestFinished{{.request = r->request.id, .loss = 2.0, .tokens = 10}});
  } else if (const auto* r = std::get_if<ExitWorker>(&request)) {
    w.exit = *r;
  } else if (!std::holds_alternative<StopFetching>(request)) {
    answer(JobDone{});
  }
}

}  // namespace longhaul
