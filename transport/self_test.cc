#include "transport/self_test.h"

#include <zmq.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "transport/zmq_util.h"

namespace longhaul {

namespace {

using Clock = std::chrono::steady_clock;

// Nothing when the deadline has passed.
std::optional<MonitorEvent> WaitForEvent(void* monitor, Clock::time_point deadline) {
  for (;;) {
    if (auto event = NextEvent(monitor)) return event;
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
    if (left.count() <= 0) return std::nullopt;
    zmq_pollitem_t item{monitor, 0, ZMQ_POLLIN, 0};
    zmq_poll(&item, 1, static_cast<long>(left.count()));
  }
}

}  // namespace

absl::Status CheckStrangerIsRefused(const std::string& address, const WorkerKey& server_key,
                                    Duration timeout) {
  ZmqContext context(zmq_ctx_new());
  if (!context) return ZmqError("self-test");
  ZmqSocket socket(zmq_socket(context.get(), ZMQ_DEALER));
  if (!socket) return ZmqError("self-test");
  SetCommonOptions(socket.get(), 1, timeout);
  SetCurveClient(socket.get(), CurveKeyPair::Generate(), server_key);
  ZmqSocket monitor;
  RETURN_IF_ERROR(StartMonitor(context.get(), socket.get(), "self-test", &monitor));
  if (zmq_connect(socket.get(), ("tcp://" + address).c_str()) != 0) return ZmqError(address);

  const Clock::time_point deadline = Clock::now() + timeout;
  while (auto event = WaitForEvent(monitor.get(), deadline)) {
    if (event->event == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH) return absl::OkStatus();
    if (event->event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED) {
      return absl::FailedPreconditionError(
          absl::StrCat("self-test: ", address, " let an unknown key in"));
    }
  }
  return absl::DeadlineExceededError(
      absl::StrCat("self-test: ", address, " did not refuse an unknown key in time"));
}

}  // namespace longhaul
