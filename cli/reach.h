// Can a TCP port be reached?
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "cli/config.h"
#include "common/time.h"

namespace longhaul {

// Resolves the host, tries its addresses one after the other, and closes the connection at once.
// Returns the numeric address that answered. NotFound: the name has no address. Unavailable: nobody
// listens, or no route. DeadlineExceeded: no answer within `timeout` (all addresses together; the
// name service has its own).
absl::StatusOr<std::string> TryConnect(const HostPort& target, Duration timeout);

}  // namespace longhaul
