// Streams over the emulated network in virtual time, for tier sim. Packets are moved by the same
// arithmetic as in tier tun (Network); what TCP does on top is a model: a window of 1.25
// bandwidth-delay products that opens by slow start, delivery in order, and one more round trip for
// a piece of which a segment was lost. Machines of kernel "stock" start slowly again after a pause,
// keep at most 4 MiB under way, and on a path that loses at most 1.22 segments / sqrt(loss)
// (Mathis et al., 1997). Control and bulk have a stream each, as they have connections.
//
// One thread; the event queue must outlive it. Deterministic: draws come from the scenario's seed.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <tuple>

#include "common/rng.h"
#include "wan/scenario.h"
#include "wan/schedule.h"
#include "wan/sim/event_queue.h"

namespace longhaul::wan {

class SimNetwork {
 public:
  SimNetwork(sim::EventQueue& queue, const Scenario& scenario);

  // `arrived` is called when the last byte is there, after everything sent before it.
  void Send(uint32_t from, uint32_t to, bool bulk, uint64_t bytes, std::function<void()> arrived);
  // What was on its way between this node and others is lost, as with a process that is killed.
  void Forget(uint32_t node);
  void Apply(const Schedule::Step& step);
  const std::vector<Link>& links() const { return network_.links(); }

 private:
  struct Message {
    uint64_t left = 0;  // bytes not sent yet
    std::function<void()> arrived;
  };
  struct Stream {
    uint32_t from = 0;
    uint32_t to = 0;
    std::deque<Message> waiting;
    uint64_t under_way = 0;
    double loss = 0;  // of the whole way
    double window = 0;
    Duration last_sent{0};
    Timestamp in_order;  // nothing is handed over before
  };
  using Key = std::tuple<uint32_t, uint32_t, bool>;
  struct Piece {
    std::shared_ptr<Stream> stream;
    uint64_t bytes = 0;
    uint32_t segments = 0;
    std::function<void()> arrived;  // with the last piece of a message
  };

  Duration Now() const { return queue_.now().since_epoch; }
  Duration RoundTrip(const Stream& s) const;
  double MostWindow(const Stream& s) const;
  double LossOf(uint32_t from, uint32_t to) const;
  bool Down(const Stream& s) const;
  void Pump(const std::shared_ptr<Stream>& stream);
  void SendPiece(const std::shared_ptr<Stream>& stream);
  void Arm();
  void DeliverDue();
  void Arrive(Piece piece);
  void Acknowledge(const std::shared_ptr<Stream>& stream, uint64_t bytes);

  sim::EventQueue& queue_;
  const Scenario& scenario_;
  Network network_;
  Rng rng_;
  std::map<Key, std::shared_ptr<Stream>> streams_;
  std::map<uint64_t, Piece> pieces_;  // in the network, by the number in their parcel
  uint64_t next_piece_ = 0;
  std::optional<Duration> armed_;
};

}  // namespace longhaul::wan
