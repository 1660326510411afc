// How fast the way to a coordinator is, by sending and fetching for a few seconds over the real
// sockets: CURVE, congestion control, both directions one after the other. A probe needs a key that
// may connect; an invitation's will do. It is answered by the server itself, on its socket thread,
// within a budget per key; nobody else sees it.
//
// On the wire: a header frame of 24 bytes, and a payload frame where there is one. The other end
// says how much has come (up) or sends what was asked for (down); both rates are seen from here.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/ids.h"
#include "common/time.h"
#include "transport/client.h"
#include "transport/frame.h"

namespace longhaul {

// ---- the server's half ----

// Payload bytes, both ways, that a key may have moved for nothing. Refills slowly. Not thread-safe.
class ProbeBudget {
 public:
  explicit ProbeBudget(uint64_t most_bytes) : most_bytes_(most_bytes) {}
  bool Take(const WorkerKey& user, uint64_t bytes, Duration now);

 private:
  struct Account {
    double left = 0;
    Duration at{0};
  };
  const uint64_t most_bytes_;
  std::map<WorkerKey, Account> accounts_;  // of keys that could connect
};

// Whether a message is a probe, well-formed or not.
bool IsProbe(const std::vector<Frame>& frames);
// The answer to a probe; empty when it deserves none. `note` is what askers may know, at most
// kMaxFrameBytes.
std::vector<Frame> AnswerProbe(const std::vector<Frame>& probe, const WorkerKey& user,
                               const std::string& note, Duration now, ProbeBudget& budget);

// ---- the asker's half ----

// Bytes as they were heard of. The rate is that of the later part: the start is TCP's slow start.
class RateTimeline {
 public:
  void Begin(Duration now) { begin_ = now; }
  void Add(Duration now, uint64_t bytes);
  uint64_t bytes() const { return bytes_; }
  double bytes_per_s() const;  // 0 before the first bytes

 private:
  struct Point {
    Duration at{0};
    uint64_t bytes = 0;  // of this one
  };
  Duration begin_{0};
  uint64_t bytes_ = 0;
  std::vector<Point> points_;
};

struct LinkProbeOptions {
  ClientOptions client;  // address and keys; its callbacks are not used
  Duration connect_timeout = Seconds(5);
  Duration each_way = Seconds(4);       // longest time of one direction
  uint64_t most_bytes = 96ull << 20;    // of one direction
  Duration first_answer = Seconds(15);  // a thin uplink takes this long for a chunk
};

struct LinkRates {
  double up_bytes_per_s = 0;  // payload
  double down_bytes_per_s = 0;
  double round_trip_ms = 0;  // the least; 0: not known
  std::string congestion_control;
  uint64_t bytes = 0;  // moved for this
  std::string note;    // the server's
};

// Blocks for as long as the limits say. PermissionDenied: refused; DeadlineExceeded: no handshake
// in time; Unavailable: the connection ended, or the other end does not answer probes.
absl::StatusOr<LinkRates> MeasureLink(LinkProbeOptions options);

}  // namespace longhaul
