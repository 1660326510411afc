#include "transport/link_estimate.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace longhaul {
namespace {

// A path with a rate and a delay, and a sender that always uses all credit. Steps of a millisecond.
class Path {
 public:
  Path(uint64_t bytes_per_s, Duration round_trip)
      : bytes_per_s_(bytes_per_s), round_trip_(round_trip) {}

  // The bytes that were consumed meanwhile.
  uint64_t Run(LinkEstimate& estimate, Duration length) {
    uint64_t all = 0;
    for (const Duration end = now_ + length; now_ < end; now_ += Milliseconds(1)) {
      // What a window lets through per round trip, queueing included.
      const uint64_t window = estimate.WindowBytes();
      const double product =
          static_cast<double>(bytes_per_s_) * std::chrono::duration<double>(round_trip_).count();
      const double inflight = static_cast<double>(window / chunk_ * chunk_) / jitter_;
      const double share = std::min(1.0, inflight / product);
      const double queue_s =
          std::max(0.0, static_cast<double>(window) - product) / static_cast<double>(bytes_per_s_);
      const auto bytes = static_cast<uint64_t>(share * static_cast<double>(bytes_per_s_) / 1000);
      worst_queue_s_ = std::max(worst_queue_s_, queue_s);
      estimate.OnConsumed(now_, bytes);
      const double trip_s = std::chrono::duration<double>(round_trip_).count() * jitter_;
      estimate.OnRoundTrip(now_, Duration(static_cast<int64_t>((trip_s + queue_s) * 1e9)),
                           round_trip_);
      all += bytes;
    }
    return all;
  }
  double worst_queue_s() const { return worst_queue_s_; }
  // Only whole chunks fit the window.
  void SetChunk(uint64_t bytes) { chunk_ = bytes; }
  // Round trips are this much longer than the least one, whoever sends how much.
  void SetJitter(double factor) { jitter_ = factor; }
  void SetRate(uint64_t bytes_per_s) { bytes_per_s_ = bytes_per_s, worst_queue_s_ = 0; }
  Duration now() const { return now_; }

