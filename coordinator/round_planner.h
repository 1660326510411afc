// What the rounds of a run cost, and how they should be: measures step times and transfers from
// records and heartbeats, predicts each round when it opens, compares when it commits, and plans
// the steps of every worker (P1) and a quorum with its grace (P4).
//
// A worker's contribution is held c + H s after its round opened: s is the time of a step, c all
// that training does not hide (transfers, delays), both medians of what was measured. A round is as
// long as the coordinator's own rule (quorum and grace) makes it of these, plus what closing and
// committing takes.
//
// Advice only: nothing that is decided rests on it but the number of steps, which the core journals
// (PlanEvent). Owned by one thread.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <vector>

#include "coordinator/core/event.h"
#include "coordinator/core/record.h"
#include "coordinator/http_status.h"
#include "sharding/plan/quorum.h"

namespace longhaul {

class RoundPlanner {
 public:
  static constexpr size_t kWindow = 16;       // measurements that are kept, of each kind
  static constexpr size_t kMaxErrors = 256;   // rounds that the mean error is of
  static constexpr uint32_t kMostSteps = 8;   // times inner_steps, for the fastest worker
  static constexpr double kSameSteps = 0.05;  // a plan that differs by less changes nothing
  static constexpr size_t kMinHistory = 5;    // rounds before a quorum is advised

  struct Options {
    uint32_t inner_steps = 1;  // that a worker of median speed makes
    double tokens_per_step = 1;
    QuorumRule rule;  // of the run
  };

  static Options OptionsOf(const RunConfig& config);
  explicit RoundPlanner(const Options& options) : options_(options) {}

  // Every record, once it is durable.
  void OnRecord(const Record& record);
  // Sums since the worker's process began.
  void OnHeartbeat(SessionId session, const Heartbeat& heartbeat);
  // Steps for sessions whose plan has changed, from what is known now; takes some ten milliseconds
  // for 10,000 workers. `steps`: as planned up to now.
  PlanEvent Plan(const std::map<SessionId, uint64_t>& steps);
  void SetSolverSeconds(double seconds) { view_.solver_s = seconds; }  // of the last Plan

  // Of a session that has been measured: seconds of a step.
  std::optional<double> StepSeconds(SessionId session) const;
  const PlanView& view() const { return view_; }

 private:
  struct Worker {
    uint64_t steps = 0;  // of the last heartbeat
    uint64_t computing_ns = 0;
    std::deque<double> step_s;
    std::deque<double> fixed_s;
  };
  struct Open {
    Timestamp opened;
    std::map<SessionId, uint64_t> members;
    std::map<SessionId, Timestamp> held;
    std::map<SessionId, uint64_t> steps;  // as contributed
    std::optional<double> predicted_s;
  };

  void operator()(const RoundOpened& r, Timestamp now);
  void operator()(const ContributionAccepted& r, Timestamp now);
  void operator()(const ContributionHeld& r, Timestamp now);
  void operator()(const RoundCommitted& r, Timestamp now);
  void operator()(const RoundAborted& r, Timestamp) { open_.erase(r.fragment); }
  void operator()(const SessionEnded& r, Timestamp) { workers_.erase(r.session); }
  template <class T>
  void operator()(const T&, Timestamp) {}

  std::optional<double> Predict(const Open& open) const;
  void Compare(double predicted_s, double measured_s);
  void AdviseQuorum();

  const Options options_;
  std::map<SessionId, Worker> workers_;
  std::map<FragmentId, Open> open_;
  std::deque<double> overhead_s_;  // from the last contribution to the commit
  std::deque<ArrivalTimes> arrivals_;
  std::deque<double> errors_;
  PlanView view_;
};

}  // namespace longhaul
