// longhaul: everything but training. Links no LibTorch, so it starts in milliseconds.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <climits>
#include <filesystem>

#include "cli/commands.h"
#include "cli/exit_codes.h"

namespace longhaul {
namespace {

std::string ProgramFolder() {
  char path[PATH_MAX] = {};
  const ssize_t n = ::readlink("/proc/self/exe", path, sizeof path - 1);
  return n > 0 ? std::filesystem::path(std::string(path, static_cast<size_t>(n)))
                     .parent_path()
                     .string()
               : ".";
}

int Main(int argc, char** argv) {
  CLI::App app("Train one model on many far-apart machines.", "longhaul");
  app.set_version_flag("--version", "longhaul " LONGHAUL_VERSION);
  app.require_subcommand(1);
  app.footer(
      "Examples:\n"
      "  longhaul demo                          four workers on this machine, start to finish\n"
      "  longhaul init my-run.toml              a commented configuration\n"
      "  longhaul coordinator my-run.toml       prints the line that workers paste\n"
      "  longhaul join LH1-...                  on every other machine");
  Command command;
  command.program_folder = ProgramFolder();
  command.environment = environ;
  AddDemo(app, command);
  AddInit(app, command);
  AddConfig(app, command);
  AddCoordinator(app, command);
  AddInvite(app, command);
  AddJoin(app, command);
  AddStatus(app, command);
  AddData(app, command);
  AddPlan(app, command);
  AddDoctor(app, command);
  AddWan(app, command);
  AddPcn(app, command);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? kExitOk : kExitUsage;
  }
  return command.run();
}

}  // namespace
}  // namespace longhaul

int main(int argc, char** argv) { return longhaul::Main(argc, argv); }
