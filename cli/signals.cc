#include "cli/signals.h"

#include <csignal>

namespace longhaul {
namespace {

// Written by a signal handler: they cannot be anywhere else.
std::atomic<int> stop_count{0};
std::atomic<int> stop_limit{1};

void OnSignal(int signal) {
  if (stop_count.fetch_add(1) >= stop_limit) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
}

}  // namespace

const std::atomic<int>& StopCount(int requests) {
  stop_limit = requests;
  std::signal(SIGINT, OnSignal);
  std::signal(SIGTERM, OnSignal);
  std::signal(SIGPIPE, SIG_IGN);
  return stop_count;
}

}  // namespace longhaul
