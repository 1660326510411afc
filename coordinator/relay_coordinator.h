// The coordinator of a Relay run: invites stages, hands out blocks, watches leases and tells all
// who their neighbours are. Tensors never pass here.
//
// Thread rule: RunRelayCoordinator blocks its caller; the sockets have a thread of their own.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "pcn/relay/slots.h"

namespace longhaul {

struct RelayCoordinatorOptions {
  pcn::RelayPlan plan;
  std::string listen = "127.0.0.1:0";
  std::string invitation_file;  // the invitation is written here
  Duration lease = pcn::kLease;
  std::function<void(const std::string&)> say;
};

struct RelayOutcome {
  bool complete = false;  // not stopped before the end
  double seconds = 0;     // since all stages were there
  std::vector<pcn::StageBeat> stages;
};

// InvalidArgument: PlanProblem. FailedPrecondition: the stages do not fit. Unavailable: the port.
absl::StatusOr<RelayOutcome> RunRelayCoordinator(const RelayCoordinatorOptions& options,
                                                 const std::atomic<int>& stop);

}  // namespace longhaul
