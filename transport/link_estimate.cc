#include "transport/link_estimate.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace longhaul {

namespace {

constexpr Duration kMemory = Seconds(10);
constexpr Duration kFirstRoundTrip = Milliseconds(100);  // until one is known
constexpr Duration kLeastInterval = Milliseconds(5);
constexpr uint64_t kProbeEvery = 8;  // intervals
constexpr double kGain = 1.25;
constexpr double kProbe = 1.5;
constexpr double kProbeQueue = 2;
constexpr double kQueueing = 1.25;    // smoothed over least round trip
constexpr double kMuchLoss = 0.0005;  // share from which grants are raised
constexpr double kLossGain = 3;
constexpr double kStillGrowing = 1.15;
constexpr int kStopDoublingAfter = 3;  // intervals without growth
constexpr int kStallRoundTrips = 4;
constexpr Duration kLeastStall = Milliseconds(300);
constexpr double kStripeMargin = 1.3;
constexpr double kLimited = 0.25;  // of the time: buffers are what holds the sender back

}  // namespace

LinkEstimate::LinkEstimate(const LinkEstimateOptions& options)
    : options_(options), window_bytes_(options.least_window_bytes) {}

uint64_t LinkEstimate::rate_bytes_per_s() const {
  return rates_.empty() ? 0 : static_cast<uint64_t>(rates_.front().value);
}

Duration LinkEstimate::round_trip() const {
  return round_trips_.empty() ? Duration(0) : Duration(round_trips_.front().value);
}

Duration LinkEstimate::StallTime() const {
  const Duration trip = std::max({round_trip(), smoothed_, Milliseconds(1)});
  return std::max(kLeastStall, trip * kStallRoundTrips);
}

void LinkEstimate::OnRoundTrip(Duration now, Duration smoothed, Duration least_ever) {
  if (smoothed <= Duration(0)) return;
  smoothed_ = smoothed;
  const int64_t value = (least_ever > Duration(0) ? least_ever : smoothed).count();
  while (!round_trips_.empty() && round_trips_.back().value >= value) round_trips_.pop_back();
  round_trips_.push_back({now, value});
  while (round_trips_.front().at < now - kMemory) round_trips_.pop_front();
}

void LinkEstimate::OnConsumed(Duration now, uint64_t bytes) {
  if (!started_) {  // when these were sent is not known: the first interval begins here
    started_ = true;
    interval_begin_ = now;
    return;
  }
  interval_bytes_ += bytes;
  const Duration trip = round_trips_.empty() ? kFirstRoundTrip : round_trip();
  if (now - interval_begin_ >= std::max(kLeastInterval, trip)) EndInterval(now);
}

void LinkEstimate::EndInterval(Duration now) {
  const Duration length = now - interval_begin_;
  const double seconds = std::chrono::duration<double>(length).count();
  const uint64_t bytes = std::exchange(interval_bytes_, 0);
  const auto measured = static_cast<int64_t>(static_cast<double>(bytes) / seconds);
  // What comes at once after a stall of this machine is not the path's rate.
  const int64_t rate = last_rate_ > 0 ? std::min(measured, 2 * last_rate_) : measured;
  interval_begin_ = now;
  ++intervals_;
  // A pause is no measurement: nobody sent.
  if (length > 2 * std::max(round_trip(), kFirstRoundTrip)) return;
  last_rate_ = measured;
  const double best = kStillGrowing * static_cast<double>(rate_bytes_per_s());
  while (!rates_.empty() && rates_.back().value <= rate) rates_.pop_back();
  rates_.push_back({now, rate});
  while (rates_.front().at < now - kMemory) rates_.pop_front();
  if (static_cast<double>(rate) > best) {
    without_growth_ = 0;
    return SetWindow(2 * static_cast<double>(window_bytes_));
  }
  if (without_growth_ < kStopDoublingAfter) ++without_growth_;
  if (without_growth_ == kStopDoublingAfter) Decide();
}

void LinkEstimate::Decide() {
  const Duration trip = round_trip() + options_.decode_time;
  const double product =
      static_cast<double>(rate_bytes_per_s()) * std::chrono::duration<double>(trip).count();
  const bool queueing = static_cast<double>(smoothed_.count()) >
                        kQueueing * static_cast<double>(round_trip().count());
  double gain = kGain;
  if (queueing) gain = 1.0;
  if (intervals_ % kProbeEvery == 0) gain *= queueing ? kProbeQueue : kProbe;
  if (loss_ > kMuchLoss) gain *= kLossGain;
  SetWindow(gain * product);
}

void LinkEstimate::SetWindow(double bytes) {
  window_bytes_ =
      static_cast<uint64_t>(std::clamp(bytes, static_cast<double>(options_.least_window_bytes),
                                       static_cast<double>(options_.most_window_bytes)));
}

std::vector<uint64_t> ShareCredit(uint64_t window_bytes, const std::vector<uint64_t>& owed_bytes,
                                  uint64_t least_bytes) {
  double all = 0;
  for (uint64_t owed : owed_bytes) all += static_cast<double>(owed);
  std::vector<uint64_t> out;
  for (uint64_t owed : owed_bytes) {
    const double share = all > 0 ? static_cast<double>(owed) / all : 0;
    const auto bytes = static_cast<uint64_t>(share * static_cast<double>(window_bytes));
    out.push_back(owed == 0 ? 0 : std::max(bytes, least_bytes));
  }
  return out;
}

uint32_t StripesFor(uint64_t bytes_per_s, Duration round_trip, uint64_t connection_window_bytes) {
  if (connection_window_bytes == 0) return 1;
  const double product = kStripeMargin * static_cast<double>(bytes_per_s) *
                         std::chrono::duration<double>(round_trip).count();
  const double wanted = std::ceil(product / static_cast<double>(connection_window_bytes));
  return static_cast<uint32_t>(std::clamp(wanted, 1.0, double{kMaxStripes}));
}

uint32_t NextStripes(const StripeSample& sample) {
  const bool held_back = sample.window_limited > kLimited || !sample.bbr;
  if (!sample.backlog || !held_back) return sample.stripes;
  return std::min(kMaxStripes, 2 * std::max(1u, sample.stripes));
}

}  // namespace longhaul
