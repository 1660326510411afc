// An experiment of the suite `wan`: what is measured in one place, and the rows that come of it.
// Values; the suite (suite_wan.cc) runs them one after the other.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "bench/suite.h"
#include "bench/wan_lab.h"
#include "proto/run_config.h"
#include "wan/run.h"

namespace longhaul {

// What was measured, by name; and for people.
struct Numbers {
  std::map<std::string, double> values;
  std::string note;
  bool valid = true;  // false: the emulator was late, the values mean nothing
};

// Where an experiment runs.
struct Place {
  std::string program_folder;  // where longhaul-bench, longhaul and the toy worker are
  std::string work_folder;     // its own, exists
};

// A row of the report from an experiment's numbers.
struct Row {
  std::string name;
  std::string value;  // key into Numbers
  std::string unit = "ratio";
  double target = 0;
  Relation relation = Relation::kAtLeast;
  ResultKind kind = ResultKind::kGoal;
};

struct Experiment {
  bool in_lab = true;  // in a process tree of its own, with namespaces (RunInLab)
  std::function<absl::StatusOr<Numbers>(const Place&)> measure;
  std::vector<Row> rows;
};

// The emulator's own error becomes part of the note, and of `valid`.
void AddLateness(const wan::EmulatorReport& report, Numbers* numbers);

// On the machines of a path.
Experiment OnPath(const WanPath& path, std::function<absl::StatusOr<Numbers>(WanBenchLab&)> measure,
                  std::vector<Row> rows);

// ---- the transport, with the suite's own peer (wan_experiments.cc) ----

std::vector<Experiment> TransportExperiments();
// Goodput of both directions at once, ours and that of whoever is raced: rows NAME_ours,
// NAME_iperf3 and NAME_gloo, in Mbit/s.
Experiment RateRace(const std::string& name, const WanPath& path);
// Small and short: that everything still works.
Experiment QuickExchange();

// ---- real runs: coordinator and toy workers as processes (wan_product.cc) ----

std::vector<Experiment> ProductExperiments();
Experiment QuickRun();
// A metric of docs/WAN_LAB.md; NaN when the run has no such number.
double MetricOf(const wan::RunOutcome& run, const std::string& name);
// What the scenario's programs run with.
absl::StatusOr<RunConfig> ConfigOf(const wan::Scenario& scenario);

// ---- without a network ----

// Our sockets against ZeroMQ's own over the loopback interface (wan_loopback.cc).
Experiment ZmqTax(uint64_t mib);
// The simulator's rounds against arithmetic, for fleets of many sizes (wan_scale.cc).
Experiment ScaleSim(const std::vector<uint32_t>& fleets);

}  // namespace longhaul
