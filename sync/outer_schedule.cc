#include "sync/outer_schedule.h"

namespace longhaul {

float OuterLearningRate(const OuterSchedule& s, uint64_t version) {
  double lr = s.lr;
  if (version < s.warmup_rounds) {
    lr = lr * static_cast<double>(version + 1) / static_cast<double>(s.warmup_rounds + 1);
  }
  if (version >= s.drop_from) lr = lr * s.drop;
  return static_cast<float>(lr);
}

}  // namespace longhaul
