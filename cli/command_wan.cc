// longhaul wan: bad networks, simulated (`fuzz`, `rerun`) and emulated (`run`, `exec`).
#include "cli/command_wan.h"

#include <CLI/CLI.hpp>

#include "cli/commands.h"

namespace longhaul {

void AddWan(CLI::App& app, Command& command) {
  auto* wan = app.add_subcommand("wan", "Runs on simulated and emulated networks");
  wan->require_subcommand(1);
  AddWanFuzz(*wan, command);
  AddWanRerun(*wan, command);
  AddWanRun(*wan, command);
  AddWanExec(*wan, command);
  wan->footer(
      "Examples:\n"
      "  longhaul wan fuzz --seeds 1000                              look for violations\n"
      "  longhaul wan rerun --seed 17 --trace                        what happened in one seed\n"
      "  longhaul wan run transatlantic.toml --junit junit.xml       a whole run\n"
      "  longhaul wan exec transatlantic.toml -- ping -c 3 america   any program");
}

}  // namespace longhaul
