// A site: several trainers, one on each rank, that make every inner step together (data parallel)
// and are one worker to everybody outside. Rank 0 holds the SiteTrainer, which tells the others
// what to do; they run RunSiteRank.
//
// An inner step: rank 0 shares out the positions, each rank computes the gradient of its part, the
// group adds the gradients up, and only when every rank has said that its sums are complete does
// rank 0 say that the optimizer's step is made. So a rank that is lost or stuck in the middle costs
// the time of one step: the others shrink the group and compute the same step again. All ranks have
// the same parameters and moments, bit for bit, as far as the devices are alike.
//
// Thread rule: the trainer thread makes every call.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "common/time.h"
#include "worker/site/device_group.h"
#include "worker/site/gradient_trainer.h"
#include "worker/site/site_link.h"

namespace longhaul {

// By how much the ranks may differ in the time of a step; the first loads kernels.
inline constexpr Duration kSiteDeadline = Seconds(120);

struct SiteOptions {
  // A rank that has not answered so long after rank 0's own sums came to an end is stuck. With the
  // group's deadline, which counts before that, it is found within twice this time.
  Duration deadline = kSiteDeadline;
  std::function<void(const std::string&)> say;  // which rank was lost, and why; may be empty
};
// `commands`: rank 0's link to all others. A rank that cannot compute a step is lost, too. Step
// fails only when rank 0 itself cannot go on.
std::unique_ptr<Trainer> MakeSiteTrainer(std::unique_ptr<GradientTrainer> own,
                                         std::unique_ptr<DeviceGroup> group,
                                         std::unique_ptr<SiteLink> commands, SiteOptions options);

// Does what rank 0 says until it says that the run is over (Ok) or is gone (Unavailable).
absl::Status RunSiteRank(GradientTrainer& own, DeviceGroup& group, SiteLink& commands);

}  // namespace longhaul