 private:
  uint64_t bytes_per_s_;
  const Duration round_trip_;
  Duration now_ = Seconds(1);
  double worst_queue_s_ = 0;
  uint64_t chunk_ = 1;
  double jitter_ = 1;
};

TEST(LinkEstimateTest, FindsTheRateOfPathsOfAllKinds) {
  for (uint64_t bytes_per_s : {1'250'000ull, 12'500'000ull, 125'000'000ull}) {
    for (int64_t trip_ms : {5, 20, 100, 300}) {
      LinkEstimate estimate;
      Path path(bytes_per_s, Milliseconds(trip_ms));
      path.Run(estimate, Milliseconds(15 * trip_ms) + Seconds(1));
      const uint64_t moved = path.Run(estimate, Seconds(5));
      EXPECT_GE(moved, bytes_per_s * 5 * 95 / 100) << bytes_per_s << " B/s, " << trip_ms << " ms";
      EXPECT_NEAR(static_cast<double>(estimate.rate_bytes_per_s()),
                  static_cast<double>(bytes_per_s), 0.05 * static_cast<double>(bytes_per_s));
    }
  }
}

// What makes round trips long is not our queue; backing off would only lose rate.
TEST(LinkEstimateTest, JitterDoesNotStarveThePath) {
  for (double factor : {1.4, 1.9}) {
    LinkEstimate estimate;
    Path path(125'000'000, Milliseconds(100));
    path.SetJitter(factor);
    path.SetChunk(250'000);  // two of them are the least window
    path.Run(estimate, Seconds(60));
    EXPECT_GE(path.Run(estimate, Seconds(10)), 125'000'000u * 10 * 7 / 10) << factor;
  }
}

// The receiver's machine stands still for a moment; then everything that has come is there at once.
TEST(LinkEstimateTest, ABurstAfterAStallIsNotTheRate) {
  LinkEstimate estimate;
  Path path(12'500'000, Milliseconds(100));
  path.Run(estimate, Seconds(5));
  const Duration later = path.now() + Milliseconds(90);
  estimate.OnConsumed(later, 50'000);
  for (int i = 1; i <= 100; ++i) estimate.OnConsumed(later + Milliseconds(i), 25'000);
  EXPECT_LE(estimate.rate_bytes_per_s(), 14'000'000u);
}

// Small messages before the first large one: the start is still a start.
TEST(LinkEstimateTest, IdleTalkDoesNotEndTheStart) {
  LinkEstimate estimate;
  Path path(125'000'000, Milliseconds(100));
  for (int i = 0; i < 100; ++i) {
    estimate.OnRoundTrip(Milliseconds(10 * i), Milliseconds(100), Milliseconds(100));
    estimate.OnConsumed(Milliseconds(10 * i), 1000);
  }
  path.Run(estimate, Milliseconds(1500));
  EXPECT_GE(path.Run(estimate, Seconds(5)), 125'000'000u * 5 * 95 / 100);
}

TEST(LinkEstimateTest, KeepsQueuesShort) {
  LinkEstimate estimate;
  Path path(12'500'000, Milliseconds(100));
  path.Run(estimate, Seconds(5));
  path.SetRate(12'500'000);  // forgets the queue of the start
  path.Run(estimate, Seconds(10));
  EXPECT_LE(path.worst_queue_s(), 0.1);  // a probe's: never a second round trip
}

TEST(LinkEstimateTest, FollowsALinkThatGetsSlower) {
  LinkEstimate estimate;
  Path path(12'500'000, Milliseconds(50));
  path.Run(estimate, Seconds(5));
  path.SetRate(1'250'000);
  path.Run(estimate, Seconds(15));  // the old maximum is forgotten after ten seconds
  EXPECT_NEAR(static_cast<double>(estimate.rate_bytes_per_s()), 1.25e6, 0.1e6);
  EXPECT_LE(estimate.WindowBytes(), 600'000u);
}

TEST(LinkEstimateTest, PausesAreNoMeasurements) {
  LinkEstimate estimate;
  Path path(12'500'000, Milliseconds(50));
  path.Run(estimate, Seconds(3));
  const uint64_t before = estimate.rate_bytes_per_s();
  estimate.OnConsumed(path.now() + Seconds(5), 1000);
  EXPECT_EQ(estimate.rate_bytes_per_s(), before);
}

TEST(LinkEstimateTest, LossDoublesTheGrants) {
  LinkEstimate clean, lossy;
  lossy.OnLoss(0.01);
  Path a(12'500'000, Milliseconds(100)), b(12'500'000, Milliseconds(100));
  a.Run(clean, Seconds(6));
  b.Run(lossy, Seconds(6));
  // The simulated queue makes the lossy one drain to 1.0, doubled.
  EXPECT_GE(lossy.WindowBytes(), clean.WindowBytes() * 3 / 2);
}

TEST(LinkEstimateTest, WindowStaysWithinItsBounds) {
  LinkEstimateOptions options;
  options.least_window_bytes = 100'000;
  options.most_window_bytes = 300'000;
  LinkEstimate estimate(options);
  EXPECT_EQ(estimate.WindowBytes(), 100'000u);
  Path path(125'000'000, Milliseconds(100));
  path.Run(estimate, Seconds(3));
  EXPECT_EQ(estimate.WindowBytes(), 300'000u);
  EXPECT_GE(estimate.StallTime(), Milliseconds(300));
}

TEST(LinkEstimateTest, CreditIsSharedByWhatIsOwed) {
  const std::vector<uint64_t> shares = ShareCredit(1000, {300, 100, 0, 600}, 150);
  EXPECT_EQ(shares, (std::vector<uint64_t>{300, 150, 0, 600}));
  EXPECT_TRUE(ShareCredit(1000, {}, 150).empty());
}

// A gigabit at 100 ms with the 2.6 MB that one connection gets by default: seven.
TEST(LinkEstimateTest, StripesFillTheProduct) {
  EXPECT_EQ(StripesFor(125'000'000, Milliseconds(100), 2'600'000), 7u);
  EXPECT_EQ(StripesFor(125'000'000, Milliseconds(100), 64'000'000), 1u);
  EXPECT_EQ(StripesFor(125'000'000, Seconds(3), 2'600'000), kMaxStripes);
  EXPECT_EQ(StripesFor(0, Milliseconds(100), 2'600'000), 1u);
  EXPECT_EQ(StripesFor(1, Milliseconds(1), 0), 1u);
}

TEST(LinkEstimateTest, StripesGrowOnlyWhereTheyHelp) {
  EXPECT_EQ(NextStripes({1, true, 0.5, true}), 2u);
  EXPECT_EQ(NextStripes({1, false, 0.5, true}), 1u);  // nothing waits
  EXPECT_EQ(NextStripes({4, true, 0.0, true}), 4u);   // the path is the limit
  EXPECT_EQ(NextStripes({4, true, 0.0, false}), 8u);  // CUBIC
  EXPECT_EQ(NextStripes({16, true, 1.0, false}), 16u);
}

}  // namespace
}  // namespace longhaul
