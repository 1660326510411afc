// longhaul-fuzz-planted: puts one bug after the other into the simulated world and counts how many
// seeds it takes until a checker finds it. Never installed.
//
//   longhaul-fuzz-planted [--seeds N] [--processes N] [--only NAME] [--json FILE]
#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <string>

#include "wan/sim/fuzz.h"
#include "wan/sim/planted/planted.h"

namespace longhaul::sim {
namespace {

struct Arguments {
  uint64_t seeds = 2000;
  uint32_t processes = 2;
  std::string only;
  std::string json;
};

// The first seed that finds it, counted from 1; 0: none did.
uint64_t SeedsNeeded(const Arguments& args, size_t bug, std::string& why) {
  FuzzOptions options{.seeds = args.seeds, .processes = args.processes, .rerun_one_in = 0};
  options.most_failures = 1;
  Plant(bug);
  absl::StatusOr<FuzzSummary> summary = Fuzz(options, {});
  if (!summary.ok() || summary->failures.empty()) return 0;
  why = summary->failures[0].Why();
  return summary->failures[0].world.seed;
}

int Main(int argc, char** argv) {
  Arguments args;
  CLI::App app("Do the simulator's checkers find bugs?", "longhaul-fuzz-planted");
  app.add_option("--seeds", args.seeds, "at most, for each bug")->capture_default_str();
  app.add_option("--processes", args.processes, "at one time")->capture_default_str();
  app.add_option("--only", args.only, "this bug alone")->check(CLI::IsMember(PlantedNames()));
  app.add_option("--json", args.json, "write the result here, too");
  CLI11_PARSE(app, argc, argv);
  std::string json;
  size_t bugs = 0, missed = 0;
  for (size_t bug = 0; bug < PlantedNames().size(); ++bug) {
    const std::string& name = PlantedNames()[bug];
    if (!args.only.empty() && name != args.only) continue;
    std::string why = "not found";
    const uint64_t needed = SeedsNeeded(args, bug, why);
    missed += needed == 0 ? 1 : 0;
    std::printf("%-36s %6llu  %s\n", name.c_str(), static_cast<unsigned long long>(needed),
                why.c_str());
    std::fflush(stdout);
    json += (bugs++ > 0 ? ",\n    \"" : "\n    \"") + name + "\": " + std::to_string(needed);
  }
  json = "{\n  \"bugs\": " + std::to_string(bugs) + ",\n  \"missed\": " + std::to_string(missed) +
         ",\n  \"seeds_needed\": {" + json + "\n  }\n}\n";
  if (!args.json.empty() && !(std::ofstream(args.json) << json)) return 1;
  return missed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace longhaul::sim

int main(int argc, char** argv) { return longhaul::sim::Main(argc, argv); }
