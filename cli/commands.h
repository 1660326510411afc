// The subcommands of `longhaul`, one file each. Every Add... hangs a subcommand into the app; when
// it was chosen, `run` holds what to do, and its result is the exit code.
#pragma once

#include <functional>
#include <string>

namespace CLI {
class App;
}

namespace longhaul {

struct Command {
  std::function<int()> run;
  std::string program_folder;  // where longhaul-worker is, too
  char** environment = nullptr;
};

void AddInit(CLI::App& app, Command& command);
void AddConfig(CLI::App& app, Command& command);
void AddCoordinator(CLI::App& app, Command& command);
void AddData(CLI::App& app, Command& command);
void AddDemo(CLI::App& app, Command& command);
void AddDoctor(CLI::App& app, Command& command);
void AddInvite(CLI::App& app, Command& command);
void AddJoin(CLI::App& app, Command& command);
void AddPlan(CLI::App& app, Command& command);
void AddPcn(CLI::App& app, Command& command);
void AddStatus(CLI::App& app, Command& command);
void AddWan(CLI::App& app, Command& command);

}  // namespace longhaul
