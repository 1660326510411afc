// What every suite of longhaul-bench shares: results with their targets, how they are written, and
// how a suite becomes a subcommand. A suite is one file, suite_NAME.cc, with one Add... function.
//
// Plain values and free functions; one thread.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace longhaul {

enum class ResultKind {
  kGate,     // must hold: the exit code says so
  kGoal,     // what we aim at
  kMeasure,  // a number without a target
};
enum class Relation { kAtLeast, kAtMost };

struct Result {
  std::string suite;
  std::string name;
  std::optional<double> value;  // none: could not be measured, and `note` says why
  std::string unit;
  double target = 0;  // of gates and goals
  Relation relation = Relation::kAtLeast;
  ResultKind kind = ResultKind::kMeasure;
  std::string note;     // for people: what was measured, or why nothing was
  bool detail = false;  // not in the table: for programs

  // Measured, finite, and as the target asks. What was not measured never passes.
  bool pass() const;
};

// A JSON list, one object per result: suite, name, value (null when not measured), unit, target and
// relation (null without a target), kind, pass, note.
std::string ToJson(const std::vector<Result>& results);
// A table for people; notes follow it.
std::string FormatTable(const std::vector<Result>& results);
bool GatesPass(const std::vector<Result>& results);

// Of an odd or even number of values; 0 for none.
double Median(std::vector<double> values);

// ---- subcommands ----

struct Bench {
  std::function<std::vector<Result>()> run;  // of the subcommand that was chosen, or
  std::function<int()> program;              // a helper program of a suite: the exit code
  std::string program_folder;                // where longhaul and the workers are
  bool quick = false;
  std::string json_file;
  std::string test_data;  // folder with text/, or ""
};

// A subcommand with the options that all suites have: --quick and --json.
CLI::App* AddSuite(CLI::App& app, Bench& bench, const std::string& name, const std::string& help);

void AddCodec(CLI::App& app, Bench& bench);
void AddData(CLI::App& app, Bench& bench);
void AddPlan(CLI::App& app, Bench& bench);
void AddTrainer(CLI::App& app, Bench& bench);
void AddMemory(CLI::App& app, Bench& bench);
void AddLearning(CLI::App& app, Bench& bench);
void AddCore(CLI::App& app, Bench& bench);
void AddJournal(CLI::App& app, Bench& bench);
void AddGpu(CLI::App& app, Bench& bench);
void AddPcn(CLI::App& app, Bench& bench);
void AddWan(CLI::App& app, Bench& bench);
void AddWanPeer(CLI::App& app, Bench& bench);

}  // namespace longhaul
