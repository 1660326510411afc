// longhaul pcn: doctor hands over to longhaul-worker, which has LibTorch; relay is in a file of its
// own.
#include "cli/command_pcn.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "cli/exit_codes.h"

namespace longhaul {
namespace {

// Does not return when the other program starts.
int HandOver(const Command& command, const std::vector<std::string>& arguments) {
  const std::string program = command.program_folder + "/longhaul-worker";
  std::vector<std::string> all = {program, "pcn-doctor"};
  all.insert(all.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& argument : all) argv.push_back(argument.data());
  argv.push_back(nullptr);
  ::execve(program.c_str(), argv.data(), command.environment);
  std::fprintf(stderr, "cannot start %s: %s (predictive coding needs a build with LibTorch)\n",
               program.c_str(), std::strerror(errno));
  return kExitFailure;
}

}  // namespace

void AddPcn(CLI::App& app, Command& command) {
  CLI::App* pcn = app.add_subcommand("pcn", "Predictive coding");
  pcn->require_subcommand(1);
  CLI::App* doctor = pcn->add_subcommand(
      "doctor", "Does credit reach every layer, and is it good? (options: pcn doctor --help)");
  doctor->set_help_flag();  // --help is the other program's
  doctor->prefix_command();
  AddPcnRelay(*pcn, command);
  doctor->callback([doctor, &command] {
    command.run = [doctor, &command] { return HandOver(command, doctor->remaining()); };
  });
}

}  // namespace longhaul
