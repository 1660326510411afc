#include "wan/sim/history.h"

#include <utility>

namespace longhaul::sim {

void History::Keep(const Record& record) {
  Coordinator::Apply(state_, record);
  ++records_;
  reader_(record, state_);
}

void History::Written() {
  for (const Record& record : std::exchange(pending_, {})) Keep(record);
}

void History::Recovered(const State& state) {
  const std::string wanted = EncodeState(state);
  State guess = state_;
  size_t kept = 0;
  while (EncodeState(guess) != wanted && kept < pending_.size()) {
    Coordinator::Apply(guess, pending_[kept++]);
  }
  const std::vector<Record> survived(pending_.begin(),
                                     pending_.begin() + static_cast<ptrdiff_t>(kept));
  pending_.clear();
  if (EncodeState(guess) != wanted) {
    return complain_("the recovered state (outer steps " + std::to_string(state.outer_steps()) +
                     ", fence " + std::to_string(state.last_fence.value) +
                     ") is not what was made durable (outer steps " +
                     std::to_string(state_.outer_steps()) + ", fence " +
                     std::to_string(state_.last_fence.value) + ")");
  }
  for (const Record& record : survived) Keep(record);
}

}  // namespace longhaul::sim
