// A DeviceGroup on NCCL, by the CUDA plug-in.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/time.h"
#include "worker/site/device_group.h"
#include "worker/site/plugin.h"
#include "worker/site/site_link.h"

namespace longhaul {

// Every rank calls it at the same time, with its link to rank 0 (rank 0: to all), which carries the
// group's id and is not used afterwards. `stream`: the CUDA stream on which gradients come to be,
// as of now; null: the default one. Unavailable when a rank is missing, FailedPrecondition when
// NCCL does not start.
absl::StatusOr<std::unique_ptr<DeviceGroup>> MakeNcclGroup(const LonghaulCudaPlugin& plugin,
                                                           SiteLink& link, int device,
                                                           Duration deadline,
                                                           std::function<void*()> stream);

}  // namespace longhaul
