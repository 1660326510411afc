// A trainer whose step can be taken apart, so that several of them make one step together.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "worker/site/device_group.h"
#include "worker/trainer.h"

namespace longhaul {

// Thread rule: as Trainer.
class GradientTrainer : public Trainer {
 public:
  // How many targets Step(input) would average over.
  virtual uint64_t Targets(const StepInput& input) const = 0;
  // Computes (sum of the loss over the targets of `input`) / all_targets and its gradient, which
  // stays in the trainer. Starts `sums` bucket after bucket, each as soon as backward is done with
  // it, the same buckets in the same order whatever the input; also when there is no position. The
  // caller waits for them. Returns this rank's share of the loss, which may be not finite.
  virtual absl::StatusOr<double> Backward(const StepInput& input, uint64_t all_targets,
                                          DeviceGroup& sums) = 0;
  // The optimizer's step on that gradient. When its norm is not finite nothing changes.
  virtual absl::Status Update(uint64_t step) = 0;
};

}  // namespace longhaul
