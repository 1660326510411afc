// longhaul join: hands over to longhaul-worker, which lies beside this program.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "cli/commands.h"
#include "cli/exit_codes.h"

namespace longhaul {

void AddJoin(CLI::App& app, Command& command) {
  auto* join = app.add_subcommand(
      "join", "Join a run with an invitation (longhaul-worker --help lists all options)");
  join->prefix_command();
  join->footer("Example:\n  longhaul join LH1-... --name kitchen-pc --up 10");
  join->callback([join, &command] {
    command.run = [join, &command] {
      const std::string program = command.program_folder + "/longhaul-worker";
      std::vector<std::string> words = join->remaining();
      std::vector<char*> argv = {const_cast<char*>(program.c_str())};
      for (std::string& w : words) argv.push_back(w.data());
      if (words.empty()) argv.push_back(const_cast<char*>("--help"));
      argv.push_back(nullptr);
      ::execv(program.c_str(), argv.data());
      std::fprintf(
          stderr,
          "longhaul: cannot start %s: %s\nBuild it with ./setup.sh and cmake --preset release\n",
          program.c_str(), std::strerror(errno));
      return static_cast<int>(kExitFailure);
    };
  });
}

}  // namespace longhaul
