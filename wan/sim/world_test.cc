#include "wan/sim/goodput.h"

#include <gtest/gtest.h>

namespace longhaul::sim {
namespace {

WorldResult RunSeed(uint64_t seed, uint64_t off = 0) {
  return World({.seed = seed, .faults_off = off}).Run();
}

std::string Text(const WorldResult& r) {
  std::string text;
  for (const Violation& v : r.violations)
    text += TimeText(v.when) + " " + v.checker + ": " + v.what + "\n";
  return text;
}

TEST(World, WithoutFaultsRoundsAreCommitted) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    const WorldResult r = RunSeed(seed, ~uint64_t{0});
    EXPECT_EQ(Text(r), "");
    EXPECT_GT(r.commits, 3u) << "seed " << seed;
  }
}

TEST(World, NoSeedViolatesAnything) {
  uint64_t faults = 0;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    const WorldResult r = RunSeed(seed);
    EXPECT_EQ(Text(r), "") << "seed " << seed;
    for (uint64_t n : r.faults) faults += n;
  }
  EXPECT_GT(faults, 2000u);
}

TEST(World, TheSameSeedHasTheSameHistory) {
  EXPECT_EQ(RunSeed(3).trace_hash, RunSeed(3).trace_hash);
  EXPECT_NE(RunSeed(3).trace_hash, RunSeed(4).trace_hash);
}

TEST(World, WorkersThatFailCostLittle) {
  const Goodput g = MeasureGoodput({.rounds = 30});
  EXPECT_EQ(Text(g.healthy) + Text(g.failing), "");
  EXPECT_GT(g.kills, 5u);
  EXPECT_GE(g.ratio(), 0.9);
  EXPECT_LT(g.ratio(), 1.0);
}

TEST(World, OtherPoliciesLoseAndRepeatWhatThisOneDoesNot) {
  PolicyShares shares;
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    const WorldResult r = RunSeed(seed);
    EXPECT_EQ(r.lost + r.twice, 0u);
    shares.Add(r.policies);
  }
  EXPECT_GT(shares.handed_out, 1000u);
  EXPECT_GT(shares.lost, 0u);
  EXPECT_GT(shares.twice, 0u);
  // Without faults nothing comes late, and nobody is gone.
  const PolicyShares healthy = RunSeed(1, ~uint64_t{0}).policies;
  EXPECT_GT(healthy.handed_out, 0u);
  EXPECT_EQ(healthy.twice, 0u);
}

}  // namespace
}  // namespace longhaul::sim
