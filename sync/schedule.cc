#include "sync/schedule.h"

#include "common/check.h"

namespace longhaul {

std::optional<std::string> ScheduleProblem(const FragmentSchedule& s) {
  if (s.inner_steps == 0) return "inner_steps must be at least 1";
  if (s.fragments == 0) return "fragments must be at least 1";
  if (s.fragments > s.inner_steps) {
    return "fragments must be at most inner_steps: one is sent per step at most";
  }
  if (s.overlap_steps >= s.inner_steps) {
    return "overlap_steps must be below inner_steps: a fragment is applied before it is sent again";
  }
  return std::nullopt;
}

uint32_t FirstSend(const FragmentSchedule& s, uint32_t fragment) {
  LONGHAUL_CHECK(!ScheduleProblem(s) && fragment < s.fragments, "not a fragment of this schedule");
  if (fragment == 0) return s.inner_steps;
  return static_cast<uint32_t>(uint64_t{fragment} * s.inner_steps / s.fragments);
}

bool SendsAfter(const FragmentSchedule& s, uint32_t fragment, uint64_t steps) {
  const uint64_t first = FirstSend(s, fragment);
  return steps >= first && (steps - first) % s.inner_steps == 0;
}

bool AppliesAfter(const FragmentSchedule& s, uint32_t fragment, uint64_t steps) {
  return steps >= s.overlap_steps && SendsAfter(s, fragment, steps - s.overlap_steps);
}

bool MixingAllowed(double error_feedback_decay, double quorum) {
  return error_feedback_decay < 0 && quorum >= 1;
}

void Mix(float keep, std::span<const float> new_global, std::span<float> local) {
  LONGHAUL_CHECK(new_global.size() == local.size(), "sizes differ");
  for (size_t i = 0; i < local.size(); ++i) {
    local[i] = keep * local[i] + (1.0f - keep) * new_global[i];
  }
}

}  // namespace longhaul
