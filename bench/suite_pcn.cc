// Predictive coding: oracles, accuracy, staleness, drift between synchronisations, speed.
#include <CLI/CLI.hpp>
#include <map>
#include <memory>

#include "bench/pcn_training.h"
#include "bench/suite.h"

namespace longhaul {

namespace {

// So few batches as in a quick run judge nothing; gates stay.
void DropGoals(std::vector<Result>& results) {
  for (Result& result : results) {
    if (result.kind == ResultKind::kGoal) result.kind = ResultKind::kMeasure;
  }
}

}  // namespace

void AddPcn(CLI::App& app, Bench& bench) {
  using Suite = std::vector<Result> (*)(const PcnPlan&);
  static const std::map<std::string, Suite> kSuites = {{"oracles", RunPcnOracles},
                                                       {"accuracy", RunPcnAccuracy},
                                                       {"relay", RunPcnRelay},
                                                       {"drift", RunPcnDrift},
                                                       {"speed", RunPcnSpeed}};
  auto plan = std::make_shared<PcnPlan>();
  auto name = std::make_shared<std::string>("oracles");
  CLI::App* suite =
      AddSuite(app, bench, "pcn", "Predictive coding: oracles, accuracy, staleness, drift, speed");
  suite->add_option("--suite", *name, "oracles, accuracy, relay, drift or speed")
      ->check(CLI::IsMember({"oracles", "accuracy", "relay", "drift", "speed"}))
      ->capture_default_str();
  suite->add_option("--images", plan->images,
                    "folder with IDX digits and CIFAR (generated digits when absent)");
  suite->add_option("--threads", plan->threads, "CPU threads")
      ->check(CLI::Range(1u, 256u))
      ->capture_default_str();
  suite->callback([plan, name, &bench] {
    bench.run = [plan, name, &bench] {
      plan->quick = bench.quick;
      std::vector<Result> results = kSuites.at(*name)(*plan);
      if (bench.quick && *name != "speed") DropGoals(results);
      return results;
    };
  });
}

}  // namespace longhaul
