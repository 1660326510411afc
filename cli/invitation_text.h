// An invitation as people hand it over.
//
// Thread rule: any thread.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "transport/invitation.h"

namespace longhaul {

// The text itself, or @FILE that holds it. NotFound, InvalidArgument.
absl::StatusOr<Invitation> ReadInvitation(const std::string& argument);

}  // namespace longhaul
