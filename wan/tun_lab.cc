#include "wan/tun_lab.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/text_table.h"
#include "common/status_macros.h"
#include "coordinator/human.h"

namespace longhaul::wan {
namespace {

// A packet that stands for several segments must not be long against the delays: half a
// millisecond of the uplink.
uint32_t MaxOffloadBytes(double up_mbit) {
  return static_cast<uint32_t>(std::clamp(up_mbit * 1e6 / 8 * 0.0005, 3000.0, 65'536.0));
}

std::string Percent(uint64_t part, uint64_t rest) {
  const uint64_t all = part + rest;
  return absl::StrFormat("%.2f %%", all == 0 ? 0.0 : 100.0 * static_cast<double>(part) / all);
}

void AddRow(TextTable& table, const std::string& name, const LinkCounters& up,
            const LinkCounters& down) {
  const uint64_t sent = up.packets + down.packets;
  const uint64_t drops = up.queue_drops + down.queue_drops;
  const uint64_t losses = up.losses + down.losses;
  table.AddRow({name, HumanBytes(up.bytes), HumanBytes(down.bytes), Percent(drops, sent + losses),
                Percent(losses, sent + drops)});
}

}  // namespace

absl::StatusOr<std::unique_ptr<TunLab>> TunLab::Create(const Scenario& scenario) {
  auto lab = std::unique_ptr<TunLab>(new TunLab(scenario));
  std::vector<int> tuns;
  std::vector<std::string> names;
  for (uint32_t i = 0; i < scenario.nodes.size(); ++i) {
    const Node& node = scenario.nodes[i];
    ASSIGN_OR_RETURN(LabHost host, LabHost::Create({node.name, i, node.kernel,
                                                    MaxOffloadBytes(node.access.up_mbit)}));
    tuns.push_back(host.tun());
    names.push_back(node.name);
    lab->hosts_.push_back(std::move(host));
  }
  RETURN_IF_ERROR(NameHosts(names));
  Network network(scenario.HostShapes(), scenario.BottleneckShapes(), scenario.seed);
  ASSIGN_OR_RETURN(lab->emulator_, Emulator::Start(std::move(tuns), std::move(network)));
  return lab;
}

void TunLab::Apply(const Schedule::Step& step) {
  emulator_->Change([this, step](Network& network) { ApplyToNetwork(scenario_, step, network); });
}

std::string FormatNetwork(const Scenario& scenario, const EmulatorReport& report) {
  using std::chrono::duration;
  TextTable table({"link", "up", "down", "queue drops", "losses"},
                  {Align::kLeft, Align::kRight, Align::kRight, Align::kRight, Align::kRight});
  const size_t n = scenario.nodes.size();
  if (report.links.size() == 2 * n + 2 * scenario.bottlenecks.size()) {
    for (size_t i = 0; i < n; ++i) {
      AddRow(table, scenario.nodes[i].name, report.links[i], report.links[n + i]);
    }
    for (size_t b = 0; b < scenario.bottlenecks.size(); ++b) {
      AddRow(table, scenario.bottlenecks[b].name, report.links[2 * n + 2 * b],
             report.links[2 * n + 2 * b + 1]);
    }
  }
  const double median_ms = duration<double, std::milli>(report.median_late).count();
  const double worst_ms = duration<double, std::milli>(report.worst_late).count();
  std::string out = table.ToString();
  absl::StrAppend(
      &out, absl::StrFormat(
                "emulator's own lateness: median %.2f ms, worst %.2f ms, %s later than 1 ms%s\n",
                median_ms, worst_ms, Percent(report.late_1ms, report.deliveries - report.late_1ms),
                report.valid() ? "" : ": INVALID, this machine was too busy"));
  return out;
}

}  // namespace longhaul::wan
