#include "bench/suite.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "cli/text_table.h"

namespace longhaul {
namespace {

const char* Name(ResultKind kind) {
  switch (kind) {
    case ResultKind::kGate:
      return "gate";
    case ResultKind::kGoal:
      return "goal";
    case ResultKind::kMeasure:
      break;
  }
  return "measure";
}

const char* Name(Relation relation) { return relation == Relation::kAtLeast ? ">=" : "<="; }

std::string Number(double value) { return absl::StrFormat("%.4g", value); }

std::string Verdict(const Result& r) {
  if (!r.value) return "not measured";
  if (r.kind == ResultKind::kMeasure) return "";
  return r.pass() ? "pass" : "MISSED";
}

}  // namespace

bool Result::pass() const {
  if (!value || !std::isfinite(*value)) return false;
  if (kind == ResultKind::kMeasure) return true;
  return relation == Relation::kAtLeast ? *value >= target : *value <= target;
}

std::string ToJson(const std::vector<Result>& results) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const Result& r : results) {
    nlohmann::ordered_json json;
    json["suite"] = r.suite;
    json["name"] = r.name;
    json["value"] = nullptr;  // JSON has no word for a value that is not finite either
    if (r.value && std::isfinite(*r.value)) json["value"] = *r.value;
    json["unit"] = r.unit;
    json["target"] = nullptr;
    json["relation"] = nullptr;
    if (r.kind != ResultKind::kMeasure) {
      json["target"] = r.target;
      json["relation"] = Name(r.relation);
    }
    json["kind"] = Name(r.kind);
    json["pass"] = r.pass();
    json["note"] = r.note;
    list.push_back(std::move(json));
  }
  return list.dump(2) + "\n";
}

std::string FormatTable(const std::vector<Result>& results) {
  TextTable table({"result", "value", "unit", "target", "kind", ""}, {Align::kLeft, Align::kRight});
  std::string notes;
  for (const Result& r : results) {
    if (r.detail) continue;
    const bool has_target = r.kind != ResultKind::kMeasure;
    table.AddRow({r.suite + "/" + r.name, r.value ? Number(*r.value) : "-", r.unit,
                  has_target ? std::string(Name(r.relation)) + " " + Number(r.target) : "",
                  Name(r.kind), Verdict(r)});
    if (!r.note.empty()) notes += r.name + ": " + r.note + "\n";
  }
  return table.ToString() + (notes.empty() ? "" : "\n" + notes);
}

bool GatesPass(const std::vector<Result>& results) {
  return std::all_of(results.begin(), results.end(),
                     [](const Result& r) { return r.kind != ResultKind::kGate || r.pass(); });
}

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

CLI::App* AddSuite(CLI::App& app, Bench& bench, const std::string& name, const std::string& help) {
  CLI::App* suite = app.add_subcommand(name, help);
  suite->add_flag("--quick", bench.quick, "shorter and less exact");
  suite->add_option("--json", bench.json_file, "write the results to this file");
  return suite;
}

}  // namespace longhaul
