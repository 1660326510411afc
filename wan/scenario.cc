#include "wan/scenario.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>

namespace longhaul::wan {
namespace {

LinkShape OneWay(const AccessLink& link, double mbit) {
  LinkShape out;
  out.bits_per_s = static_cast<uint64_t>(std::llround(mbit * 1e6));
  out.delay = link.round_trip / 2;
  out.jitter = link.jitter;
  out.loss = link.loss_percent / 100;
  out.burst = link.loss_burst;
  out.queue = link.queue;
  return out;
}

Preset MakePreset(const char* name, double up, double down, int64_t round_trip_ms,
                  int64_t jitter_ms, double loss_percent, double burst, int64_t queue_ms) {
  Preset out{name, {}};
  out.access.up_mbit = up;
  out.access.down_mbit = down;
  out.access.round_trip = Milliseconds(round_trip_ms);
  out.access.jitter = Milliseconds(jitter_ms);
  out.access.loss_percent = loss_percent;
  out.access.loss_burst = burst;
  out.access.queue = Milliseconds(queue_ms);
  return out;
}

}  // namespace

// Round figures of ordinary contracts: access link plus a few hundred kilometres; docs/WAN_LAB.md.
const std::vector<Preset>& Presets() {
  static const std::vector<Preset> presets = {
      MakePreset("home-dsl", 10, 50, 30, 4, 0.05, 3, 200),
      MakePreset("cable", 25, 250, 20, 6, 0.02, 2, 250),
      MakePreset("fiber", 500, 500, 10, 1, 0, 1, 60),
      MakePreset("5g", 40, 150, 35, 15, 0.1, 4, 150),
      MakePreset("satellite", 15, 120, 50, 15, 0.5, 8, 200),
      MakePreset("transatlantic", 1000, 1000, 50, 0, 0, 1, 100),
      MakePreset("datacenter", 10'000, 10'000, 1, 0, 0, 1, 20),
  };
  return presets;
}

const std::vector<Metric>& Metrics() {
  static const std::vector<Metric> metrics = {
      {"rounds", "committed rounds"},
      {"committed_tokens", "tokens trained into the committed model"},
      {"solo_percent", "their rate, against all workers training alone without any exchange"},
      {"first_loss", "mean loss of the first round"},
      {"final_loss", "mean loss of the last round"},
      {"bytes_up_per_worker", "socket bytes that a worker sent, mean"},
      {"bytes_down_per_worker", "socket bytes that a worker received, mean"},
      {"round_seconds_p50", "time between commits, median"},
      {"round_seconds_p90", "time between commits, 90th percentile"},
      {"round_seconds_p99", "time between commits, 99th percentile"},
      {"round_seconds_max", "longest time between commits"},
      {"sync_seconds_p50", "from the first contribution offered to the commit, median"},
      {"sync_seconds_max", "longest"},
      {"computing_percent", "share of the workers' time inside inner steps"},
      {"hash_checks", "state hashes of workers compared with the coordinator's"},
      {"hash_mismatches", "of those, unequal"},
      {"killed", "programs killed by the schedule"},
      {"elapsed_seconds", "of the whole run"},
      {"queue_drop_percent", "share of packets dropped by full queues (tier tun)", true},
      {"loss_percent", "share of packets lost on links (tier tun)", true},
      {"uplink_percent", "use of the busiest uplink while the run lasted"},
  };
  return metrics;
}

const Metric* FindMetric(std::string_view name) {
  for (const Metric& metric : Metrics()) {
    if (metric.name == name) return &metric;
  }
  return nullptr;
}

bool Assertion::HoldsFor(double value) const {
  switch (comparison) {
    case Comparison::kLess:
      return value < bound;
    case Comparison::kAtMost:
      return value <= bound;
    case Comparison::kGreater:
      return value > bound;
    case Comparison::kAtLeast:
      return value >= bound;
    case Comparison::kEqual:
      return value == bound;
  }
  return false;
}

bool Scenario::Configures(std::string_view key) const {
  return std::any_of(run_config.begin(), run_config.end(),
                     [&](const auto& entry) { return entry.first == key; });
}

std::optional<uint32_t> Scenario::FindNode(std::string_view name) const {
  for (uint32_t i = 0; i < nodes.size(); ++i) {
    if (nodes[i].name == name) return i;
  }
  return std::nullopt;
}

std::vector<HostShape> Scenario::HostShapes() const {
  std::vector<HostShape> out;
  for (const Node& node : nodes) {
    out.push_back({node.name, OneWay(node.access, node.access.up_mbit),
                   OneWay(node.access, node.access.down_mbit), node.access.half_duplex});
  }
  return out;
}

std::vector<BottleneckShape> Scenario::BottleneckShapes() const {
  std::vector<BottleneckShape> out;
  for (const Bottleneck& b : bottlenecks) {
    out.push_back({b.name, b.nodes, OneWay(b.link, b.rate_mbit), b.link.half_duplex});
  }
  return out;
}

absl::StatusOr<Scenario> LoadScenario(const std::string& path) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError("cannot read " + path);
  std::ostringstream text;
  text << file.rdbuf();
  if (text.view().size() > kMaxScenarioBytes) {
    return absl::InvalidArgumentError(path + ": too large for a scenario");
  }
  return ParseScenario(text.str(), path);
}

}  // namespace longhaul::wan
