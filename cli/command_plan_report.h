// A plan as a table, as JSON, and as a picture of one round. Free functions; any thread.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "sharding/plan/fleet_plan.h"

namespace longhaul {

struct PlanContext {
  std::string title;  // what was planned for
  std::string model;  // for people
  uint64_t parameters = 0;
  std::string codec_up;
  std::string codec_down;
  uint64_t rounds = 0;
  double solver_ms = 0;
};

std::string PlanTable(const PlanContext& context, const std::vector<FleetWorker>& workers,
                      const FleetRun& run, const FleetPlan& plan);
nlohmann::ordered_json PlanJson(const PlanContext& context, const std::vector<FleetWorker>& workers,
                                const FleetRun& run, const FleetPlan& plan);
// One bar per worker: training, sending, receiving, waiting. At most kSvgWorkers of them.
inline constexpr size_t kSvgWorkers = 64;
std::string PlanSvg(const PlanContext& context, const std::vector<FleetWorker>& workers,
                    const FleetRun& run, const FleetPlan& plan);

}  // namespace longhaul
