#include "cli/command_plan_report.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/text_table.h"
#include "coordinator/human.h"

namespace longhaul {
namespace {

using nlohmann::ordered_json;

constexpr size_t kTableRows = 40;  // workers in a row that have the same plan share one

std::string Seconds3(double s) { return absl::StrFormat("%.3g s", s); }
std::string Ratio(double r) { return absl::StrFormat("%.4f", r); }

Duration AsDuration(double seconds) {
  return Duration(static_cast<int64_t>(std::min(seconds, 9e9) * 1e9));
}

// "12 compute, 3 uplink"
std::string Limits(const FleetPlan& plan) {
  std::map<std::string, size_t> counts;
  for (const WorkerPlan& w : plan.workers) ++counts[LimitName(w.limit)];
  std::string text;
  for (const auto& [name, count] : counts) {
    absl::StrAppend(&text, text.empty() ? "" : ", ", count, " by ", name);
  }
  return text;
}

std::string Summary(const PlanContext& c, const FleetRun& run, const FleetPlan& plan) {
  const double total_s = plan.round_s * static_cast<double>(c.rounds);
  std::string out = absl::StrCat(
      c.title, "\n  model       ", c.model, ", ", HumanCount(c.parameters), " parameters; up ",
      c.codec_up, " ", HumanBytes(static_cast<uint64_t>(run.up_bytes)), ", down ", c.codec_down,
      " ", HumanBytes(static_cast<uint64_t>(run.down_bytes)), " per worker and round\n");
  absl::StrAppend(&out, "  round       ", Seconds3(plan.round_s), "; ", c.rounds, " rounds take ",
                  HumanDuration(AsDuration(total_s)), "\n");
  absl::StrAppend(&out, "  speed       ", HumanRate(plan.tokens_per_s), " tokens/s, ",
                  HumanPercent(100 * plan.utilisation()), " of all workers alone (",
                  HumanRate(plan.solo_tokens_per_s), "); equal steps for all would give ",
                  HumanRate(plan.uniform_tokens_per_s), "\n");
  absl::StrAppend(&out, "  limited     ", Limits(plan), "\n");
  if (plan.hub_s > plan.round_s) {
    absl::StrAppend(&out, "  WARNING     the coordinator's link needs ", Seconds3(plan.hub_s),
                    " per round, longer than the round\n");
  }
  return out;
}

std::string Quality(const PlanContext& c, const FleetPlan& plan) {
  TextTable table({"decision", "objective", "bound", "ratio"},
                  {Align::kLeft, Align::kRight, Align::kRight, Align::kRight});
  table.AddRow({"P1 steps, tokens/s", HumanRate(plan.steps.tokens_per_s),
                HumanRate(plan.steps.bound_tokens_per_s), Ratio(plan.steps.ratio())});
  table.AddRow({"P3 fragments, deadline", Seconds3(plan.fragments.deadline_s),
                Seconds3(plan.fragments.bound_s), Ratio(plan.fragments.ratio())});
  if (plan.quorum) {
    table.AddRow({absl::StrFormat("P4 quorum %.3g, grace %.3g", plan.quorum->rule.quorum,
                                  plan.quorum->rule.grace),
                  absl::StrFormat("%.4g", plan.quorum->cost),
                  absl::StrFormat("%.4g", plan.quorum->bound), Ratio(plan.quorum->ratio())});
  }
  return absl::StrCat(table.ToString(), absl::StrFormat("solved in %.2f ms\n", c.solver_ms));
}

}  // namespace

namespace {

// All but the name.
std::vector<std::string> Cells(const FleetRun& run, const WorkerPlan& w) {
  const std::string limit = LimitName(w.limit);
  return {std::to_string(w.steps),
          std::to_string(w.micro_batch),
          HumanBytes(w.memory.total()),
          absl::StrCat(w.share.size(), "/", run.fragments.fragments),
          Seconds3(w.compute_s),
          Seconds3(w.up_s),
          Seconds3(w.down_s),
          Seconds3(w.idle_s),
          w.steps > 0 ? limit : "not admitted: " + limit};
}

}  // namespace

std::string PlanTable(const PlanContext& context, const std::vector<FleetWorker>& workers,
                      const FleetRun& run, const FleetPlan& plan) {
  TextTable table(
      {"worker", "steps", "micro", "memory", "fragments", "train", "up", "down", "idle", "limit"},
      {Align::kLeft, Align::kRight, Align::kRight, Align::kRight, Align::kRight, Align::kRight,
       Align::kRight, Align::kRight, Align::kRight, Align::kLeft});
  size_t shown = 0;
  for (size_t rows = 0; shown < workers.size() && rows < kTableRows; ++rows) {
    const std::vector<std::string> cells = Cells(run, plan.workers[shown]);
    size_t end = shown + 1;  // of those with the same plan
    while (end < workers.size() && Cells(run, plan.workers[end]) == cells) ++end;
    std::string name = PrintableText(workers[shown].name, true);
    if (end - shown > 1) {
      absl::StrAppend(&name, " to ", PrintableText(workers[end - 1].name, true), " (", end - shown,
                      ")");
    }
    std::vector<std::string> row{std::move(name)};
    row.insert(row.end(), cells.begin(), cells.end());
    table.AddRow(std::move(row));
    shown = end;
  }
  std::string out = Summary(context, run, plan) + "\n" + table.ToString();
  if (shown < workers.size())
    absl::StrAppend(&out, "and ", workers.size() - shown, " more (--json has them all)\n");
  return out + "\n" + Quality(context, plan);
}

ordered_json PlanJson(const PlanContext& c, const std::vector<FleetWorker>& workers,
                      const FleetRun& run, const FleetPlan& plan) {
  ordered_json json;
  json["fleet"] = c.title;
  json["parameters"] = c.parameters;
  json["up_bytes"] = run.up_bytes;
  json["down_bytes"] = run.down_bytes;
  json["round_s"] = plan.round_s;
  json["total_s"] = plan.round_s * static_cast<double>(c.rounds);
  json["tokens_per_s"] = plan.tokens_per_s;
  json["solo_tokens_per_s"] = plan.solo_tokens_per_s;
  json["uniform_tokens_per_s"] = plan.uniform_tokens_per_s;
  json["utilisation"] = plan.utilisation();
  json["hub_s"] = plan.hub_s;
  json["solver_ms"] = c.solver_ms;
  const auto decision = [](double objective, double bound, double ratio) {
    return ordered_json{{"objective", objective}, {"bound", bound}, {"ratio", ratio}};
  };
  json["steps"] =
      decision(plan.steps.tokens_per_s, plan.steps.bound_tokens_per_s, plan.steps.ratio());
  json["steps"]["deadline_s"] = plan.steps.deadline_s;
  json["fragments"] =
      decision(plan.fragments.deadline_s, plan.fragments.bound_s, plan.fragments.ratio());
  json["fragments"]["coverage"] = plan.fragments.coverage;
  if (plan.quorum) {
    json["quorum"] = decision(plan.quorum->cost, plan.quorum->bound, plan.quorum->ratio());
    json["quorum"]["quorum"] = plan.quorum->rule.quorum;
    json["quorum"]["grace"] = plan.quorum->rule.grace;
  }
  json["workers"] = ordered_json::array();
  for (size_t i = 0; i < workers.size(); ++i) {
    const WorkerPlan& w = plan.workers[i];
    json["workers"].push_back({{"name", workers[i].name},
                               {"steps", w.steps},
                               {"micro_batch", w.micro_batch},
                               {"memory_bytes", w.memory.total()},
                               {"fragments", w.share.size()},
                               {"compute_s", w.compute_s},
                               {"up_s", w.up_s},
                               {"down_s", w.down_s},
                               {"idle_s", w.idle_s},
                               {"limit", LimitName(w.limit)}});
  }
  return json;
}

namespace {

std::string XmlText(const std::string& text) {
  std::string out;
  for (const char c : PrintableText(text, true)) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else
      out += c;
  }
  return out;
}

constexpr int kRow = 16;
constexpr int kLeft = 150;
constexpr int kWidth = 700;

void Bar(double from_s, double to_s, double round_s, int y, const char* colour, std::string& svg) {
  if (to_s <= from_s || round_s <= 0) return;
  const double x = kLeft + kWidth * from_s / round_s;
  absl::StrAppendFormat(&svg,
                        "<rect x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/>\n", x,
                        y, kWidth * (to_s - from_s) / round_s, kRow - 4, colour);
}

}  // namespace

