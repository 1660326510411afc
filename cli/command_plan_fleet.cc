#include "cli/command_plan_fleet.h"

#include <toml++/toml.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "cli/suggest.h"
#include "cli/toml_text.h"
#include "common/status_macros.h"
#include "sharding/plan/robust.h"

namespace longhaul {
namespace {

constexpr double kBytesPerMbit = 1e6 / 8;

class FleetReader {
 public:
  FleetReader(std::string file_name) : file_name_(std::move(file_name)) {}

  absl::StatusOr<FleetFile> Read(const std::string& text) {
    toml::table root;
    try {
      root = toml::parse(text, file_name_);
    } catch (const toml::parse_error& error) {
      return absl::InvalidArgumentError(
          absl::StrCat(Place(error.source()), ": ", std::string(error.description())));
    }
    RETURN_IF_ERROR(Known(root, {"set", "plan", "coordinator", "worker", "history"}));
    RETURN_IF_ERROR(ReadSets(root["set"]));
    RETURN_IF_ERROR(ReadPlan(root["plan"]));
    RETURN_IF_ERROR(ReadCoordinator(root["coordinator"]));
    RETURN_IF_ERROR(ReadHistory(root["history"]));
    const toml::array* workers = root["worker"].as_array();
    if (!workers || workers->empty()) return Bad(file_name_, "there is no [[worker]]");
    for (const toml::node& node : *workers) RETURN_IF_ERROR(ReadWorker(node));
    return std::move(fleet_);
  }

 private:
  std::string Place(const toml::source_region& source) const {
    return absl::StrCat(file_name_, ":", source.begin.line);
  }
  static absl::Status Bad(const std::string& place, const std::string& reason) {
    return absl::InvalidArgumentError(place + ": " + reason);
  }

  absl::Status Known(const toml::table& table, const std::vector<std::string>& names) const {
    for (const auto& [key, node] : table) {
      const std::string name(key.str());
      if (std::find(names.begin(), names.end(), name) == names.end()) {
        return Bad(Place(node.source()), "unknown key " + name + DidYouMean(name, names));
      }
    }
    return absl::OkStatus();
  }

  // A number from low to high; `out` stays when the key is absent.
  absl::Status Number(const toml::table& table, const char* key, double low, double high,
                      double& out) const {
    const toml::node* node = table.get(key);
    if (!node) return absl::OkStatus();
    const auto value = node->value<double>();
    if (!value || !(*value >= low && *value <= high)) {
      return Bad(Place(node->source()), absl::StrCat(key, " must be a number from ", ShortReal(low),
                                                     " to ", ShortReal(high)));
    }
    out = *value;
    return absl::OkStatus();
  }

  // A number, or a list of measurements of which outliers are left out and named.
  absl::Status Measured(const toml::table& table, const char* key, const std::string& who,
                        double& out) {
    constexpr double kMost = 1e15;
    const toml::node* node = table.get(key);
    if (!node) return Bad(Place(table.source()), absl::StrCat(who, " has no ", key));
    std::vector<double> values;
    if (const toml::array* list = node->as_array()) {
      for (const toml::node& item : *list) values.push_back(item.value<double>().value_or(-1));
    } else {
      values.push_back(node->value<double>().value_or(-1));
    }
    for (const double v : values) {
      if (!(v > 0 && v <= kMost)) values.clear();
    }
    if (values.empty()) {
      return Bad(Place(node->source()),
                 absl::StrCat(key, " must be a number above 0, or a list of such measurements"));
    }
    const RobustEstimate estimate = EstimateRobustly(values);
    for (const size_t i : estimate.outliers) {
      fleet_.outliers.push_back(absl::StrCat(who, ": ", key, " = ", ShortReal(values[i]),
                                             " does not belong to the others (median ",
                                             ShortReal(estimate.value), ")"));
    }
    out = estimate.value;
    return absl::OkStatus();
  }

  absl::Status ReadSets(const toml::node_view<toml::node>& view) {
    const toml::table* table = view.as_table();
    if (!table) return absl::OkStatus();
    for (const auto& [key, node] : *table) {
      std::string value;
      if (const auto text = node.value_exact<std::string>()) {
        value = *text;
      } else if (const auto flag = node.value_exact<bool>()) {
        value = *flag ? "true" : "false";
      } else if (const auto whole = node.value_exact<int64_t>()) {
        value = std::to_string(*whole);
      } else if (const auto real = node.value_exact<double>()) {
        value = ShortReal(*real);
      } else {
        return Bad(
            Place(node.source()),
            "[set] holds keys of a run with their dots in quotes: \"sync.inner_steps\" = 60");
      }
      fleet_.sets.push_back(std::string(key.str()) + "=" + value);
    }
    return absl::OkStatus();
  }

