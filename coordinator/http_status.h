// What the status page shows, and the place where the loop puts it for the HTTP threads.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "common/time.h"
#include "coordinator/report.h"

namespace longhaul {

inline constexpr size_t kMaxStatusWorkers = 256;  // rows; the total is stated beside them
inline constexpr size_t kMaxStatusPoints = 400;   // of the loss curve
inline constexpr size_t kMaxStatusRanges = 256;   // quarantined; the total is stated beside them

struct WorkerRow {
  std::string name;
  std::string state;  // "training", "silent for 12s", "fenced", "left"
  uint64_t steps = 0;
  double loss = 0;
  double tokens_per_second = 0;
  double computing_percent = 0;
  uint64_t planned_steps = 0;  // per round
  double step_seconds = 0;     // measured; 0: not yet
  uint64_t bytes_up = 0;
  uint64_t bytes_down = 0;
  Duration last_seen{0};  // ago
};

struct LossPoint {
  uint64_t round = 0;
  double loss = 0;
  std::optional<double> validation_loss;
};

// Samples, as the ledger of one fragment counts them; all but the total add up to it.
struct FragmentCoverage {
  uint64_t committed = 0;
  uint64_t sealed = 0;
  uint64_t leased = 0;
  uint64_t free = 0;
  uint64_t other_fragment_committed = 0;  // the two reasons why samples are discarded
  uint64_t carried_too_often = 0;
  uint64_t quarantined = 0;
  uint64_t total = 0;
  bool operator==(const FragmentCoverage&) const = default;
};
// Positions that are given to nobody any more, and the names of the workers that failed there.
struct QuarantinedRange {
  uint64_t from = 0;
  uint64_t to = 0;
  std::vector<std::string> workers;
  bool operator==(const QuarantinedRange&) const = default;
};
// Samples of one domain of a manifest, as the ledger of the fragment that is furthest behind counts
// them.
struct DomainCoverage {
  std::string name;
  uint64_t samples = 0;  // to train on, in one data epoch
  uint64_t committed = 0;
  uint64_t in_hand = 0;  // sealed or leased
  uint64_t lost = 0;     // discarded or quarantined
  bool operator==(const DomainCoverage&) const = default;
};
struct CoverageView {
  std::vector<FragmentCoverage> fragments;
  uint64_t quarantined_ranges = 0;
  std::vector<QuarantinedRange> quarantined;  // at most kMaxStatusRanges
  std::vector<DomainCoverage> domains;        // at most kMaxStatusRanges; none without a manifest
  bool operator==(const CoverageView&) const = default;
};

// Of the rounds, as RoundPlanner predicts and plans them. Zeros: not known yet.
struct PlanView {
  double predicted_s = 0;       // the round that is open
  double last_predicted_s = 0;  // the last committed one that had been predicted, and what it took
  double last_measured_s = 0;
  uint64_t compared_rounds = 0;
  double mean_error = 0;  // |predicted - measured| / measured over these rounds
  double p95_error = 0;
  // P1: the shared deadline, the tokens per second that it gives, and what nothing can beat.
  double deadline_s = 0;
  double tokens_per_s = 0;
  double bound_tokens_per_s = 0;
  double solver_s = 0;
  // P4, over the last rounds: advice, and its cost over that of knowing all arrival times.
  double advised_quorum = 0;
  double advised_grace = 0;
  double quorum_ratio = 0;
  double ratio() const { return bound_tokens_per_s > 0 ? tokens_per_s / bound_tokens_per_s : 0; }
  bool operator==(const PlanView&) const = default;
};

struct RunStatus {
  std::string run;
  std::string phase;       // "waiting", "running", "finished", "stopped"
  std::string reason;      // why
  std::string reduced_by;  // who adds up, for people
  Duration elapsed{0};
  std::optional<RoundReport> last_round;
  uint64_t rounds = 0;  // planned
  uint64_t bytes_in = 0;
  uint64_t bytes_out = 0;
  uint64_t data_bytes_out = 0;  // of them training data
  uint64_t workers_total = 0;
  std::vector<WorkerRow> workers;
  std::vector<LossPoint> history;
  CoverageView coverage;
  PlanView plan;
};

// One JSON object; keys are the structs' names, durations in seconds as *_seconds. Workers beyond
// kMaxStatusWorkers are left out, the history is thinned to kMaxStatusPoints with its ends kept.
std::string ToJson(const RunStatus& status);
// The coverage in such a text; nothing when it is none.
std::optional<CoverageView> CoverageFromJson(const std::string& status);

// The newest status text. Thread-safe; readers keep the text they took.
class StatusBoard {
 public:
  void Set(std::string json) {
    auto next = std::make_shared<const std::string>(std::move(json));
    std::lock_guard lock(mutex_);
    text_ = std::move(next);
  }
  std::shared_ptr<const std::string> Get() const {
    std::lock_guard lock(mutex_);
    return text_;
  }

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const std::string> text_ = std::make_shared<const std::string>("{}");
};

}  // namespace longhaul
