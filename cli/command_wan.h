// The subcommands of `longhaul wan`.
#pragma once

namespace CLI {
class App;
}

namespace longhaul {
struct Command;
void AddWanFuzz(CLI::App& wan, Command& command);
void AddWanRerun(CLI::App& wan, Command& command);
void AddWanExec(CLI::App& wan, Command& command);
void AddWanRun(CLI::App& wan, Command& command);
}  // namespace longhaul
