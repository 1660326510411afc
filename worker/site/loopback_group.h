// A DeviceGroup over sockets: rank 0 adds up what the others send, in the order of ranks, and sends
// the sums back, so every rank has the same bits. For processes on CPUs and for tests; its cost
// grows with the number of ranks, unlike NCCL's.
#pragma once

#include <memory>

#include "common/time.h"
#include "worker/site/device_group.h"
#include "worker/site/site_link.h"

namespace longhaul {

// `link` carries nothing else. A rank that keeps the others waiting for longer than `deadline` in
// one sum is lost; it must be longer than the ranks may differ in the time of a step.
std::unique_ptr<DeviceGroup> MakeLoopbackGroup(std::unique_ptr<SiteLink> link, Duration deadline);

}  // namespace longhaul
