// Planning: how far each decision is from its bound, and how long it takes, on synthetic fleets
// with speeds spread by 8 and links by 20, or log-normal with sigma 1.2.
#include <CLI/CLI.hpp>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "bench/cpu_time.h"
#include "bench/suite.h"
#include "common/rng.h"
#include "sharding/plan/fleet_plan.h"
#include "sharding/plan/shares.h"

namespace longhaul {
namespace {

Result Make(const std::string& name, double value, const std::string& unit) {
  return {.suite = "plan", .name = name, .value = value, .unit = unit};
}

Result Goal(const std::string& name, double value, const std::string& unit, Relation relation,
            double target) {
  Result r = Make(name, value, unit);
  r.kind = ResultKind::kGoal;
  r.relation = relation;
  r.target = target;
  return r;
}

double Normal(Rng& rng) {
  double sum = -6;  // the sum of twelve uniform numbers
  for (int i = 0; i < 12; ++i) sum += static_cast<double>(rng.Below(1 << 20)) / (1 << 20);
  return sum;
}

double Spread(Rng& rng, double most) {
  return std::pow(most, static_cast<double>(rng.Below(1'000'000)) / 999'999);
}

// About 100 million parameters, coded in 2 bits.
FleetRun RunOf() {
  FleetRun run;
  run.memory = {.parameters = 100'000'000,
                .matrix_parameters = 99'000'000,
                .hidden_size = 768,
                .intermediate_size = 2048,
                .layers = 14,
                .heads = 12,
                .key_value_size = 768,
                .vocab_size = 256,
                .sequence_length = 512,
                .coded_bytes = 50'000'000};
  run.batch_sequences = 8;
  run.inner_steps = 150;
  run.max_steps = 1200;
  run.up_bytes = 25e6;
  run.down_bytes = 50e6;
  run.fragments = {.fragments = 16, .coverage = 0.95};
  run.overhead_s = 1;
  return run;
}

std::vector<FleetWorker> Fleet(size_t n, uint64_t seed) {
  Rng rng(seed);
  std::vector<FleetWorker> workers;
  for (size_t i = 0; i < n; ++i) {
    const double link = 1.25e6 * Spread(rng, 20);  // 10 to 200 Mbit/s
    workers.push_back({.name = absl::StrCat("w", i),
                       .tokens_per_s = 2000 * Spread(rng, 8),
                       .up_bytes_per_s = link,
                       .down_bytes_per_s = 2 * link,
                       .delay_s = 0.03,
                       .memory_bytes = 16'000'000'000});
  }
  return workers;
}

void BenchSteps(size_t n, std::vector<Result>& results) {
  Rng rng(1);
  std::vector<StepWorker> workers;
  for (size_t i = 0; i < n; ++i) {
    workers.push_back({.step_s = 0.3 * std::exp(Normal(rng)),
                       .fixed_s = 5 * std::exp(0.5 * Normal(rng)),
                       .tokens_per_step = 4096});
  }
  const StepLimits limits{.max_steps = 500, .overhead_s = 1, .max_deadline_s = 60};
  StepPlan plan;
  const double s = BestCpuSeconds(3, [&] { plan = PlanSteps(workers, limits, 5e-4); });
  Result r = Goal("p1_of_relaxation", plan.ratio(), "x", Relation::kAtLeast, 0.99);
  r.note = absl::StrCat(n, " workers");
  results.push_back(std::move(r));
  results.push_back(Make("p1_time", s * 1e3, "ms"));
  results.push_back(
      Make("p1_against_equal_steps", plan.tokens_per_s / UniformRate(workers, 60, 1), "x"));
}

void BenchShares(size_t n, double most_ms, std::vector<Result>& results) {
  Rng rng(n);
  std::vector<SharePeer> peers;
  for (size_t i = 0; i < n; ++i) {
    const double up = 1.25e6 * Spread(rng, 20);
    peers.push_back({.up_bytes_per_s = up, .down_bytes_per_s = up * Spread(rng, 10)});
  }
  const SharePayload payload{1e8, 2e8};
  SharePlan plan;
  const double s = BestCpuSeconds(3, [&] { plan = PlanShares(peers, payload); });
  const std::string suffix = absl::StrCat("_", n);
  results.push_back(Goal("p2_time" + suffix, s * 1e3, "ms", Relation::kAtMost, most_ms));
  const std::vector<double> equal(n, 1 / static_cast<double>(n));
  results.push_back(
      Make("p2_equal_shares" + suffix, SharesSeconds(peers, payload, equal) / plan.seconds, "x"));
}

void BenchFragments(const std::vector<size_t>& sizes, std::vector<Result>& results) {
  for (const size_t n : sizes) {
    Rng rng(n);
    std::vector<FragmentWorker> workers;
    for (size_t i = 0; i < n; ++i) {
      workers.push_back(
          {.bytes_per_s = 1e7 * std::exp(1.2 * Normal(rng)), .weight = Spread(rng, 8)});
    }
    const FragmentLimits limits{.fragments = 16, .payload_bytes = 1e8, .coverage = 0.95};
    FragmentPlan plan;
    const double s = BestCpuSeconds(1, [&] { plan = PlanFragments(workers, limits); });
    const std::string suffix = absl::StrCat("_", n);
    results.push_back(Goal("p3_of_bound" + suffix, plan.ratio(), "x", Relation::kAtMost, 1.05));
    results.push_back(Make("p3_exchange_shorter" + suffix,
                           WholePayloadSeconds(workers, 1e8) / plan.deadline_s, "x"));
    results.push_back(Make("p3_time" + suffix, s * 1e3, "ms"));
  }
}

std::vector<ArrivalTimes> Trace(Rng& rng, size_t rounds, size_t workers, uint64_t late_percent) {
  std::vector<ArrivalTimes> trace(rounds);
  for (ArrivalTimes& round : trace) {
    for (size_t i = 0; i < workers; ++i) {
      double t = 60 * std::exp(0.05 * Normal(rng));
      if (rng.Chance(late_percent, 100)) t *= Spread(rng, 8);
      round.push_back(rng.Chance(late_percent / 5, 100) ? std::numeric_limits<double>::infinity()
                                                        : t);
    }
  }
  return trace;
}

// Learnt on one trace, judged on another.
void BenchQuorum(size_t rounds, std::vector<Result>& results) {
  Rng rng(3);
  double worst = 1, sum = 0;
  int cases = 0;
  for (const size_t workers : {4, 16, 100}) {
    for (const uint64_t late : {0, 5, 20, 50}) {
      const QuorumCosts costs{static_cast<double>(workers), 60, 0.5};
      const QuorumPlan plan = PlanQuorum(Trace(rng, rounds, workers, late), costs);
      const double ratio = JudgeQuorum(Trace(rng, rounds, workers, late), costs, plan.rule).ratio();
      worst = std::max(worst, ratio);
      sum += ratio;
      ++cases;
    }
  }
  results.push_back(Goal("p4_of_clairvoyant_mean", sum / cases, "x", Relation::kAtMost, 1.25));
  results.push_back(Goal("p4_of_clairvoyant_worst", worst, "x", Relation::kAtMost, 2));
}

void BenchFleet(size_t n, std::vector<Result>& results) {
  const FleetRun run = RunOf();
  std::vector<FleetWorker> workers = Fleet(n, 5);
  FleetPlan plan;
  const double s = BestCpuSeconds(2, [&] { plan = PlanFleet(workers, run); });
  const std::string suffix = absl::StrCat("_", n);
  results.push_back(Goal("full_plan" + suffix, s * 1e3, "ms", Relation::kAtMost, 1000));
  results.push_back(
      Goal("fleet_of_solo_speeds" + suffix, plan.utilisation(), "x", Relation::kAtLeast, 0.85));
  results.push_back(Make("fleet_against_equal_steps" + suffix,
                         plan.tokens_per_s / plan.uniform_tokens_per_s, "x"));
  Rng rng(6);
  double worst = 0;
  int anew = 0;
  constexpr int kChanges = 20;
  const std::vector<FleetWorker> reserve = Fleet(kChanges, 7);
  for (int i = 0; i < kChanges; ++i) {
    std::optional<size_t> left;
    if (i % 2 == 0) {
      left = rng.Below(workers.size());
      workers.erase(workers.begin() + static_cast<int64_t>(*left));
    } else {
      workers.push_back(reserve[i]);
    }
    const double start = ThreadCpuSeconds();
    anew += Replan(workers, run, left, plan);
    worst = std::max(worst, ThreadCpuSeconds() - start);
  }
  Result r = Goal("repair_worst" + suffix, worst * 1e3, "ms", Relation::kAtMost, 10);
  r.note = absl::StrCat(kChanges, " joins and leaves, ", anew, " planned anew");
  results.push_back(std::move(r));
}

std::vector<Result> RunPlans(const Bench& bench) {
  std::vector<Result> results;
  const bool quick = bench.quick;
  BenchSteps(quick ? 500 : 10'000, results);
  BenchShares(quick ? 500 : 10'000, 5, results);
  if (!quick) BenchShares(1'000'000, 500, results);
  BenchFragments(quick ? std::vector<size_t>{100} : std::vector<size_t>{100, 1000, 10'000},
                 results);
  BenchQuorum(quick ? 20 : 200, results);
  BenchFleet(quick ? 500 : 10'000, results);
  return results;
}

}  // namespace

void AddPlan(CLI::App& app, Bench& bench) {
  auto* suite = AddSuite(app, bench, "plan", "planning: distance from the bounds, and time");
  suite->callback([&bench] { bench.run = [&bench] { return RunPlans(bench); }; });
}

}  // namespace longhaul
