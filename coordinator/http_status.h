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

struct WorkerRow {
  std::string name;
  std::string state;  // "training", "silent for 12s", "fenced", "left"
  uint64_t steps = 0;
  double loss = 0;
  double tokens_per_second = 0;
  double computing_percent = 0;
  uint64_t bytes_up = 0;
  uint64_t bytes_down = 0;
  Duration last_seen{0};  // ago
};

struct LossPoint {
  uint64_t round = 0;
  double loss = 0;
  std::optional<double> validation_loss;
};

// Samples, as the ledger counts them.
struct CoverageView {
  uint64_t committed = 0;
  uint64_t sealed = 0;
  uint64_t leased = 0;
  uint64_t free = 0;
  uint64_t discarded = 0;
  uint64_t quarantined = 0;
  uint64_t total = 0;
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
  uint64_t workers_total = 0;
  std::vector<WorkerRow> workers;
  std::vector<LossPoint> history;
  CoverageView coverage;
};

// One JSON object; keys are the structs' names, durations in seconds as *_seconds. Workers beyond
// kMaxStatusWorkers are left out, the history is thinned to kMaxStatusPoints with its ends kept.
std::string ToJson(const RunStatus& status);

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
