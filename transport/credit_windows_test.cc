#include "transport/credit_windows.h"

#include <gtest/gtest.h>

#include <vector>

namespace longhaul {
namespace {

constexpr uint64_t kLeast = 4'000'000;
constexpr uint64_t kShared = 100'000'000;

WorkerKey Key(uint8_t n) {
  WorkerKey key;
  key.bytes[0] = n;
  return key;
}

LinkRow Trip(uint32_t ms) {
  LinkRow row;
  row.rtt_us = row.min_rtt_us = ms * 1000;
  return row;
}

// A sender that always has what it may send under way, or its path does.
class Flow {
 public:
  Flow(uint8_t n, uint64_t rate_bytes_per_s, uint32_t trip_ms)
      : key_(Key(n)), rate_(rate_bytes_per_s), trip_ms_(trip_ms) {}

  void Run(CreditWindows& credit, int trips, uint64_t taken_by_others = 0) {
    constexpr int kParts = 20;  // of a round trip
    for (int i = 0; i < trips * kParts; ++i) {
      now_ = now_ + Milliseconds(trip_ms_) / kParts;
      credit.OnLink(key_, now_, Trip(trip_ms_));
      const uint64_t path = rate_ * trip_ms_ / 1000;
      credit.OnConsumed(key_, now_, std::min(path, window_) / kParts);
      const uint64_t own = std::max(window_, kLeast) - kLeast;
      window_ = credit.Window(key_, 1, taken_by_others + own, kShared);
    }
  }
  uint64_t window() const { return window_; }
  Timestamp now() const { return now_; }

 private:
  const WorkerKey key_;
  const uint64_t rate_;
  const uint32_t trip_ms_;
  uint64_t window_ = kLeast;
  Timestamp now_;
};

TEST(CreditWindowsTest, AStrangerHasTheLeast) {
  CreditWindows credit(kLeast);
  EXPECT_EQ(credit.Window(Key(1), 1, 0, kShared), kLeast);
  for (int i = 1; i < 100; ++i) credit.OnConsumed(Key(1), {Milliseconds(10 * i)}, 1'000'000);
  EXPECT_EQ(credit.Window(Key(1), 1, 0, kShared), kLeast);  // fast, but how far is not known
}

TEST(CreditWindowsTest, ALongFastPathGetsItsProduct) {
  CreditWindows credit(kLeast);
  Flow flow(1, 125'000'000, 100);  // 12.5 MB
  flow.Run(credit, 40);
  EXPECT_GE(flow.window(), 12'500'000u);
  EXPECT_LE(flow.window(), 4u * 12'750'000u);
}

TEST(CreditWindowsTest, AShortOrSlowPathKeepsTheLeast) {
  CreditWindows credit(kLeast);
  Flow near(1, 250'000'000, 1), slow(2, 2'500'000, 200);
  near.Run(credit, 200);
  slow.Run(credit, 40);
  EXPECT_EQ(near.window(), kLeast);
  EXPECT_EQ(slow.window(), kLeast);
}

TEST(CreditWindowsTest, APauseChangesNothing) {
  CreditWindows credit(kLeast);
  Flow flow(1, 125'000'000, 100);
  flow.Run(credit, 40);
  const uint64_t before = credit.Window(Key(1), 1, 0, kShared);
  Timestamp now = flow.now() + Seconds(60);
  for (int i = 0; i < 60; ++i) {  // three round trips of the path's rate
    credit.OnConsumed(Key(1), now, 625'000);
    now = now + Milliseconds(5);
  }
  EXPECT_GE(credit.Window(Key(1), 1, 0, kShared), 12'500'000u);
  EXPECT_GE(before, 12'500'000u);
}

// Each takes what it may in turn: the sum stays within the limit, and nobody starves.
TEST(CreditWindowsTest, WhatIsSharedHasALimit) {
  CreditWindows credit(kLeast);
  std::vector<Flow> flows;
  for (uint8_t n = 0; n < 12; ++n) flows.emplace_back(n, 1'000'000'000, 100);
  const auto taken = [&](const Flow* but) {
    uint64_t sum = 0;
    for (const Flow& flow : flows) sum += &flow == but ? 0 : flow.window() - kLeast;
    return sum;
  };
  for (int turn = 0; turn < 40; ++turn) {
    for (Flow& flow : flows) {
      flow.Run(credit, 1, taken(&flow));
      EXPECT_LE(taken(nullptr), kShared);
    }
  }
  for (const Flow& flow : flows) EXPECT_GT(flow.window(), kLeast + 2'000'000);
}

TEST(CreditWindowsTest, TransfersOfOneSenderShareItsWindow) {
  CreditWindows credit(kLeast);
  Flow flow(1, 125'000'000, 100);
  flow.Run(credit, 40);
  EXPECT_LT(credit.Window(Key(1), 2, 0, kShared), credit.Window(Key(1), 1, 0, kShared));
  EXPECT_EQ(credit.Window(Key(1), 100, 0, kShared), kLeast);
}

TEST(CreditWindowsTest, EstimatesHaveALimit) {
  CreditWindows credit(kLeast);
  Flow flow(1, 125'000'000, 100);
  flow.Run(credit, 40);
  for (size_t i = 0; i < CreditWindows::kMaxSenders; ++i) {
    WorkerKey key = Key(2);
    key.bytes[1] = static_cast<uint8_t>(i);
    key.bytes[2] = static_cast<uint8_t>(i >> 8);
    credit.OnConsumed(key, flow.now() + Seconds(1), 1);
  }
  EXPECT_EQ(credit.Window(Key(1), 1, 0, kShared), kLeast);  // it gave way
}

}  // namespace
}  // namespace longhaul