std::string PlanSvg(const PlanContext& context, const std::vector<FleetWorker>& workers,
                    const FleetRun& run, const FleetPlan& plan) {
  constexpr std::pair<const char*, const char*> kParts[] = {
      {"receive", "#7fa8d1"}, {"train", "#5b9e6f"}, {"send", "#d98e4a"}, {"wait", "#e4e4e4"}};
  const size_t rows = std::min(workers.size(), kSvgWorkers);
  const int height = 60 + kRow * static_cast<int>(rows);
  std::string svg = absl::StrFormat(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
      "font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%%\" height=\"100%%\" "
      "fill=\"#ffffff\"/>\n<text x=\"10\" y=\"16\">%s: one round, %.3g s</text>\n",
      kLeft + kWidth + 20, height, XmlText(context.title), plan.round_s);
  int x = 10;
  for (const auto& [name, colour] : kParts) {
    absl::StrAppendFormat(&svg,
                          "<rect x=\"%d\" y=\"26\" width=\"10\" height=\"10\" fill=\"%s\"/>"
                          "<text x=\"%d\" y=\"35\">%s</text>\n",
                          x, colour, x + 14, name);
    x += 80;
  }
  for (size_t i = 0; i < rows; ++i) {
    const WorkerPlan& w = plan.workers[i];
    const int y = 46 + kRow * static_cast<int>(i);
    absl::StrAppendFormat(&svg, "<text x=\"10\" y=\"%d\">%s</text>\n", y + kRow - 6,
                          XmlText(workers[i].name));
    Bar(0, plan.round_s, plan.round_s, y, kParts[3].second, svg);
    if (w.steps == 0) continue;
    // Overlapped transfers are drawn as a thin line's place would be: only training takes time.
    const double receive = run.overlap ? 0 : w.down_s, send = run.overlap ? 0 : w.up_s;
    Bar(0, receive, plan.round_s, y, kParts[0].second, svg);
    Bar(receive, receive + w.compute_s, plan.round_s, y, kParts[1].second, svg);
    Bar(receive + w.compute_s, receive + w.compute_s + send, plan.round_s, y, kParts[2].second,
        svg);
  }
  return svg + "</svg>\n";
}

}  // namespace longhaul
