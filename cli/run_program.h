// Runs a short-lived program and takes what it prints.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/time.h"

namespace longhaul {

struct ProgramOutput {
  int exit_code = 0;  // 128 + signal when a signal ended it
  std::string text;   // stdout and stderr, at most kMaxProgramOutput bytes; the rest is dropped
};
inline constexpr size_t kMaxProgramOutput = 64 * 1024;

// Starts `path` (no shell, no search in PATH) with the caller's environment and an empty stdin, and
// waits for its end. NotFound when it cannot be started, DeadlineExceeded after `timeout`; it is
// killed then.
absl::StatusOr<ProgramOutput> RunProgram(const std::string& path,
                                         const std::vector<std::string>& arguments,
                                         Duration timeout);

}  // namespace longhaul
