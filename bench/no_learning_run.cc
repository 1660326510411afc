// This build has no LibTorch.
#include "bench/learning_run.h"

namespace longhaul {

absl::StatusOr<LearningOutcome> RunLearning(const LearningRequest&, const LearningText&) {
  return absl::UnimplementedError("this build has no LibTorch; configure with --preset release");
}

}  // namespace longhaul
