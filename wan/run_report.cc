#include "wan/run_report.h"

#include <chrono>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/text_table.h"
#include "wan/tun_lab.h"

namespace longhaul::wan {
namespace {

using Json = nlohmann::ordered_json;

double MedianLateMs(const RunOutcome& outcome) {
  return std::chrono::duration<double, std::milli>(outcome.network.median_late).count();
}
double WorstLateMs(const RunOutcome& outcome) {
  return std::chrono::duration<double, std::milli>(outcome.network.worst_late).count();
}

std::string Value(double value) {
  return std::isnan(value) ? "not measured" : absl::StrFormat("%.6g", value);
}

std::string NameOf(const Scenario& scenario) {
  return std::filesystem::path(scenario.file).stem().string();
}

std::string Escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        if (static_cast<unsigned char>(c) >= ' ' || c == '\n' || c == '\t') out += c;
    }
  }
  return out;
}

struct Case {
  std::string name;
  std::string failure;  // "" = passed
  bool skipped = false;
};

std::vector<Case> CasesOf(const RunOutcome& outcome) {
  std::vector<Case> cases = {{"run finishes", outcome.finished ? "" : outcome.problem}};
  cases.push_back({"network is emulated in time",
                   outcome.valid() ? ""
                                   : absl::StrFormat("worst lateness %.1f ms: the machine was too "
                                                     "busy, this run does not count",
                                                     WorstLateMs(outcome))});
  for (const RunOutcome::Check& check : outcome.checks) {
    cases.push_back({check.assertion.text,
                     check.holds || check.skipped
                         ? ""
                         : absl::StrCat(check.assertion.place, ": ", check.assertion.metric, " is ",
                                        Value(check.value)),
                     check.skipped});
  }
  return cases;
}

}  // namespace

std::string FormatOutcome(const Scenario& scenario, Tier tier, const RunOutcome& outcome) {
  TextTable metrics({"metric", "value"}, {Align::kLeft, Align::kRight});
  for (const auto& [name, value] : outcome.metrics) metrics.AddRow({name, Value(value)});
  std::string out = absl::StrCat("\n", metrics.ToString(), "\n");
  absl::StrAppend(&out, FormatNetwork(scenario, outcome.network), "\n");
  for (const RunOutcome::Check& check : outcome.checks) {
    const char* verdict = check.skipped ? "skipped " : check.holds ? "holds   " : "FAILS   ";
    absl::StrAppend(&out, verdict, check.assertion.text, "   (", Value(check.value), ", ",
                    check.assertion.place, ")\n");
  }
  const char* verdict = !outcome.passed() ? "FAILED" : outcome.valid() ? "passed" : "INVALID";
  absl::StrAppend(&out, verdict, "  ", NameOf(scenario), "  tier ", TierName(tier),
                  absl::StrFormat("  %.1f s", outcome.elapsed_s),
                  outcome.problem.empty() ? "" : "  " + outcome.problem, "\n");
  return out;
}

std::string OutcomeJson(const Scenario& scenario, Tier tier, const RunOutcome& outcome) {
  Json metrics = Json::object();
  const auto number = [](double v) { return std::isfinite(v) ? Json(v) : Json(); };
  for (const auto& [name, value] : outcome.metrics) metrics[name] = number(value);
  Json checks = Json::array();
  for (const RunOutcome::Check& check : outcome.checks) {
    checks.push_back(Json{{"text", check.assertion.text},
                          {"place", check.assertion.place},
                          {"value", number(check.value)},
                          {"holds", check.holds},
                          {"skipped", check.skipped}});
  }
  Json links = Json::array();
  for (const LinkCounters& link : outcome.network.links) {
    links.push_back(Json{{"packets", link.packets},
                         {"bytes", link.bytes},
                         {"queue_drops", link.queue_drops},
                         {"losses", link.losses}});
  }
  const Json json{{"scenario", NameOf(scenario)},
                  {"tier", TierName(tier)},
                  {"passed", outcome.passed()},
                  {"valid", outcome.valid()},
                  {"problem", outcome.problem},
                  {"elapsed_seconds", outcome.elapsed_s},
                  {"median_late_ms", MedianLateMs(outcome)},
                  {"worst_late_ms", WorstLateMs(outcome)},
                  {"metrics", std::move(metrics)},
                  {"checks", std::move(checks)},
                  {"links", std::move(links)}};
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string OutcomeJunit(const Scenario& scenario, Tier tier, const RunOutcome& outcome) {
  const std::vector<Case> cases = CasesOf(outcome);
  size_t failures = 0;
  std::string body;
  for (const Case& c : cases) {
    absl::StrAppend(&body, "    <testcase classname=\"wan.", Escaped(NameOf(scenario)),
                    "\" name=\"", Escaped(c.name), "\" time=\"",
                    absl::StrFormat("%.3f", &c == &cases[0] ? outcome.elapsed_s : 0.0), "\"");
    if (c.failure.empty()) {
      absl::StrAppend(&body, c.skipped ? "><skipped/></testcase>\n" : "/>\n");
      continue;
    }
    ++failures;
    absl::StrAppend(&body, ">\n      <failure message=\"", Escaped(c.failure),
                    "\"/>\n    </testcase>\n");
  }
  return absl::StrCat(
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite name=\"",
      Escaped(NameOf(scenario)), " (", TierName(tier), ")\" tests=\"", cases.size(),
      "\" failures=\"", failures, "\" errors=\"0\" time=\"",
      absl::StrFormat("%.3f", outcome.elapsed_s), "\">\n", body, "  </testsuite>\n</testsuites>\n");
}

}  // namespace longhaul::wan
