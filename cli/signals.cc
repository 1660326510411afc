#include "cli/signals.h"

#include <csignal>

namespace longhaul {
namespace {

std::atomic<bool> stop_flag{false};  // written by a signal handler: it cannot be anywhere else

void OnSignal(int signal) {
  if (stop_flag.exchange(true)) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
}

}  // namespace

const std::atomic<bool>& StopFlag() {
  std::signal(SIGINT, OnSignal);
  std::signal(SIGTERM, OnSignal);
  std::signal(SIGPIPE, SIG_IGN);
  return stop_flag;
}

}  // namespace longhaul
