// How much a receiver should let come, and over how many connections: from what it measures, so
// that nobody has to configure a link. Pure: the caller brings the clock. Owned by one thread.
//
// Rate: the most bytes per round trip of the last ten seconds (a max filter, as BBR's: Cardwell et
// al., ACM Queue 14(5), 2016). Round trip: the least of the last ten seconds. Credit:
// gain × rate × (round trip + decoding), with a gain of 1.25; 1.0 while round trips are a quarter
// longer than the least, so that a queue drains; tripled on a path that loses, where
// retransmissions hold credit. For one round trip in eight it is half as much again, to find out
// whether there is more, and twice as much while round trips are long: what makes them long may be
// jitter, and then less credit would mean less rate, and so on down. Whenever the rate grows, at
// the start above all, credit doubles per round trip until it no longer does.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "common/time.h"

namespace longhaul {

struct LinkEstimateOptions {
  uint64_t least_window_bytes = 512 * 1024;
  uint64_t most_window_bytes = 64 * 1024 * 1024;
  Duration decode_time = Milliseconds(2);  // from arrival to consumed
};

class LinkEstimate {
 public:
  explicit LinkEstimate(const LinkEstimateOptions& options = {});

  // Payload bytes that were consumed (decoded), and what the kernel says of the connection now.
  void OnConsumed(Duration now, uint64_t bytes);
  void OnRoundTrip(Duration now, Duration smoothed, Duration least_ever);
  void OnLoss(double share) { loss_ = share; }

  // Total of outstanding grants for the access link.
  uint64_t WindowBytes() const { return window_bytes_; }
  uint64_t rate_bytes_per_s() const;
  Duration round_trip() const;  // the least lately; 0: not known
  // Without a chunk for this long something is lost or stuck: ask for the rest again (on another
  // stripe the first copy wins).
  Duration StallTime() const;

 private:
  struct Sample {
    Duration at{0};
    int64_t value = 0;
  };
  void EndInterval(Duration now);
  void Decide();
  void SetWindow(double bytes);

  const LinkEstimateOptions options_;
  std::deque<Sample> rates_;        // bytes per second, decreasing
  std::deque<Sample> round_trips_;  // nanoseconds, increasing
  Duration smoothed_{0};
  Duration interval_begin_{0};
  bool started_ = false;
  uint64_t interval_bytes_ = 0;
  uint64_t intervals_ = 0;
  int64_t last_rate_ = 0;   // of the interval before
  int without_growth_ = 0;  // intervals since the rate grew; stops counting when that is over
  double loss_ = 0;
  uint64_t window_bytes_;
};

// The share of `window_bytes` that each sender gets: in proportion to what it still owes, and at
// least `least_bytes` each (two chunks), so that senders finish together and none stops.
std::vector<uint64_t> ShareCredit(uint64_t window_bytes, const std::vector<uint64_t>& owed_bytes,
                                  uint64_t least_bytes);

// Connections that fill the path: 1.3 bandwidth-delay products over what one connection may have
// under way. 1 to kMaxStripes.
inline constexpr uint32_t kMaxStripes = 16;
uint32_t StripesFor(uint64_t bytes_per_s, Duration round_trip, uint64_t connection_window_bytes);

// Whether a sender should open more connections now: it has more to send than they take, and either
// buffers hold them back or congestion control is one that losses hold back.
struct StripeSample {
  uint32_t stripes = 1;
  bool backlog = false;       // chunks waited since the last look
  double window_limited = 0;  // share of the time since then
  bool bbr = true;
};
uint32_t NextStripes(const StripeSample& sample);

}  // namespace longhaul
