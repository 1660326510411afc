// A thread that owns this worker's SliceHost: decoding and adding up must not hold up the loop.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "common/bounded_queue.h"
#include "reducer/slice_host.h"
#include "transport/frame.h"

namespace longhaul {

inline constexpr size_t kMaxReducingCommands = 16384;

class ReducingThread {
 public:
  struct Options {
    SliceHost::Options host;  // its send_chunk is called on this thread; `send` is set here
    // On this thread.
    std::function<void(const WorkerKey& to, const Message&)> send;
    std::function<void(std::vector<SliceReport>)> report;  // what changed
  };

  explicit ReducingThread(Options options);
  ~ReducingThread();

  // Any thread. What does not fit the queue is dropped: orders are repeated, transfers repair
  // themselves.
  void SetOrders(const Generation& generation, std::vector<SliceOrder> orders,
                 std::map<SessionId, WorkerKey> keys);
  void Chunk(const WorkerKey& from, std::vector<Frame>&& frames);
  void Serve(const WorkerKey& from, const Fetch& fetch);
  void Connected(const WorkerKey& peer);
  void Room();
  void Tick(Timestamp now);

 private:
  // What it returns goes to Check.
  void Post(std::function<absl::Status()> command);
  void Run();

  const std::function<void(std::vector<SliceReport>)> report_;
  SliceHost host_;
  BoundedQueue<std::function<absl::Status()>> commands_{kMaxReducingCommands};
  std::thread thread_;
};

}  // namespace longhaul
