#include "coordinator/core/coordinator.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "common/check.h"
#include "compression/codec.h"
#include "proto/chunk.h"
#include "sync/outer_schedule.h"
#include "sync/weights.h"

namespace longhaul {
namespace {

uint32_t PerMille(double share) { return static_cast<uint32_t>(share * 1000.0 + 0.5); }

// "a, b" -> {a, b}.
std::set<std::string> Names(const std::string& list) {
  std::set<std::string> names;
  std::string name;
  for (char c : list + ",") {
    if (c != ',' && c != ' ') {
      name += c;
    } else if (!name.empty()) {
      names.insert(std::exchange(name, ""));
    }
  }
  return names;
}

}  // namespace

ObjectSize CodedSize(const SyncSection& sync, uint64_t elements) {
  const auto codec = MakeCodec(*CodecSpecByName(sync.codec, sync.bits));
  ObjectSize size{.varies = !codec->fixed_size()};
  const uint64_t full = elements / kChunkElements;
  const uint64_t rest = elements % kChunkElements;
  size.chunks = static_cast<uint32_t>(full);
  if (full > 0) size.bytes = full * codec->EncodedBytes(kChunkElements);
  if (rest > 0) {
    size.bytes += codec->EncodedBytes(rest);
    ++size.chunks;
  }
  return size;
}

Coordinator::Coordinator(const RunConfig& config)
    : config_(config),
      positions_per_step_(SamplesPerStep(config)),
      quorum_per_mille_(PerMille(config.round.quorum)),
      patience_per_mille_(PerMille(config.run.patience)),
      grace_per_mille_(PerMille(config.round.grace)),
      required_workers_(Names(config.round.required_workers)),
      trusted_reducers_(Names(config.reduce.trusted)) {
  LONGHAUL_CHECK(positions_per_step_ > 0, "a step uses at least one sample");
  const auto steps = StepsPerWorker(config.sync.steps_per_worker);
  LONGHAUL_CHECK(steps.has_value(), "the configuration was checked");
  steps_per_worker_ = *steps;
}

void Coordinator::Restore(State state) {
  state_ = std::move(state);
  for (const auto& [id, session] : state_.sessions) {
    check_leases_.insert(id);
    check_carry_.insert(id);
  }
}

uint64_t Coordinator::StepsOf(const Session& session) const {
  if (session.steps > 0) return session.steps;
  const auto own = steps_per_worker_.find(state_.workers.at(session.key).name);
  return own == steps_per_worker_.end() ? StepsPerRound(config_) : own->second;
}

uint64_t Coordinator::RawWeightOf(uint64_t steps) const {
  const std::string& name = config_.sync.weights;
  const WeightRule rule = name == "equal"    ? WeightRule::kEqual
                          : name == "tokens" ? WeightRule::kTokens
                                             : WeightRule::kTokens2PerStep;
  const uint64_t tokens = steps * TokensPerStep();
  return config_.sync.delta_per_step ? RawWeightPerStep(rule, tokens, steps)
                                     : RawWeight(rule, tokens, steps);
}

uint64_t Coordinator::DivisorOf(const std::vector<ContributionId>& included,
                                const Round& round) const {
  std::vector<uint32_t> weights;
  std::vector<uint64_t> steps;
  uint64_t sum = 0;
  for (const ContributionId& id : included) {
    const Contribution& c = round.contributions.at(id.session);
    weights.push_back(c.weight);
    steps.push_back(c.steps);
    sum += c.weight;
  }
  return config_.sync.delta_per_step && !included.empty() ? PerStepDivisor(weights, steps) : sum;
}

uint32_t Coordinator::OuterLrBits(Version next) const {
  const SyncSection& s = config_.sync;
  const OuterSchedule schedule{s.outer_lr, s.outer_warmup_rounds,
                               s.outer_drop_round == 0 ? UINT64_MAX : uint64_t{s.outer_drop_round},
                               s.outer_drop};
  return std::bit_cast<uint32_t>(OuterLearningRate(schedule, next.value - 1));
}

uint32_t Coordinator::OuterMomentumBits() const {
  return std::bit_cast<uint32_t>(static_cast<float>(config_.sync.outer_momentum));
}

uint64_t Coordinator::PositionsPerRound(const Session& session) const {
  return StepsOf(session) * positions_per_step_;
}

std::optional<Refused> Coordinator::WhyNotLive(SessionId session) const {
  if (state_.sessions.contains(session)) return std::nullopt;
  auto it = state_.ended.find(session);
  if (it != state_.ended.end() && it->second == EndReason::kSuperseded)
    return Refused{RefusalCode::kSuperseded, "a newer process joined with this key"};
  return Refused{RefusalCode::kFenced, "this session is over; join again"};
}

Assignment Coordinator::AssignmentFor(SessionId id,
                                      const std::vector<FragmentState>& stated) const {
  const Session& session = state_.sessions.at(id);
  const EnrolledWorker& worker = state_.workers.at(session.key);
  Assignment a{.phase = state_.phase, .reason = state_.reason};
  const size_t commits_each = std::max<size_t>(1, kMaxCommitsPerMessage / state_.fragments.size());
  for (uint64_t i = 0; i < state_.fragments.size(); ++i) {
    const Fragment& f = state_.fragments[i];
    const FragmentId fragment{i};
    a.current.push_back({fragment, f.version, f.state_hash});
    a.snapshots.push_back(f.snapshot);
    Version known = f.snapshot.id.version;
    for (const FragmentState& s : stated) {
      if (s.fragment == fragment && s.version >= f.oldest_snapshot) known = s.version;
    }
    size_t commits = 0;
    for (auto it = f.commits.upper_bound(known); it != f.commits.end(); ++it) {
      if (commits++ == commits_each) break;
      a.commits.push_back(it->second.view);
    }
    if (f.round && !f.round->closing) {
      auto member = f.round->members.find(id);
      if (member != f.round->members.end()) {
        a.rounds.push_back({f.round->id,
                            fragment,
                            f.round->base,
                            std::min(member->second, StepsWithinReach(id, fragment)),
                            {}});
        for (const Slice& slice : f.round->slices) a.rounds.back().slices.push_back(slice.chunks);
      }
    }
    a.outcomes.push_back(
        {fragment, f.decided, worker.included.at(i), session.fragments.at(i).dropped});
  }
  for (const Ledger::Range& range : state_.leases.LeasesOf(id)) {
    if (a.leases.size() == kMaxLeasesPerMessage) break;
    a.leases.push_back({range.fence, range.from, range.to});
  }
  for (const auto& [request_id, open] : state_.requests) {
    if (open.session == id && a.requests.size() < kMaxRequestsPerMessage)
      a.requests.push_back(open.request);
  }
  if (WorkersReduce()) {
    a.peers = PeersOf(id);
    a.orders = OrdersFor(id);
    a.aggregates = AggregatesFor(stated);
  }
  return a;
}

uint64_t Coordinator::StepsWithinReach(SessionId id, FragmentId fragment) const {
  if (state_.leases.totals(FragmentId{0}).free >= positions_per_step_) return UINT64_MAX;
  const uint64_t leased = state_.leases.ledger(fragment).LeasedPositions(id);
  return std::max<uint64_t>(1, leased / positions_per_step_);
}

std::string Coordinator::WaitingFor() const {
  if (state_.phase == Phase::kWaiting) {
    return std::to_string(state_.ready_sessions) + " of " +
           std::to_string(config_.run.min_workers) + " workers have joined" +
           (RequiredAreReady() ? "" : "; not all of round.required_workers");
  }
  if (state_.phase != Phase::kRunning) return state_.reason;
  if (state_.frozen_until)
    return "many workers fell silent at once: waiting for them, nobody is expelled";
  for (uint64_t i = 0; i < state_.fragments.size(); ++i) {
    const std::optional<Round>& round = state_.fragments[i].round;
    const std::string name =
        state_.fragments.size() == 1 ? "" : "fragment " + std::to_string(i) + ": ";
    if (!round) {
      if (state_.fragments[i].version.value >= config_.run.rounds) continue;
      return name + "no round is open: " + std::to_string(state_.ready_sessions) +
             " workers are ready, " + std::to_string(state_.leases.totals(FragmentId{0}).free) +
             " samples are free";
    }
    if (round->closing) {
      std::string text = name + "adding up round " + std::to_string(round->id.value);
      if (round->assembled) return text + ": waiting for another holder of the aggregate";
      for (const Slice& slice : round->slices) {
        if (slice.attempt == round->closing->attempt) continue;
        auto session = state_.sessions.find(slice.reducer);
        text += "; waiting for " + (session == state_.sessions.end() ? "the coordinator's slice"
                                                                     : session->second.name);
      }
      return text;
    }
    std::string text = name + "round " + std::to_string(round->id.value) + ": " +
                       std::to_string(round->held) + " of " + std::to_string(round->live_members) +
                       " contributions, quorum " + std::to_string(round->quorum);
    if (round->quorum_held) {
      const std::string unmet = Unmet(*round);
      return text + (unmet.empty() ? "; grace for the others" : "; " + unmet);
    }
    return text;
  }
  return "evaluation and checkpoint";
}

}  // namespace longhaul
