#include "wan/sim/event_queue.h"

#include <algorithm>

#include "common/check.h"

namespace longhaul::sim {

void EventQueue::At(Timestamp when, Action action) {
  LONGHAUL_CHECK(heap_.size() < kMaxPendingActions, "the simulation runs away");
  heap_.push_back({std::max(when, now_), next_sequence_++, std::move(action)});
  std::push_heap(heap_.begin(), heap_.end(), Later);
}

bool EventQueue::RunNext() {
  if (heap_.empty()) return false;
  std::pop_heap(heap_.begin(), heap_.end(), Later);
  Item item = std::move(heap_.back());
  heap_.pop_back();
  now_ = item.when;
  ++run_;
  item.action();
  return true;
}

void EventQueue::RunUntil(Timestamp end, const std::function<bool()>& stop) {
  while (!heap_.empty() && heap_.front().when <= end) {
    if (stop()) return;
    RunNext();
  }
  now_ = std::max(now_, end);
}

}  // namespace longhaul::sim
