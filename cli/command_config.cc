// longhaul init and longhaul config.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>

#include "cli/commands.h"
#include "cli/config.h"
#include "cli/exit_codes.h"

namespace longhaul {
namespace {

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "longhaul: %s\n", std::string(status.message()).c_str());
  return ExitCodeFor(status);
}

int Init(const std::string& path) {
  if (std::filesystem::exists(path)) {
    std::fprintf(stderr, "longhaul: %s exists already; choose another name or remove it\n",
                 path.c_str());
    return kExitUsage;
  }
  auto text = InitTemplate(std::filesystem::path(path).stem().string());
  if (!text.ok()) return Fail(text.status());
  std::ofstream file(path);
  file << *text;
  file.close();
  if (!file) {
    std::fprintf(stderr, "longhaul: cannot write %s\n", path.c_str());
    return kExitStorage;
  }
  std::printf("wrote %s\nnext: longhaul config %s     longhaul coordinator %s\n", path.c_str(),
              path.c_str(), path.c_str());
  return kExitOk;
}

}  // namespace

void AddInit(CLI::App& app, Command& command) {
  auto path = std::make_shared<std::string>("run.toml");
  auto* init = app.add_subcommand("init", "Write a commented run.toml to start from");
  init->add_option("file", *path, "file to write")->capture_default_str();
  init->callback([path, &command] { command.run = [path] { return Init(*path); }; });
}

void AddConfig(CLI::App& app, Command& command) {
  auto path = std::make_shared<std::string>();
  auto sets = std::make_shared<std::vector<std::string>>();
  auto keys = std::make_shared<bool>(false);
  auto* config =
      app.add_subcommand("config", "Check a run.toml and print it with every default filled in");
  config->add_option("file", *path, "run.toml; none: the defaults");
  config->add_option("--set", *sets, "section.key=value, overrides the file; may be repeated");
  config->add_flag("--keys", *keys, "explain every key");
  config->footer("Example:\n  longhaul config run.toml --set sync.inner_steps=60");
  config->callback([=, &command] {
    command.run = [=, &command]() -> int {
      if (*keys) {
        std::fputs(ConfigHelp().c_str(), stdout);
        return kExitOk;
      }
      auto loaded = LoadRunConfig(*path, {CollectEnvironment(command.environment), *sets});
      if (!loaded.ok()) return Fail(loaded.status());
      std::fputs(ResolvedToml(loaded->config, loaded->origins).c_str(), stdout);
      return kExitOk;
    };
  });
}

}  // namespace longhaul
