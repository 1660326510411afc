// Parts of `longhaul pcn`.
#pragma once

#include "cli/commands.h"

namespace longhaul {

void AddPcnRelay(CLI::App& pcn, Command& command);

}  // namespace longhaul
