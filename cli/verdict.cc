#include "cli/verdict.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/plan_run.h"
#include "cli/run_inputs.h"
#include "common/status_macros.h"
#include "coordinator/human.h"

namespace longhaul {
namespace {

constexpr const char* kName = "computing";
constexpr double kPoor = 0.5;
// Beyond the two transfers, which take one between them: asking for chunks, and what closes and
// commits a round.
constexpr double kRoundTrips = 2;

std::string Seconds3(double s) {
  if (s < 1) return absl::StrFormat("%.0f ms", s * 1000);
  return absl::StrFormat("%.3g s", s);
}

}  // namespace

absl::StatusOr<RunVerdict> JudgeLink(RunConfig config, const LinkFacts& link, double step_s) {
  if (link.up_bytes_per_s <= 0 || link.down_bytes_per_s <= 0) {
    return absl::InvalidArgumentError("the link was not measured");
  }
  RETURN_IF_ERROR(ResolveModel(config));
  ASSIGN_OR_RETURN(FleetRun run, FleetRunOf(config));
  run.overhead_s = kRoundTrips * link.round_trip_ms / 1000;
  FleetWorker here;
  here.up_bytes_per_s = link.up_bytes_per_s;
  here.down_bytes_per_s = link.down_bytes_per_s;
  here.delay_s = link.round_trip_ms / 2000;
  const double tokens = static_cast<double>(run.batch_sequences * run.memory.sequence_length);
  here.tokens_per_s = tokens / (step_s > 0 ? step_s : 1);
  const FleetPlan plan = PlanFleet({here}, run);
  const WorkerPlan& w = plan.workers[0];
  RunVerdict out{.up_bytes = run.up_bytes, .down_bytes = run.down_bytes};
  out.exchange_s = w.up_s + w.down_s + run.overhead_s;
  out.overlap = run.overlap;
  out.inner_steps = run.inner_steps;
  const double more = kWantedComputing / (1 - kWantedComputing);
  const double wanted_s = run.overlap
                              ? std::max(kWantedComputing * out.exchange_s, more * run.overhead_s)
                              : more * out.exchange_s;
  out.wanted_step_s = wanted_s / static_cast<double>(std::max<uint64_t>(1, run.inner_steps));
  if (step_s <= 0 || plan.round_s <= 0) return out;
  out.round_s = plan.round_s;
  out.computing = std::min(1.0, w.compute_s / plan.round_s);
  return out;
}

CheckResult DescribeVerdict(const RunVerdict& v, double least_percent) {
  const std::string exchange = absl::StrCat("exchange of ", Seconds3(v.exchange_s), " (",
                                            HumanBytes(static_cast<uint64_t>(v.up_bytes)), " up, ",
                                            HumanBytes(static_cast<uint64_t>(v.down_bytes)),
                                            " down)", v.overlap ? ", hidden behind computing" : "");
  const std::string wanted =
      absl::StrFormat("%d steps of at least %s each keep it computing %.0f %% of the time",
                      v.inner_steps, Seconds3(v.wanted_step_s), 100 * kWantedComputing);
  if (!v.computing) {
    return {least_percent > 0 ? CheckLevel::kFail : CheckLevel::kOk, kName,
            absl::StrCat(exchange, "; ", wanted),
            least_percent > 0 ? "--step-ms says how long a step takes here" : ""};
  }
  const std::string detail = absl::StrFormat("%.1f %% of the time, rounds of %s with an %s",
                                             100 * *v.computing, Seconds3(*v.round_s), exchange);
  const std::string next =
      wanted + "; or more sync.inner_steps, fewer sync.bits, or sync.overlap_steps";
  if (100 * *v.computing < least_percent) return {CheckLevel::kFail, kName, detail, next};
  if (*v.computing < kPoor) return {CheckLevel::kWarn, kName, detail, next};
  return {CheckLevel::kOk, kName, detail, ""};
}

}  // namespace longhaul
