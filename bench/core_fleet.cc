#include "bench/core_fleet.h"

#include <algorithm>

#include "common/check.h"
#include "common/hash.h"
#include "common/rng.h"
#include "proto/codec.h"

namespace longhaul {
namespace {

constexpr uint64_t kElements = 1000;
constexpr Generation kGeneration{1, 42};
constexpr char kRunId[] = "0000000000000001";
constexpr uint64_t kSeed = 7;

Digest HashOf(FragmentId fragment, Version version) {
  Digest digest{};
  ByteWriter w;
  w.U64(fragment.value);
  w.U64(version.value);
  std::copy_n(w.str().begin(), w.str().size(), digest.begin());
  return digest;
}

RunConfig ConfigOf(const CoreFleetOptions& o) {
  RunConfig c;
  c.run.rounds = o.rounds;
  c.run.min_workers = o.workers;
  c.sync.inner_steps = o.inner_steps;
  c.sync.fragments = o.fragments;
  c.train.per_device_train_batch_size = 8;  // with 128 tokens each: one sample a step
  c.data.sequence_length = 128;
  return c;
}

Message FirstFetch(const ObjectInfo& object) {
  return Fetch{.object = object.id, .attempt = 1, .missing = {{0, 1}}};
}

ObjectInfo Snapshot(FragmentId fragment, Version version) {
  return {.id = {ObjectKind::kState, kGeneration, fragment, version, {}},
          .chunks = 1,
          .bytes = 2 * sizeof(float) * kElements,
          .root = HashOf(fragment, version)};
}

Record FirstRecord(const CoreFleetOptions& o) {
  RunStarted begin{.run_id = kRunId, .generation = kGeneration};
  begin.positions = uint64_t{o.workers} * o.inner_steps * (o.rounds + 4) * 2;
  for (uint64_t f = 0; f < o.fragments; ++f) {
    begin.elements.push_back(kElements);
    begin.snapshots.push_back(Snapshot(FragmentId{f}, Version{0}));
  }
  return {Timestamp{}, std::move(begin)};
}

}  // namespace

State CoreFleet::FirstState(const CoreFleetOptions& options) {
  State state;
  Coordinator::Apply(state, FirstRecord(options));
  return state;
}

CoreFleet::CoreFleet(const CoreFleetOptions& options)
    : options_(options), config_(ConfigOf(options)), core_(std::make_unique<Coordinator>(config_)) {
  core_->Restore(FirstState(options));
  if (options_.on_records) options_.on_records(core_->state(), {FirstRecord(options)});
  Feed(BootEvent{});
  for (uint32_t i = 0; i < options.workers; ++i) {
    Site site;
    site.key.bytes = {static_cast<uint8_t>(i), static_cast<uint8_t>(i >> 8),
                      static_cast<uint8_t>(i >> 16), 1};
    const WorkerIdentity identity{.process = {1, i}, .name = "worker-" + std::to_string(i)};
    site.core = std::make_unique<Worker>(identity);
    site.step_time = Milliseconds(900 + static_cast<int64_t>(Draw(kSeed, {1, i}) % 200));
    sites_.push_back(std::move(site));
    Feed(AllowEvent{sites_[i].key, identity.name});
    FeedSite(i, WorkerConnected{});
    timers_.push({now_ + Milliseconds(static_cast<int64_t>(Draw(kSeed, {2, i}) % 1000)), i, true});
  }
}

bool CoreFleet::RunUntil(Version version) {
  const Timestamp limit = now_ + Seconds(3600) * options_.rounds;
  Deliver();
  while (core_->state().lowest_version() < version) {
    if (timers_.empty() || timers_.top().at > limit) return false;
    const Timer timer = timers_.top();
    timers_.pop();
    now_ = timer.at;
    Fire(timer);
    Deliver();
  }
  return true;
}

void CoreFleet::Fire(const Timer& timer) {
  if (timer.heartbeat) {
    timers_.push({now_ + Seconds(1), timer.site, true});
    if (timer.site == 0) Feed(TickEvent{});
    return Heartbeat(timer.site);
  }
  FeedSite(timer.site, StepDone{1.0, true});
}

void CoreFleet::Deliver() {
  while (!queue_.empty()) {
    const auto next = std::move(queue_.front());
    queue_.pop_front();
    next();
  }
}

HelloEvent CoreFleet::HelloOf(uint32_t worker) const {
  HelloEvent event{.key = sites_[worker].key};
  event.hello.process = {1, worker};
  return event;
}

// ---- the coordinator's side ----

void CoreFleet::Feed(EventBody body) {
  const Event event{now_, std::move(body)};
  if (options_.on_event) options_.on_event(event);
  const Effects effects = core_->Step(event);
  ++counts_.events;
  LONGHAUL_CHECK(effects.fatal.empty() && effects.ignored.empty(), "the fleet keeps the protocol");
  if (options_.on_records) options_.on_records(core_->state(), effects.records);
  for (const Reply& reply : effects.replies) {
    const auto site = static_cast<uint32_t>(reply.to.token);
    if (const auto* welcome = std::get_if<Welcome>(&reply.message)) {
      if (site_of_.size() <= welcome->session.value) site_of_.resize(welcome->session.value + 1);
      site_of_[welcome->session.value] = site;
    }
    SendTo(site, reply.message);
  }
  for (const Request& request : effects.requests) Do(request);
  for (SessionId session : effects.notify) SendAssignment(session, false);
}

void CoreFleet::Do(const Request& request) {
  if (const auto* r = std::get_if<ExpectContribution>(&request)) {
    Count([&] { return FirstFetch(r->object); }, false);
    queue_.push_back([this, id = r->object.id] { Feed(HeldEvent{id.fragment, id.contribution}); });
  } else if (const auto* r = std::get_if<ReduceRound>(&request)) {
    PreparedEvent done{.fragment = r->fragment, .round = r->round, .attempt = r->attempt};
    done.aggregate = {.id = {ObjectKind::kAggregate, kGeneration, r->fragment, r->version, {}},
                      .chunks = 1};
    done.state_hash = HashOf(r->fragment, r->version);
    queue_.push_back([this, done] { Feed(done); });
  } else if (const auto* r = std::get_if<StoreCheckpoint>(&request)) {
    CheckpointEvent done{{}, r->versions};
    for (uint64_t f = 0; f < r->versions.size(); ++f)
      done.snapshots.push_back(Snapshot(FragmentId{f}, r->versions[f]));
    queue_.push_back([this, done] { Feed(done); });
  }
}

void CoreFleet::SendAssignment(SessionId session, bool answer) {
  const uint32_t site = site_of_.at(session.value);
  Message assignment = core_->AssignmentFor(session, sites_[site].stated);
  ++counts_.assignments;
  Count([&] { return assignment; }, answer);
  SendTo(site, std::move(assignment));
}

void CoreFleet::SendTo(uint32_t site, Message message) {
  WorkerEvent received = WorkerReceived{kGeneration, ++sequence_, std::move(message)};
  queue_.push_back([this, site, event = std::move(received)] { FeedSite(site, event); });
}

void CoreFleet::Count(const std::function<Message()>& message, bool heartbeat) {
  if (core_->state().last_round.value == 0) return;
  ++(heartbeat ? counts_.heartbeats : counts_.messages);
  if (!options_.count_bytes) return;
  const auto bytes = EncodeEnvelope({.run = kRunId,
                                     .generation = kGeneration,
                                     .session = core_->state().last_session,
                                     .sequence = sequence_,
                                     .body = message()});
  LONGHAUL_CHECK(bytes.ok(), "what a core says can be encoded");
  (heartbeat ? counts_.heartbeat_bytes : counts_.message_bytes) += bytes->size();
}

// ---- the workers' side ----

void CoreFleet::Heartbeat(uint32_t i) {
  Site& site = sites_[i];
  const SessionId session = site.core->session();
  if (session.value > 0) {
    std::vector<FragmentState> states = site.core->states();
    Count([&] { return longhaul::Heartbeat{.fragments = states}; }, true);
    if (states != site.stated) {
      site.stated = states;
      Feed(StatedEvent{session, std::move(states)});
    }
    SendAssignment(session, true);
  }
  FeedSite(i, WorkerTick{});
}

void CoreFleet::FeedSite(uint32_t i, const WorkerEvent& event) {
  const WorkerEffects effects = sites_[i].core->Step(event);
  ++counts_.worker_events;
  for (const Message& message : effects.messages) {
    Count([&] { return message; }, false);
    queue_.push_back([this, i, message] { Receive(i, message); });
  }
  for (const WorkerRequest& request : effects.requests) Answer(i, request);
}

void CoreFleet::Receive(uint32_t i, const Message& message) {
  const SessionId session = sites_[i].core->session();
  if (const auto* hello = std::get_if<Hello>(&message)) {
    Feed(HelloEvent{ReplyTo{i}, sites_[i].key, *hello});
  } else if (const auto* ready = std::get_if<ContributionReady>(&message)) {
    const std::optional<Round>& round = core_->state().fragment(ready->object.id.fragment).round;
    if (round && round->id == ready->round && !round->closing)
      Feed(ContributionEvent{session, *ready});
  } else if (const auto* done = std::get_if<RequestDone>(&message)) {
    if (core_->state().requests.contains(done->request)) Feed(RequestDoneEvent{session, *done});
  }
}

void CoreFleet::Answer(uint32_t i, const WorkerRequest& request) {
  auto answer = [this, i](WorkerEvent event) {
    queue_.push_back([this, i, event = std::move(event)] { FeedSite(i, event); });
  };
  if (std::holds_alternative<LoadData>(request)) {
    answer(DataLoaded{});
  } else if (const auto* r = std::get_if<FetchObject>(&request)) {
    Count([&] { return FirstFetch(r->object); }, false);
    answer(ObjectFetched{r->object.id});
  } else if (const auto* r = std::get_if<LoadState>(&request)) {
    const ObjectId& id = r->object.id;
    answer(StateLoaded{{id.fragment, id.version, r->object.root}});
  } else if (const auto* r = std::get_if<ApplyCommit>(&request)) {
    answer(CommitApplied{{r->commit.fragment, r->commit.version, r->commit.state_hash}});
  } else if (std::holds_alternative<TrainStep>(request)) {
    timers_.push({now_ + sites_[i].step_time, i, false});
  } else if (const auto* r = std::get_if<CodeContribution>(&request)) {
    const ObjectSize size = CodedSize(config_.sync, kElements);
    const Digest root = HashOf(r->fragment, r->base.Next());  // any that is not zero
    answer(ContributionCoded{
        {.id = {ObjectKind::kContribution, r->generation, r->fragment, r->base, r->id},
         .chunks = size.chunks,
         .bytes = size.bytes,
         .root = root}});
  } else if (const auto* r = std::get_if<RunRequest>(&request)) {
    answer(RequestFinished{{.request = r->request.id, .loss = 2.0, .tokens = 10}});
  } else if (!std::holds_alternative<StopFetching>(request) &&
             !std::holds_alternative<ExitWorker>(request)) {
    answer(JobDone{});
  }
}

}  // namespace longhaul
