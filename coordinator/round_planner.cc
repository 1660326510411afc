#include "coordinator/round_planner.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "sharding/plan/robust.h"
#include "sharding/plan/steps.h"

namespace longhaul {
namespace {

constexpr double kLeastSeconds = 1e-9;

double SecondsOf(Duration d) { return std::chrono::duration<double>(d).count(); }

template <class T>
void Keep(std::deque<T>& list, T value, size_t most) {
  list.push_back(std::move(value));
  if (list.size() > most) list.pop_front();
}

// At least one measurement.
double Median(const std::deque<double>& list) {
  std::vector<double> values(list.begin(), list.end());
  for (double& v : values) v = std::max(v, kLeastSeconds);
  return EstimateRobustly(values).value;
}

double MedianOr(const std::deque<double>& list, double otherwise) {
  return list.empty() ? otherwise : Median(list);
}

}  // namespace

RoundPlanner::Options RoundPlanner::OptionsOf(const RunConfig& config) {
  return {.inner_steps = config.sync.inner_steps,
          .tokens_per_step = static_cast<double>(SamplesPerStep(config) * kSampleTokens),
          .rule = {config.round.quorum, config.round.grace}};
}

void RoundPlanner::OnRecord(const Record& record) {
  std::visit([&](const auto& body) { (*this)(body, record.now); }, record.body);
}

void RoundPlanner::OnHeartbeat(SessionId session, const Heartbeat& heartbeat) {
  Worker& w = workers_[session];
  if (heartbeat.steps > w.steps && heartbeat.computing_ns > w.computing_ns) {
    const auto steps = static_cast<double>(heartbeat.steps - w.steps);
    Keep(w.step_s, 1e-9 * static_cast<double>(heartbeat.computing_ns - w.computing_ns) / steps,
         kWindow);
  }
  w.steps = heartbeat.steps;
  w.computing_ns = heartbeat.computing_ns;
}

std::optional<double> RoundPlanner::StepSeconds(SessionId session) const {
  const auto it = workers_.find(session);
  if (it == workers_.end() || it->second.step_s.empty()) return std::nullopt;
  return Median(it->second.step_s);
}

void RoundPlanner::operator()(const RoundOpened& r, Timestamp now) {
  Open open{.opened = now};
  for (const Member& m : r.members) open.members[m.session] = m.steps;
  open.predicted_s = Predict(open);
  view_.predicted_s = open.predicted_s.value_or(0);
  open_[r.fragment] = std::move(open);
}

void RoundPlanner::operator()(const ContributionAccepted& r, Timestamp) {
  const auto open = open_.find(r.object.id.fragment);
  if (open != open_.end()) open->second.steps[r.object.id.contribution.session] = r.steps;
}

void RoundPlanner::operator()(const ContributionHeld& r, Timestamp now) {
  const auto open = open_.find(r.fragment);
  if (open == open_.end()) return;
  const SessionId session = r.id.session;
  open->second.held[session] = now;
  const std::optional<double> step_s = StepSeconds(session);
  const auto steps = open->second.steps.find(session);
  if (!step_s || steps == open->second.steps.end()) return;
  // Steps made before the round opened are not in its time: then there is nothing to hide.
  const double fixed =
      SecondsOf(now - open->second.opened) - static_cast<double>(steps->second) * *step_s;
  Keep(workers_[session].fixed_s, std::max(fixed, 0.0), kWindow);
}

void RoundPlanner::operator()(const RoundCommitted& r, Timestamp now) {
  const auto it = open_.find(r.commit.fragment);
  if (it == open_.end()) return;
  const Open open = std::move(it->second);
  open_.erase(it);
  ArrivalTimes arrivals;
  Timestamp last = open.opened;
  for (const auto& [session, steps] : open.members) {
    const auto held = open.held.find(session);
    if (held == open.held.end()) {
      arrivals.push_back(std::numeric_limits<double>::infinity());
      continue;
    }
    arrivals.push_back(SecondsOf(held->second - open.opened));
    last = std::max(last, held->second);
  }
  Keep(overhead_s_, SecondsOf(now - last), kWindow);
  if (!arrivals.empty()) Keep(arrivals_, std::move(arrivals), kWindow);
  if (open.predicted_s) Compare(*open.predicted_s, SecondsOf(now - open.opened));
  AdviseQuorum();
}

// Nothing unless every member has been measured.
std::optional<double> RoundPlanner::Predict(const Open& open) const {
  ArrivalTimes arrivals;
  for (const auto& [session, steps] : open.members) {
    const std::optional<double> step_s = StepSeconds(session);
    if (!step_s || workers_.at(session).fixed_s.empty()) return std::nullopt;
    arrivals.push_back(static_cast<double>(steps) * *step_s + Median(workers_.at(session).fixed_s));
  }
  if (arrivals.empty() || overhead_s_.empty()) return std::nullopt;
  return StopTime(arrivals, options_.rule) + Median(overhead_s_);
}

void RoundPlanner::Compare(double predicted_s, double measured_s) {
  view_.last_predicted_s = predicted_s;
  view_.last_measured_s = measured_s;
  if (measured_s <= 0) return;
  Keep(errors_, std::abs(predicted_s - measured_s) / measured_s, kMaxErrors);
  std::vector<double> sorted(errors_.begin(), errors_.end());
  std::sort(sorted.begin(), sorted.end());
  double sum = 0;
  for (const double e : sorted) sum += e;
  view_.compared_rounds = sorted.size();
  view_.mean_error = sum / static_cast<double>(sorted.size());
  view_.p95_error = sorted[(sorted.size() - 1) * 95 / 100];
}

void RoundPlanner::AdviseQuorum() {
  if (arrivals_.size() < kMinHistory) return;
  double rate = 0, worth = 0;
  for (const auto& [session, w] : workers_) {
    if (w.step_s.empty()) continue;
    rate += options_.tokens_per_step / Median(w.step_s);
    worth += options_.tokens_per_step * options_.inner_steps;
  }
  if (rate <= 0) return;
  const std::vector<ArrivalTimes> history(arrivals_.begin(), arrivals_.end());
  const QuorumCosts costs{.waiting_cost_per_s = rate,
                          .missing_cost = worth / static_cast<double>(workers_.size()),
                          .least_quorum = std::min(options_.rule.quorum, 0.5)};
  const QuorumPlan plan = PlanQuorum(history, costs);
  view_.advised_quorum = plan.rule.quorum;
  view_.advised_grace = plan.rule.grace;
  view_.quorum_ratio = plan.ratio();
}

PlanEvent RoundPlanner::Plan(const std::map<SessionId, uint64_t>& steps) {
  std::vector<SessionId> sessions;
  std::vector<StepWorker> workers;
  std::vector<double> whole;  // seconds to inner_steps
  for (const auto& [session, planned] : steps) {
    const std::optional<double> step_s = StepSeconds(session);
    if (!step_s) continue;  // it makes inner_steps until it has been measured
    sessions.push_back(session);
    const double fixed_s = MedianOr(workers_.at(session).fixed_s, 0);
    workers.push_back({*step_s, fixed_s, options_.tokens_per_step});
    whole.push_back(fixed_s + *step_s * options_.inner_steps);
  }
  PlanEvent event;
  if (workers.empty()) return event;
  const StepLimits limits{.min_steps = 1,
                          .max_steps = options_.inner_steps * kMostSteps,
                          .overhead_s = MedianOr(overhead_s_, 0),
                          .max_deadline_s = EstimateRobustly(whole).value};
  const StepPlan plan = PlanSteps(workers, limits, 0.001);
  view_.deadline_s = plan.deadline_s;
  view_.tokens_per_s = plan.tokens_per_s;
  view_.bound_tokens_per_s = plan.bound_tokens_per_s;
  for (size_t i = 0; i < sessions.size(); ++i) {
    const auto before = static_cast<double>(steps.at(sessions[i]));
    const uint64_t after = std::max(1u, plan.steps[i]);
    if (std::abs(static_cast<double>(after) - before) > std::max(0.5, kSameSteps * before))
      event.steps.push_back({sessions[i], after});
  }
  return event;
}

}  // namespace longhaul
