// The emulated network as arithmetic: hosts with an access link each (up and down), shared
// bottlenecks, a core without limits in the middle. Parcels go in with the time, and come out when
// they are due. Pure: time is an argument, random numbers come from a seed.
//
// Way of a parcel from a to b: up link of a, every bottleneck that has a but not b (outwards),
// every bottleneck that has b but not a (inwards), down link of b. A link sends at its rate, queues
// at most `queue`, drops what does not fit, loses segments, and adds delay. Parcels of many
// segments flow through like the segments would: a link begins to send the first one while the last
// one is still arriving.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/rng.h"
#include "common/time.h"
#include "wan/emulate/packet.h"

namespace longhaul::wan {

struct LinkShape {
  uint64_t bits_per_s = 1'000'000'000;  // of IP packets, headers included
  Duration delay{0};
  Duration jitter{0};                  // wanders between nothing and this, never reorders
  double loss = 0;                     // share of segments
  double burst = 1;                    // mean length of a run of lost segments; 1: independent
  Duration queue = Milliseconds(100);  // waiting time at the link's rate
};

struct LinkCounters {
  uint64_t packets = 0;  // segments that were sent on
  uint64_t bytes = 0;
  uint64_t queue_drops = 0;  // segments
  uint64_t losses = 0;       // segments, by chance or because the link was down
};

// One direction of a link.
class Link {
 public:
  // Links that share `busy_until` share their medium: half-duplex.
  Link(const LinkShape& shape, uint64_t seed, std::shared_ptr<Duration> busy_until = nullptr);

  // The last segment of the parcel arrives now. `fits`: how many segments the queue has room for;
  // `out`: when the last of them is at the other end.
  struct Admission {
    uint32_t fits = 0;
    Duration out{0};
  };
  Admission Admit(Duration now, const Parcel& parcel, bool endless_queue = false);
  // From the first to the last segment of the parcel at this link's rate.
  Duration SpanOf(const Parcel& parcel) const;
  // How long a parcel would wait that arrives now.
  Duration Waiting(Duration now) const;
  // For every segment whether it survives (Gilbert 1960: bursts by a two-state chain).
  void DrawLosses(uint32_t segments, std::vector<bool>* survives);

  void SetRate(uint64_t bits_per_s) { shape_.bits_per_s = bits_per_s; }
  void SetDown(bool down) { down_ = down; }
  bool down() const { return down_; }
  const LinkShape& shape() const { return shape_; }
  LinkCounters& counters() { return counters_; }
  const LinkCounters& counters() const { return counters_; }

 private:
  Duration Serialise(uint64_t bytes) const;
  Duration JitterAt(Duration t) const;

  LinkShape shape_;
  uint64_t seed_;
  Rng rng_;
  std::shared_ptr<Duration> busy_until_;
  Duration last_out_{0};
  bool down_ = false;
  bool losing_ = false;  // in a burst
  LinkCounters counters_;
};

struct HostShape {
  std::string name;
  LinkShape up;
  LinkShape down;
  bool half_duplex = false;
};

// Traffic between its members and everybody else passes it.
struct BottleneckShape {
  std::string name;
  std::vector<uint32_t> members;  // hosts
  LinkShape link;                 // each direction
  bool half_duplex = false;
};

class Network {
 public:
  struct Delivery {
    Parcel parcel;
    Duration due{0};
  };

  enum class Overload { kDrop, kWait };
  // kWait: queues have no end and links that are down let through what has been sent already; the
  // caller looks before it sends.
  Network(const std::vector<HostShape>& hosts, const std::vector<BottleneckShape>& bottlenecks,
          uint64_t seed, Overload overload = Overload::kDrop);

  // `parcel.from` and `.to` must be hosts. Where it is split by losses and drops, the rest goes on.
  void Send(Duration now, Parcel parcel);
  std::optional<Duration> NextDue() const;  // of anything that moves
  // The next parcel that has arrived by `now`, in order of arrival.
  std::optional<Delivery> Receive(Duration now);

  uint32_t hosts() const { return host_count_; }
  uint32_t bottlenecks() const { return static_cast<uint32_t>(members_.size()); }
  Link& up(uint32_t host) { return links_[host]; }
  Link& down(uint32_t host) { return links_[host_count_ + host]; }
  Link& outward(uint32_t bottleneck) { return links_[2 * host_count_ + 2 * bottleneck]; }
  Link& inward(uint32_t bottleneck) { return links_[2 * host_count_ + 2 * bottleneck + 1]; }
  const std::vector<Link>& links() const { return links_; }
  size_t parcels() const { return events_.size(); }
  // Links from a to b, as indices into links().
  const std::vector<uint32_t>& WayOf(uint32_t from, uint32_t to) const {
    return ways_[size_t{from} * host_count_ + to];
  }

 private:
  struct Event {
    Duration due;
    uint64_t order;  // ties: first in, first out
    uint32_t stage;  // index into the way
    std::unique_ptr<Parcel> parcel;
  };
  static bool Later(const Event& a, const Event& b);
  void MakeWays();
  void Pass(Duration now, uint32_t stage, std::unique_ptr<Parcel> parcel);
  void Push(Duration due, uint32_t stage, std::unique_ptr<Parcel> parcel);

  uint32_t host_count_;
  Overload overload_;
  std::vector<std::vector<bool>> members_;   // per bottleneck, by host
  std::vector<Link> links_;                  // up, down, then pairs of outward, inward
  std::vector<std::vector<uint32_t>> ways_;  // links from a to b
  std::vector<Event> events_;                // a heap
  std::vector<bool> survives_;
  uint64_t next_order_ = 0;
};

}  // namespace longhaul::wan
