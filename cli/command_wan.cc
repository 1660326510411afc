// longhaul wan: runs on emulated networks.
#include "cli/command_wan.h"

#include <CLI/CLI.hpp>

#include "cli/commands.h"

namespace longhaul {

void AddWan(CLI::App& app, Command& command) {
  auto* wan = app.add_subcommand("wan", "Runs on emulated networks");
  wan->require_subcommand(1);
  AddWanRun(*wan, command);
  AddWanExec(*wan, command);
  wan->footer(
      "Examples:\n"
      "  longhaul wan run transatlantic.toml --junit junit.xml      a whole run\n"
      "  longhaul wan exec transatlantic.toml -- ping -c 3 america   any program");
}

}  // namespace longhaul
