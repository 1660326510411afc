#include "pcn/rules/worker_pool.h"

#include <algorithm>
#include <exception>

namespace longhaul::pcn {

WorkerPool::WorkerPool(uint32_t threads, const std::function<void()>& prepare)
    : threads_(std::max(1u, threads)), start_(threads_), done_(threads_) {
  for (uint32_t id = 1; id < threads_; ++id) {
    others_.emplace_back([this, id, prepare] {
      prepare();
      while (true) {
        start_.arrive_and_wait();
        if (work_ == nullptr) return;
        (*work_)(id);
        done_.arrive_and_wait();
      }
    });
  }
}

WorkerPool::~WorkerPool() {
  work_ = nullptr;
  start_.arrive_and_wait();
  for (std::thread& thread : others_) thread.join();
}

void WorkerPool::Run(const std::function<void(uint32_t)>& work) {
  if (threads_ == 1) return work(0);
  work_ = &work;
  start_.arrive_and_wait();
  std::exception_ptr failed;
  try {
    work(0);
  } catch (...) {
    failed = std::current_exception();
  }
  done_.arrive_and_wait();
  if (failed) std::rethrow_exception(failed);
}

}  // namespace longhaul::pcn
