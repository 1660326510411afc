// When a worker sends and applies which fragment (Streaming DiLoCo, Douillard et al. 2025), counted
// in its own inner steps. Pure functions.
//
// Fragment p of P is sent after its own step t_p = floor(p H / P), or H for p = 0, and then every H
// steps; what it becomes is applied `overlap_steps` steps later. Workers of different speed have
// different H; the order of the fragments is the same for all.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace longhaul {

struct FragmentSchedule {
  uint32_t inner_steps = 1;    // H
  uint32_t fragments = 1;      // P <= H
  uint32_t overlap_steps = 0;  // tau < H
};

// Why the schedule cannot be followed, for people; none when it can: an H of 0, more fragments than
// steps (two would be sent at once, the peak that streaming avoids), an overlap of H or more (a
// fragment would be sent again before it is applied).
std::optional<std::string> ScheduleProblem(const FragmentSchedule& schedule);

// Steps from the start until the fragment is sent first.
uint32_t FirstSend(const FragmentSchedule& schedule, uint32_t fragment);
// After `steps` >= 1 own steps: is the fragment sent now, or is what was sent earlier applied now?
bool SendsAfter(const FragmentSchedule& schedule, uint32_t fragment, uint64_t steps);
bool AppliesAfter(const FragmentSchedule& schedule, uint32_t fragment, uint64_t steps);

// Mixing, local <- keep * local + (1 - keep) * new_global, in place of Rebase: what it pulls out of
// the local parameters must not be in a residual, nor in a contribution that may still be included
// later. So it needs a quorum of all and no error feedback (a negative decay).
bool MixingAllowed(double error_feedback_decay, double quorum);
void Mix(float keep, std::span<const float> new_global, std::span<float> local);

}  // namespace longhaul
