// The cores of a whole fleet in one thread and virtual time: one coordinator, many workers with
// closed-form trainers, a reducer that answers at once, no network between them. What it measures
// is the cores themselves, and what they would have sent.
//
// A step takes a second, more or less by a tenth, drawn once per worker; a heartbeat comes every
// second, as in production. Objects are one chunk, and cost one Fetch each.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <queue>
#include <string>
#include <vector>

#include "coordinator/core/coordinator.h"
#include "worker/core/worker.h"

namespace longhaul {

struct CoreFleetOptions {
  uint32_t workers = 0;
  uint32_t rounds = 0;
  uint32_t fragments = 1;
  uint32_t inner_steps = 4;
  bool count_bytes = false;  // encodes every message
  // May be empty: what the coordinator's core was told.
  std::function<void(const Event&)> on_event;
  // May be empty: the records of each step, before what follows from them.
  std::function<void(const State&, const std::vector<Record>&)> on_records;
};

struct CoreFleetCounts {
  uint64_t events = 0;  // steps of the coordinator's core
  uint64_t assignments = 0;
  uint64_t worker_events = 0;
  // From the opening of the first round on, both directions. A heartbeat's answer counts as
  // heartbeat.
  uint64_t messages = 0;
  uint64_t message_bytes = 0;
  uint64_t heartbeats = 0;
  uint64_t heartbeat_bytes = 0;
};

class CoreFleet {
 public:
  explicit CoreFleet(const CoreFleetOptions& options);
  // What its coordinator begins with.
  static State FirstState(const CoreFleetOptions& options);

  // Until every fragment is at this version; false when the fleet comes to a stand before.
  bool RunUntil(Version version);

  const Coordinator& coordinator() const { return *core_; }
  const RunConfig& config() const { return config_; }
  const CoreFleetCounts& counts() const { return counts_; }
  Timestamp now() const { return now_; }
  // Of a worker, as it says hello again.
  HelloEvent HelloOf(uint32_t worker) const;

 private:
  struct Site {
    WorkerKey key;
    std::unique_ptr<Worker> core;
    Duration step_time{0};
    std::vector<FragmentState> stated;
  };
  struct Timer {
    Timestamp at;
    uint32_t site = 0;
    bool heartbeat = false;
    auto operator<=>(const Timer&) const = default;
  };

  void Feed(EventBody body);
  void Do(const Request& request);
  void FeedSite(uint32_t site, const WorkerEvent& event);
  void Answer(uint32_t site, const WorkerRequest& request);
  void Receive(uint32_t site, const Message& message);
  void Fire(const Timer& timer);
  void Deliver();
  void Heartbeat(uint32_t site);
  void SendAssignment(SessionId session, bool answer);
  void SendTo(uint32_t site, Message message);
  void Count(const std::function<Message()>& message, bool heartbeat);

  const CoreFleetOptions options_;
  RunConfig config_;
  std::unique_ptr<Coordinator> core_;
  std::vector<Site> sites_;
  std::vector<uint32_t> site_of_;  // by session
  std::deque<std::function<void()>> queue_;
  std::priority_queue<Timer, std::vector<Timer>, std::greater<>> timers_;
  Timestamp now_;
  uint64_t sequence_ = 0;
  CoreFleetCounts counts_;
};

}  // namespace longhaul
