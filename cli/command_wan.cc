// longhaul wan: the simulator. `fuzz` runs many seeds, `rerun` one of them.
#include "cli/command_wan.h"

#include <CLI/CLI.hpp>

#include "cli/commands.h"

namespace longhaul {

void AddWan(CLI::App& app, Command& command) {
  auto* wan = app.add_subcommand("wan", "Simulated runs with faults");
  wan->require_subcommand(1);
  AddWanFuzz(*wan, command);
  AddWanRerun(*wan, command);
  wan->footer(
      "Examples:\n"
      "  longhaul wan fuzz --seeds 1000         look for violations\n"
      "  longhaul wan rerun --seed 17 --trace   what happened in one seed");
}

}  // namespace longhaul
