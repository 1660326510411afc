// What the programs say to a shell. Stable: scripts and service files depend on these numbers.
#pragma once

#include "absl/status/status.h"

namespace longhaul {

enum ExitCode : int {
  kExitOk = 0,
  kExitFailure = 1,        // anything without a code of its own
  kExitUsage = 2,          // command line or configuration
  kExitNeedsPackages = 3,  // system packages or root are missing
  kExitRefused = 4,        // the coordinator said no
  kExitUnreachable = 5,    // no answer from the coordinator
  kExitData = 6,           // training data missing, damaged or not the run's
  kExitStorage = 7,        // disk full, or stored state damaged
  kExitInvalid = 8,        // a measurement does not count: the machine was too busy
  kExitInterrupted = 130,  // Ctrl-C, as shells count it
};

// The code for a status that ended a program: InvalidArgument -> usage, PermissionDenied and
// Unauthenticated -> refused, Unavailable and DeadlineExceeded -> unreachable, DataLoss and
// ResourceExhausted -> storage, Cancelled -> interrupted, else failure. Data problems are told
// apart by the caller, who knows what was read.
inline ExitCode ExitCodeFor(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return kExitOk;
    case absl::StatusCode::kInvalidArgument:
      return kExitUsage;
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated:
      return kExitRefused;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
      return kExitUnreachable;
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kResourceExhausted:
      return kExitStorage;
    case absl::StatusCode::kCancelled:
      return kExitInterrupted;
    default:
      return kExitFailure;
  }
}

// Of the coordinator, which asks nobody but its own disk: what cannot be found is training data,
// what is unavailable is storage.
inline ExitCode CoordinatorExitCode(const absl::Status& status) {
  if (absl::IsNotFound(status)) return kExitData;
  return absl::IsUnavailable(status) ? kExitStorage : ExitCodeFor(status);
}

}  // namespace longhaul
