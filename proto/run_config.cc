#include "proto/run_config.h"

#include <algorithm>
#include <vector>

namespace longhaul {
namespace {

constexpr uint32_t kMostSteps = 1'000'000;

// "a, b" without the blanks; an empty list has no items.
std::vector<std::string> Items(const std::string& list) {
  std::vector<std::string> items(1);
  for (char c : list) {
    if (c == ',') {
      items.emplace_back();
    } else if (c != ' ') {
      items.back() += c;
    }
  }
  if (items.size() == 1 && items[0].empty()) items.clear();
  return items;
}

std::optional<uint32_t> Steps(const std::string& text) {
  uint32_t steps = 0;
  if (text.empty() || text.size() > 7) return std::nullopt;
  for (char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    steps = 10 * steps + static_cast<uint32_t>(c - '0');
  }
  if (steps == 0 || steps > kMostSteps) return std::nullopt;
  return steps;
}

}  // namespace

double BitsDown(const RunConfig& config) {
  if (config.sync.bits_down > 0) return config.sync.bits_down;
  return std::min(4.0, std::max(1.0, config.run.min_workers * config.sync.bits));
}

std::optional<std::map<std::string, uint32_t>> StepsPerWorker(const std::string& list) {
  std::map<std::string, uint32_t> all;
  for (const std::string& item : Items(list)) {
    const size_t equal = item.find('=');
    if (equal == 0 || equal == std::string::npos) return std::nullopt;
    const std::optional<uint32_t> steps = Steps(item.substr(equal + 1));
    if (!steps || !all.emplace(item.substr(0, equal), *steps).second) return std::nullopt;
  }
  return all;
}

}  // namespace longhaul
