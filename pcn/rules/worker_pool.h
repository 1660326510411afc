// A few threads that run one function together, again and again.
//
// Thread rule: one thread owns it and calls Run; it takes part as thread 0.
#pragma once

#include <barrier>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace longhaul::pcn {

class WorkerPool {
 public:
  // At least 1 thread, the caller among them. `prepare` runs once on every other thread.
  WorkerPool(uint32_t threads, const std::function<void()>& prepare);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  uint32_t threads() const { return threads_; }
  // work(0) .. work(threads - 1), each on its own thread; returns when all have. An exception in
  // work(0) passes through once the others are done; elsewhere it ends the process.
  void Run(const std::function<void(uint32_t)>& work);

 private:
  const uint32_t threads_;
  std::barrier<> start_, done_;
  const std::function<void(uint32_t)>* work_ = nullptr;  // null: leave
  std::vector<std::thread> others_;
};

}  // namespace longhaul::pcn
