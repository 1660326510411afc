// Without LibTorch there is no predictive coding to measure, and the report says so.
#include <CLI/CLI.hpp>
#include <memory>

#include "bench/suite.h"

namespace longhaul {

void AddPcn(CLI::App& app, Bench& bench) {
  CLI::App* suite = AddSuite(app, bench, "pcn", "Predictive coding (not in this build)");
  auto ignored = std::make_shared<std::string>();
  suite->add_option("--suite", *ignored, "which part");
  suite->callback([ignored, &bench] {
    bench.run = [] {
      Result r{.suite = "pcn", .name = "oracles", .unit = "passed", .target = 1};
      r.kind = ResultKind::kGate;
      r.note = "this build has no LibTorch";
      return std::vector<Result>{r};
    };
  });
}

}  // namespace longhaul
