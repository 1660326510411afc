// The credit rule that a run's file asks for.
//
// Thread rule: a pure function; any thread.
#pragma once

#include "absl/status/statusor.h"
#include "pcn/rules/rule_options.h"
#include "proto/run_config.h"

namespace longhaul {

// InvalidArgument, naming option and rule, for values that mean nothing or do not go together.
absl::StatusOr<pcn::RuleOptions> RuleOptionsFrom(const PcnSection& section);

}  // namespace longhaul
