// Virtual time: actions in the order of (time, the order in which they were asked for). Nothing
// else orders what happens in the simulator, so equal seeds have equal histories.
//
// One thread. An action may ask for further ones; those due at the same time come after all that
// were asked for before.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "common/time.h"

namespace longhaul::sim {

inline constexpr size_t kMaxPendingActions = 4'000'000;

class EventQueue {
 public:
  using Action = std::function<void()>;

  Timestamp now() const { return now_; }
  // A time in the past means now.
  void At(Timestamp when, Action action);
  void After(Duration delay, Action action) { At(now_ + delay, std::move(action)); }

  // Moves the clock to the next action and runs it. False when there is none.
  bool RunNext();
  // Everything due up to `end`; the clock then stands there. Stops early when `stop` says so.
  void RunUntil(Timestamp end, const std::function<bool()>& stop);

  size_t pending() const { return heap_.size(); }
  uint64_t actions_run() const { return run_; }

 private:
  struct Item {
    Timestamp when;
    uint64_t sequence = 0;
    Action action;
  };
  static bool Later(const Item& a, const Item& b) {
    return a.when != b.when ? a.when > b.when : a.sequence > b.sequence;
  }

  Timestamp now_;
  uint64_t next_sequence_ = 0;
  uint64_t run_ = 0;
  std::vector<Item> heap_;
};

}  // namespace longhaul::sim