  absl::Status ReadPlan(const toml::node_view<toml::node>& view) {
    const toml::table* table = view.as_table();
    if (!table) return absl::OkStatus();
    RETURN_IF_ERROR(
        Known(*table, {"fragments", "coverage", "max_steps_factor", "overhead_s", "overlap"}));
    double fragments = 0;
    RETURN_IF_ERROR(Number(*table, "fragments", 1, 1024, fragments));
    fleet_.fragments = static_cast<uint32_t>(fragments);
    RETURN_IF_ERROR(Number(*table, "coverage", 0.01, 1, fleet_.coverage));
    RETURN_IF_ERROR(Number(*table, "max_steps_factor", 1, 1000, fleet_.max_steps_factor));
    RETURN_IF_ERROR(Number(*table, "overhead_s", 0, 86400, fleet_.overhead_s));
    if (const auto overlap = (*table)["overlap"].value<bool>()) fleet_.overlap = *overlap;
    return absl::OkStatus();
  }

  absl::Status ReadCoordinator(const toml::node_view<toml::node>& view) {
    const toml::table* table = view.as_table();
    if (!table) return absl::OkStatus();
    RETURN_IF_ERROR(Known(*table, {"up_mbps", "down_mbps"}));
    RETURN_IF_ERROR(Measured(*table, "up_mbps", "coordinator", fleet_.hub_up_bytes_per_s));
    RETURN_IF_ERROR(Measured(*table, "down_mbps", "coordinator", fleet_.hub_down_bytes_per_s));
    fleet_.hub_up_bytes_per_s *= kBytesPerMbit;
    fleet_.hub_down_bytes_per_s *= kBytesPerMbit;
    return absl::OkStatus();
  }

  absl::Status ReadHistory(const toml::node_view<toml::node>& view) {
    const toml::table* table = view.as_table();
    if (!table) return absl::OkStatus();
    RETURN_IF_ERROR(Known(*table, {"arrivals_s"}));
    const toml::array* rounds = (*table)["arrivals_s"].as_array();
    const absl::Status bad =
        Bad(Place(table->source()), "arrivals_s is a list of lists of seconds; inf: never arrived");
    if (!rounds) return bad;
    for (const toml::node& node : *rounds) {
      const toml::array* round = node.as_array();
      if (!round || round->empty()) return bad;
      ArrivalTimes times;
      for (const toml::node& item : *round) {
        const double t = item.value<double>().value_or(-1);
        if (!(t >= 0)) return bad;
        times.push_back(t);
      }
      fleet_.history.push_back(std::move(times));
    }
    return absl::OkStatus();
  }

  absl::Status ReadWorker(const toml::node& node) {
    const toml::table* table = node.as_table();
    if (!table) return Bad(Place(node.source()), "workers are written [[worker]]");
    RETURN_IF_ERROR(Known(
        *table, {"name", "count", "tokens_per_s", "up_mbps", "down_mbps", "rtt_ms", "memory_gb"}));
    FleetWorker worker;
    worker.name = (*table)["name"].value_or(absl::StrCat("worker-", fleet_.workers.size() + 1));
    double count = 1, rtt_ms = 0, memory_gb = 0;
    RETURN_IF_ERROR(Number(*table, "count", 1, kMaxFleetWorkers, count));
    RETURN_IF_ERROR(Number(*table, "rtt_ms", 0, 60'000, rtt_ms));
    RETURN_IF_ERROR(Number(*table, "memory_gb", 0, 1e6, memory_gb));
    RETURN_IF_ERROR(Measured(*table, "tokens_per_s", worker.name, worker.tokens_per_s));
    RETURN_IF_ERROR(Measured(*table, "up_mbps", worker.name, worker.up_bytes_per_s));
    RETURN_IF_ERROR(Measured(*table, "down_mbps", worker.name, worker.down_bytes_per_s));
    worker.up_bytes_per_s *= kBytesPerMbit;
    worker.down_bytes_per_s *= kBytesPerMbit;
    worker.delay_s = rtt_ms / 2000;
    worker.memory_bytes = static_cast<uint64_t>(memory_gb * 1e9);
    const auto copies = static_cast<size_t>(count);
    if (fleet_.workers.size() + copies > kMaxFleetWorkers) {
      return Bad(Place(node.source()), absl::StrCat("more than ", kMaxFleetWorkers, " workers"));
    }
    for (size_t i = 1; i <= copies; ++i) {
      fleet_.workers.push_back(worker);
      if (copies > 1) fleet_.workers.back().name = absl::StrCat(worker.name, "-", i);
    }
    return absl::OkStatus();
  }

  const std::string file_name_;
  FleetFile fleet_;
};

}  // namespace

absl::StatusOr<FleetFile> ParseFleetFile(const std::string& text, const std::string& file_name) {
  return FleetReader(file_name).Read(text);
}

bool IsFleetFile(const std::string& text) {
  try {
    return toml::parse(text).contains("worker");
  } catch (const toml::parse_error&) {
    return text.find("[[worker]]") != std::string::npos;
  }
}

}  // namespace longhaul
