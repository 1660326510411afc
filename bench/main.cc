// longhaul-bench: measures, and compares with what we promise. One subcommand per suite.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "bench/suite.h"
#include "cli/exit_codes.h"

namespace longhaul {
namespace {

std::string ProgramFolder() {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error).parent_path().string();
}

int Report(const Bench& bench, const std::vector<Result>& results) {
  std::fputs(FormatTable(results).c_str(), stdout);
  if (!bench.json_file.empty()) {
    std::ofstream file(bench.json_file);
    file << ToJson(results);
    if (!file.flush()) {
      std::fprintf(stderr, "cannot write %s\n", bench.json_file.c_str());
      return kExitStorage;
    }
  }
  return GatesPass(results) ? kExitOk : kExitFailure;
}

int Main(int argc, char** argv) {
  CLI::App app("Measures speed, memory and codecs; exit code 0 when every gate passes.",
               "longhaul-bench");
  app.require_subcommand(1);
  app.footer(
      "Examples:\n  longhaul-bench trainer --quick\n"
      "  longhaul-bench trainer --eager-python /usr/bin/python3 --json trainer.json\n"
      "  longhaul-bench codec --json codec.json\n"
      "  longhaul-bench memory\n"
      "  longhaul-bench learning --tier smoke --seeds 3 --plot learning.svg\n"
      "  longhaul-bench wan --suite core --json wan.json");
  Bench bench;
  bench.program_folder = ProgramFolder();
  AddCodec(app, bench);
  AddTrainer(app, bench);
  AddMemory(app, bench);
  AddLearning(app, bench);
  if (const char* folder = std::getenv("LONGHAUL_TEST_DATA")) bench.test_data = folder;
  AddCore(app, bench);
  AddJournal(app, bench);
  AddData(app, bench);
  AddPlan(app, bench);
  AddGpu(app, bench);
  AddPcn(app, bench);
  AddWan(app, bench);
  AddWanPeer(app, bench);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? kExitOk : kExitUsage;
  }
  return bench.program ? bench.program() : Report(bench, bench.run());
}

}  // namespace
}  // namespace longhaul

int main(int argc, char** argv) { return longhaul::Main(argc, argv); }
