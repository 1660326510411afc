// Proof at start-up that strangers stay outside.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "common/ids.h"
#include "common/time.h"

namespace longhaul {

// Connects to `address` (host:port) with a CURVE key that nobody knows and waits for the refusal.
// FailedPrecondition when the stranger gets in, DeadlineExceeded when no clear refusal comes in
// time. Blocks; any thread.
absl::Status CheckStrangerIsRefused(const std::string& address, const WorkerKey& server_key,
                                    Duration timeout);

}  // namespace longhaul
