#include "sharding/plan/shares.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "common/rng.h"

namespace longhaul {
namespace {

constexpr double kMbit = 125'000;  // bytes per second
constexpr double kM = 1'000'000;   // bytes

SharePeer Peer(double mbit) { return {mbit * kMbit, mbit * kMbit}; }

std::vector<SharePeer> Peers(const std::vector<double>& mbit) {
  std::vector<SharePeer> out;
  for (const double rate : mbit) out.push_back(Peer(rate));
  return out;
}

// max(M / min c, 2 (n - 1) M / sum c)
double ClosedForm(const std::vector<double>& mbit) {
  const double least = *std::min_element(mbit.begin(), mbit.end());
  const double sum = std::accumulate(mbit.begin(), mbit.end(), 0.0);
  const auto n = static_cast<double>(mbit.size());
  return std::max(kM / (least * kMbit), 2 * (n - 1) * kM / (sum * kMbit));
}

double Sum(const std::vector<double>& v) { return std::accumulate(v.begin(), v.end(), 0.0); }

void ExpectSound(const std::vector<SharePeer>& peers, const SharePayload& payload,
                 const SharePlan& plan) {
  ASSERT_TRUE(plan.possible);
  EXPECT_NEAR(Sum(plan.shares), 1, 1e-9);
  for (size_t i = 0; i < peers.size(); ++i) {
    EXPECT_GE(plan.shares[i], 0);
    EXPECT_LE(plan.shares[i], peers[i].most_share + 1e-12);
  }
  EXPECT_LE(SharesSeconds(peers, payload, plan.shares), plan.seconds * (1 + 1e-9));
}

TEST(SharesTest, EqualPeersReduceEqualSlices) {
  for (size_t n = 1; n <= 64; n *= 2) {
    const auto peers = Peers(std::vector<double>(n, 100));
    const SharePlan plan = PlanShares(peers, {kM, kM});
    ExpectSound(peers, {kM, kM}, plan);
    for (const double share : plan.shares) EXPECT_NEAR(share, 1.0 / static_cast<double>(n), 1e-9);
    if (n > 1) {
      EXPECT_NEAR(plan.seconds / ClosedForm(std::vector<double>(n, 100)), 1, 1e-9);
    }
  }
}

TEST(SharesTest, ClosedFormOfUnequalLinks) {
  const std::vector<std::vector<double>> fleets = {
      {300, 250, 200, 150},    // everybody finishes together
      {1000, 1000, 1000, 20},  // the slowest is a pure client
      {1000, 1000, 1000, 20, 20},
      {5, 10, 20, 40, 80, 160}};
  for (const std::vector<double>& mbit : fleets) {
    const auto peers = Peers(mbit);
    const SharePlan plan = PlanShares(peers, {kM, kM});
    ExpectSound(peers, {kM, kM}, plan);
    EXPECT_NEAR(plan.seconds / ClosedForm(mbit), 1, 1e-9);
    // In proportion to T c / M - 1, which is no more than everything.
    std::vector<double> ends;
    for (const double rate : mbit) {
      const double end =
          (plan.seconds * rate * kMbit / kM - 1) / static_cast<double>(mbit.size() - 2);
      ends.push_back(std::min(1.0, end));
    }
    for (size_t i = 0; i < mbit.size(); ++i) {
      EXPECT_NEAR(plan.shares[i], ends[i] / Sum(ends), 1e-6);
    }
  }
}

// Jiang et al., OSDI 2020: n GPU machines and k CPU machines of equal rate.
TEST(SharesTest, HelpersWithoutDataTakeThePublishedShares) {
  for (int n : {4, 8, 16}) {
    for (int k = 0; k <= n; ++k) {
      auto peers = Peers(std::vector<double>(static_cast<size_t>(n + k), 100));
      for (int i = n; i < n + k; ++i) {
        peers[static_cast<size_t>(i)].contributes = peers[static_cast<size_t>(i)].receives = false;
      }
      const SharePlan plan = PlanShares(peers, {kM, kM});
      ExpectSound(peers, {kM, kM}, plan);
      const double whole = n * n + k * n - 2 * k;
      EXPECT_NEAR(plan.seconds, 2 * n * (n - 1) * kM / (whole * 100 * kMbit), 1e-9);
      EXPECT_NEAR(plan.shares[0], (n - k) / whole, 1e-6);
      if (k > 0) {
        EXPECT_NEAR(plan.shares.back(), 2 * (n - 1) / whole, 1e-6);
      }
    }
  }
}

// Only the hub reduces: a star. Its link carries everything.
TEST(SharesTest, StarIsAPlanToo) {
  auto peers = Peers({1000, 100, 100, 100, 100});
  peers[0].contributes = false;
  for (size_t i = 1; i < peers.size(); ++i) peers[i].most_share = 0;
  const SharePlan plan = PlanShares(peers, {kM, kM});
  ExpectSound(peers, {kM, kM}, plan);
  EXPECT_EQ(plan.shares[0], 1);
  EXPECT_NEAR(plan.seconds, kM / (100 * kMbit), 1e-12);
  peers[0].up_bytes_per_s = 200 * kMbit;  // four aggregates through a thin uplink
  EXPECT_NEAR(PlanShares(peers, {kM, kM}).seconds, 4 * kM / (200 * kMbit), 1e-12);
}

// No other shares are faster: any small exchange between two peers costs time, or saves none.
TEST(SharesTest, NobodyGainsByMovingShares) {
  Rng rng(5);
  for (int trial = 0; trial < 300; ++trial) {
    std::vector<SharePeer> peers(2 + rng.Below(8));
    for (SharePeer& p : peers) {
      p.up_bytes_per_s = kMbit * static_cast<double>(1 + rng.Below(1000));
      p.down_bytes_per_s = kMbit * static_cast<double>(1 + rng.Below(1000));
      p.contributes = !rng.Chance(1, 4);
      p.receives = !rng.Chance(1, 4);
      p.most_share = rng.Chance(1, 4) ? 0.3 : 1;
    }
    peers[0].contributes = peers[0].receives = true;
    peers[0].most_share = 1;
    const SharePayload payload{kM * static_cast<double>(1 + rng.Below(8)), 4 * kM};
    const SharePlan plan = PlanShares(peers, payload);
    ExpectSound(peers, payload, plan);
    for (int move = 0; move < 200; ++move) {
      std::vector<double> other = plan.shares;
      double& from = other[rng.Below(other.size())];
      double& to = other[rng.Below(other.size())];
      const double part = from * static_cast<double>(1 + rng.Below(100)) / 100;
      from -= part;
      to += part;
      const size_t at = static_cast<size_t>(&to - other.data());
      if (to > peers[at].most_share) continue;
      EXPECT_GE(SharesSeconds(peers, payload, other), plan.seconds * (1 - 1e-9));
    }
  }
}

TEST(SharesTest, NobodyMayReduceIsNotPossible) {
  auto peers = Peers({100, 100});
  for (SharePeer& p : peers) p.most_share = 0.4;
  EXPECT_FALSE(PlanShares(peers, {kM, kM}).possible);
  EXPECT_FALSE(PlanShares({}, {kM, kM}).possible);
  for (SharePeer& p : peers) p.most_share = 0.5;
  EXPECT_TRUE(PlanShares(peers, {kM, kM}).possible);
}

TEST(SharesDeathTest, LinksHaveRates) {
  EXPECT_DEATH(PlanShares(Peers({100, 0}), {kM, kM}), "no rate");
  EXPECT_DEATH(PlanShares(Peers({100}), {0, kM}), "nothing to reduce");
}

TEST(SharesTest, ChunksAreWhole) {
  EXPECT_EQ(ChunksOfShares({0.5, 0.25, 0.25}, 8), (std::vector<uint32_t>{4, 2, 2}));
  EXPECT_EQ(ChunksOfShares({1.0 / 3, 1.0 / 3, 1.0 / 3}, 8), (std::vector<uint32_t>{3, 3, 2}));
  EXPECT_EQ(ChunksOfShares({0.9, 0, 0.1}, 3), (std::vector<uint32_t>{3, 0, 0}));
  EXPECT_EQ(ChunksOfShares({0, 1, 0}, 5), (std::vector<uint32_t>{0, 5, 0}));
  Rng rng(3);
  for (int trial = 0; trial < 200; ++trial) {
    std::vector<double> shares(1 + rng.Below(30));
    for (double& share : shares) share = static_cast<double>(rng.Below(100));
    shares[0] += 1;
    const double sum = Sum(shares);
    for (double& share : shares) share /= sum;
    const auto chunks = static_cast<uint32_t>(rng.Below(500));
    const std::vector<uint32_t> out = ChunksOfShares(shares, chunks);
    EXPECT_EQ(std::accumulate(out.begin(), out.end(), 0u), chunks);
    for (size_t i = 0; i < out.size(); ++i) {
      EXPECT_LE(std::abs(out[i] - shares[i] * chunks), 1 + 1e-9);
    }
  }
}

}  // namespace
}  // namespace longhaul
