// The outer learning rate over the versions of a fragment: a linear warm-up, and one drop late in
// the run (SGD with lr 1 and then 0.65 in Covenant-72B, Lidin et al. 2026). Pure functions.
#pragma once

#include <cstdint>

namespace longhaul {

struct OuterSchedule {
  double lr = 0.7;             // eta after the warm-up
  uint64_t warmup_rounds = 0;  // outer step v, from 0, uses lr (v + 1) / (warmup_rounds + 1) before
  uint64_t drop_from = UINT64_MAX;  // first outer step with lr * drop
  double drop = 1.0;
};

// The learning rate of the outer step from `version` to the next one, as it goes into the commit
// record. Every operation is one IEEE operation in float64, rounded to float32 once.
float OuterLearningRate(const OuterSchedule& schedule, uint64_t version);

}  // namespace longhaul
