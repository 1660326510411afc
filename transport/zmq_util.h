// What server, client and self-test share over the ZeroMQ C API. Private to transport/: shows
// zmq.h's raw handles as void*.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/time.h"
#include "transport/frame.h"
#include "transport/keys.h"

namespace longhaul {

// The name of the ZAP domain; any text, but not an empty one, or ZAP is not asked.
inline constexpr char kZapDomain[] = "longhaul";

struct ZmqClose {
  void operator()(void* socket) const;  // without lingering
};
using ZmqSocket = std::unique_ptr<void, ZmqClose>;

// Ends the context, waiting for sockets to be closed first.
struct ZmqTerm {
  void operator()(void* context) const;
};
using ZmqContext = std::unique_ptr<void, ZmqTerm>;

absl::Status ZmqError(const std::string& what);  // with the text of zmq_errno()

// Options are known to be valid: a refusal is a broken invariant.
void SetInt(void* socket, int option, int value);
void SetInt64(void* socket, int option, int64_t value);
void SetBytes(void* socket, int option, const void* data, size_t size);

// Message size, lingering, keep-alive and heartbeats: equal on both sides.
void SetCommonOptions(void* socket, int high_water_messages, Duration handshake_timeout);
// CURVE with our pair; `server_key` as a client.
void SetCurveClient(void* socket, const CurveKeyPair& keys, const WorkerKey& server_key);
void SetCurveServer(void* socket, const CurveKeyPair& keys);

struct MonitorEvent {
  int event = 0;  // ZMQ_EVENT_...
  int value = 0;  // descriptor, errno or ZAP status, as zmq_socket_monitor(3) says
};

// Events of a socket (all but ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL), readable on a socket of their
// own (to be polled by the thread that reads them). Its queue is unlimited: a full one would block
// ZeroMQ's I/O thread.
absl::Status StartMonitor(void* context, void* socket, const std::string& name, ZmqSocket* out);
std::optional<MonitorEvent> NextEvent(void* monitor);  // nothing when there is none now

enum class ReceiveResult { kMessage, kNothing, kTooManyFrames };
// One whole message, without waiting. Of a message with more than `max_frames` only the first are
// kept.
ReceiveResult Receive(void* socket, size_t max_frames, std::vector<Frame>* out);

enum class SendResult { kSent, kFull, kGone };
// A whole message, without waiting; `frames` are consumed only when kSent. kGone: no such route.
SendResult SendWhole(void* socket, std::vector<Frame>* frames);

// Wakes a zmq_poll of another thread.
class WakeUp {
 public:
  WakeUp();
  ~WakeUp();
  WakeUp(const WakeUp&) = delete;
  WakeUp& operator=(const WakeUp&) = delete;
  void Notify();  // any thread
  void Clear();
  int fd() const { return fd_; }

 private:
  int fd_;
};

}  // namespace longhaul
