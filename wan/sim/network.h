// Links between the coordinator and the workers' machines. Every packet of a link is drawn on its
// own: lost, repeated, overtaken, damaged (chunks only: the transport's own checks catch damaged
// control). Links have a delay, jitter and a rate, can be cut in one or both directions, and
// clogged: then packets wait until the link is unclogged.
//
// One thread. A link holds at most kMaxPacketsOnLink packets; what does not fit is lost.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "common/ids.h"
#include "common/time.h"
#include "wan/sim/event_queue.h"
#include "wan/sim/faults.h"

namespace longhaul::sim {

inline constexpr size_t kMaxPacketsOnLink = 20'000;

// What a socket delivers: a control message, or the header and the payload of a chunk.
struct Packet {
  std::string control;
  std::string chunk_header;  // not empty: a chunk
  std::string payload;
  // Not zero: between workers, through the coordinator. Up: to whom; down: from whom.
  WorkerKey peer;
  // The connection that it belongs to: a worker process, and a life of the coordinator.
  size_t process = 0;
  uint64_t life = 0;
  bool is_chunk() const { return !chunk_header.empty(); }
  size_t bytes() const { return control.size() + chunk_header.size() + payload.size(); }
};

struct LinkShape {
  Duration delay = Milliseconds(20);
  Duration jitter = Milliseconds(5);
  uint64_t bytes_per_s = 10'000'000;  // each way
};

enum class Direction : uint8_t { kUp = 0, kDown = 1 };  // to, from the coordinator

// One link per worker machine. Receivers are looked up when a packet arrives.
class Network {
 public:
  using Deliver = std::function<void(size_t machine, Direction direction, Packet&& packet)>;

  Network(EventQueue& queue, Faults& faults, Deliver deliver)
      : queue_(queue), faults_(faults), deliver_(std::move(deliver)) {}

  size_t AddLink(const LinkShape& shape);
  void Send(size_t machine, Direction direction, Packet packet);

  // While cut, packets are lost; while clogged, they wait.
  void SetCut(size_t machine, Direction direction, bool cut);
  void SetClogged(size_t machine, bool clogged);
  void SetRate(size_t machine, uint64_t bytes_per_s);
  // Every link works again; what waited goes on.
  void Heal();

  size_t links() const { return links_.size(); }
  uint64_t packets() const { return packets_; }
  size_t most_waiting() const { return most_waiting_; }

 private:
  struct Way {
    bool cut = false;
    Timestamp free_at;  // when the last packet has left
    size_t travelling = 0;
  };
  struct Link {
    LinkShape shape;
    uint64_t rate = 0;
    bool clogged = false;
    Way ways[2];
    std::vector<std::pair<Direction, Packet>> waiting;
  };

  void Travel(size_t machine, Direction direction, Packet packet);
  void Arrive(size_t machine, Direction direction, Packet&& packet);

  EventQueue& queue_;
  Faults& faults_;
  const Deliver deliver_;
  std::vector<Link> links_;
  uint64_t packets_ = 0;
  uint64_t jitter_draws_ = 0;
  size_t most_waiting_ = 0;
};

}  // namespace longhaul::sim
