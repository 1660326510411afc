#include "sharding/plan/fleet_plan.h"

#include <gtest/gtest.h>

#include <cmath>

#include "common/rng.h"

namespace longhaul {
namespace {

FleetRun MediumRun() {
  FleetRun run;
  run.memory = {.parameters = 30'000'000,
                .matrix_parameters = 28'000'000,
                .hidden_size = 512,
                .intermediate_size = 1376,
                .layers = 9,
                .heads = 8,
                .key_value_size = 512,
                .vocab_size = 256,
                .sequence_length = 512,
                .coded_bytes = 30'000'000};
  run.batch_sequences = 8;
  run.inner_steps = 60;
  run.max_steps = 480;
  run.up_bytes = run.down_bytes = 8e6;
  run.fragments = {.fragments = 16, .coverage = 0.95};
  run.overhead_s = 0.5;
  return run;
}

// Speeds spread by 8, links by 20.
std::vector<FleetWorker> Fleet(size_t n) {
  Rng rng(4);
  std::vector<FleetWorker> workers;
  for (size_t i = 0; i < n; ++i) {
    const auto spread = [&](double most) {
      return std::pow(most, static_cast<double>(rng.Below(1000)) / 999);
    };
    const double link = 1e6 * spread(20);
    workers.push_back({.name = "w" + std::to_string(i),
                       .tokens_per_s = 1000 * spread(8),
                       .up_bytes_per_s = link,
                       .down_bytes_per_s = 4 * link,
                       .delay_s = 0.05,
                       .memory_bytes = 8'000'000'000});
  }
  return workers;
}

TEST(FleetPlanTest, KeepsAHeterogeneousFleetBusy) {
  const FleetPlan plan = PlanFleet(Fleet(60), MediumRun());
  EXPECT_GE(plan.utilisation(), 0.85);
  EXPECT_LE(plan.utilisation(), 1.0);
  EXPECT_GE(plan.steps.ratio(), 0.97);
  EXPECT_GT(plan.tokens_per_s, 2 * plan.uniform_tokens_per_s);
  for (const WorkerPlan& w : plan.workers) {
    EXPECT_LE(w.compute_s + w.up_s + w.down_s, plan.round_s * (1 + 1e-6));
    EXPECT_GE(w.idle_s, 0);
  }
}

TEST(FleetPlanTest, WhatDoesNotFitIsRefused) {
  auto workers = Fleet(4);
  const FleetRun run = MediumRun();
  workers[0].memory_bytes = 500'000'000;  // less than weights, moments and copies alone
  workers[1].memory_bytes = EstimateMemory(run.memory, 2).total();
  workers[2].memory_bytes = EstimateMemory(run.memory, 1).total();
  const FleetPlan plan = PlanFleet(workers, run);
  EXPECT_EQ(plan.workers[0].micro_batch, 0u);
  EXPECT_EQ(plan.workers[0].steps, 0u);
  EXPECT_EQ(plan.workers[0].limit, Limit::kMemory);
  EXPECT_EQ(plan.workers[1].micro_batch, 2u);
  EXPECT_EQ(plan.workers[2].micro_batch, 1u);
  EXPECT_EQ(plan.workers[3].micro_batch, 8u);
}

TEST(FleetPlanTest, MicroBatchesDivideTheBatch) {
  MemoryModel m = MediumRun().memory;
  for (uint64_t batch : {1, 6, 7, 12}) {
    for (uint64_t fits = 1; fits <= batch; ++fits) {
      uint64_t naive = 0;
      for (uint64_t micro = 1; micro <= fits; ++micro) naive = batch % micro == 0 ? micro : naive;
      EXPECT_EQ(LargestMicroBatch(m, batch, EstimateMemory(m, fits).total()), naive);
    }
    EXPECT_EQ(LargestMicroBatch(m, batch, EstimateMemory(m, 1).total() - 1), 0u);
    EXPECT_EQ(LargestMicroBatch(m, batch, 0), batch);
  }
}

TEST(FleetPlanTest, TransfersThatOverlapCostNothing) {
  FleetRun run = MediumRun();
  const double plain = PlanFleet(Fleet(20), run).tokens_per_s;
  run.overlap = true;
  EXPECT_GT(PlanFleet(Fleet(20), run).tokens_per_s, plain);
}

TEST(FleetPlanTest, TheHubsLinkIsShared) {
  FleetRun run = MediumRun();
  const double free = PlanFleet(Fleet(20), run).round_s;
  run.hub_up_bytes_per_s = run.hub_down_bytes_per_s = 2e6;
  const FleetPlan plan = PlanFleet(Fleet(20), run);
  EXPECT_GT(plan.round_s, free);
  EXPECT_NEAR(plan.hub_s, 20 * 16e6 / 2e6, 20 * 16e6 / 2e6 * 0.2);
}

TEST(FleetPlanTest, HistoryGivesQuorumAndGrace) {
  FleetRun run = MediumRun();
  EXPECT_FALSE(PlanFleet(Fleet(4), run).quorum);
  run.history = {{10, 11, 12, 50}, {10, 11, 13, 49}};
  const FleetPlan plan = PlanFleet(Fleet(4), run);
  ASSERT_TRUE(plan.quorum);
  EXPECT_LE(plan.quorum->ratio(), 1.25);
}

TEST(ReplanTest, JoinsAndLeavesKeepThePlanGood) {
  const FleetRun run = MediumRun();
  std::vector<FleetWorker> workers = Fleet(80);
  const std::vector<FleetWorker> reserve = Fleet(120);
  FleetPlan plan = PlanFleet(workers, run);
  Rng rng(9);
  int anew = 0;
  for (int i = 0; i < 100; ++i) {
    std::optional<size_t> left;
    if (rng.Chance(1, 2)) {
      left = rng.Below(workers.size());
      workers.erase(workers.begin() + static_cast<int64_t>(*left));
    } else {
      workers.push_back(reserve[rng.Below(reserve.size())]);
    }
    anew += Replan(workers, run, left, plan);
    ASSERT_EQ(plan.workers.size(), workers.size());
    const double fresh = PlanFleet(workers, run).tokens_per_s;
    EXPECT_GE(plan.tokens_per_s, 0.9 * fresh) << i;
  }
  EXPECT_LT(anew, 30);
}

}  // namespace
}  // namespace longhaul
