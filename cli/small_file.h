// Reads a small text file that a person wrote.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace longhaul {

// NotFound when it cannot be read (the message says why), InvalidArgument when it is larger than
// max_bytes.
absl::StatusOr<std::string> ReadSmallFile(const std::string& path, size_t max_bytes);

}  // namespace longhaul
