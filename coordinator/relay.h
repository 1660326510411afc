// Carries what workers send each other when they cannot reach each other: between a reducer and
// anybody else, and nothing else. The socket thread makes all calls but those named.
//
// What does not fit a receiver's queue waits here, up to a limit; beyond it is dropped, and the
// transfer repairs itself.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "common/ids.h"
#include "transport/server.h"

namespace longhaul {

inline constexpr uint64_t kMaxRelayBytes = 64 * 1024 * 1024;  // waiting for one receiver

class Relay {
 public:
  using Send = std::function<bool(const std::string& route, std::vector<Frame>&&)>;
  explicit Relay(Send send) : send_(std::move(send)) {}

  // True: it was for somebody else, and is dealt with.
  bool Take(Inbound& inbound);
  void Room(const std::string& route);

  void SetReducers(std::set<WorkerKey> reducers);  // any thread
  // The bulk connection of a worker; "": none yet. Any thread.
  std::string RouteOf(const WorkerKey& key) const;
  uint64_t bytes() const { return bytes_; }      // relayed; any thread
  uint64_t dropped() const { return dropped_; }  // messages; any thread

 private:
  struct Line {
    std::string route;  // of the worker's bulk connection
    std::deque<std::vector<Frame>> waiting;
    uint64_t waiting_bytes = 0;
  };
  bool Allowed(const WorkerKey& from, const WorkerKey& to) const;
  void Flush(Line& line);

  const Send send_;
  std::map<WorkerKey, Line> lines_;
  mutable std::mutex mutex_;  // of what other threads see
  std::set<WorkerKey> reducers_;
  std::map<WorkerKey, std::string> routes_;
  std::atomic<uint64_t> bytes_{0};
  std::atomic<uint64_t> dropped_{0};
};

}  // namespace longhaul
