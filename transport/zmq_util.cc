#include "transport/zmq_util.h"

#include <sys/eventfd.h>
#include <unistd.h>
#include <zmq.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/check.h"

namespace longhaul {

namespace {

constexpr int kKeepAliveIdleS = 30;
constexpr int kKeepAliveIntervalS = 10;
constexpr int kKeepAliveProbes = 6;
// Without an acknowledgement of what was sent. A chunk may take several seconds on a thin uplink.
constexpr int kUnacknowledgedMs = 60'000;

// All but one. For a message that fails to decrypt libzmq 4.3 sends that one after setting errno
// and before testing it, and sending changes errno: instead of being closed, the connection would
// go deaf.
constexpr int kEvents = ZMQ_EVENT_ALL & ~ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL;

zmq_msg_t* MessageOf(Frame& frame) { return static_cast<zmq_msg_t*>(frame.zmq_message()); }

}  // namespace

void ZmqClose::operator()(void* socket) const { zmq_close(socket); }

void ZmqTerm::operator()(void* context) const {
  zmq_ctx_shutdown(context);
  while (zmq_ctx_term(context) != 0 && zmq_errno() == EINTR) {
  }
}

absl::Status ZmqError(const std::string& what) {
  return absl::UnavailableError(absl::StrCat(what, ": ", zmq_strerror(zmq_errno())));
}

void SetBytes(void* socket, int option, const void* data, size_t size) {
  LONGHAUL_CHECK(zmq_setsockopt(socket, option, data, size) == 0, zmq_strerror(zmq_errno()));
}

void SetInt(void* socket, int option, int value) { SetBytes(socket, option, &value, sizeof value); }

void SetInt64(void* socket, int option, int64_t value) {
  SetBytes(socket, option, &value, sizeof value);
}

void SetCommonOptions(void* socket, int high_water_messages, Duration handshake_timeout) {
  using std::chrono::duration_cast;
  using std::chrono::milliseconds;
  SetInt64(socket, ZMQ_MAXMSGSIZE, static_cast<int64_t>(kMaxSocketMessageBytes));
  SetInt(socket, ZMQ_LINGER, 0);
  SetInt(socket, ZMQ_SNDHWM, high_water_messages);
  SetInt(socket, ZMQ_RCVHWM, high_water_messages);
  SetInt(socket, ZMQ_HANDSHAKE_IVL,
         static_cast<int>(duration_cast<milliseconds>(handshake_timeout).count()));
  SetInt(socket, ZMQ_TCP_KEEPALIVE, 1);
  SetInt(socket, ZMQ_TCP_KEEPALIVE_IDLE, kKeepAliveIdleS);
  SetInt(socket, ZMQ_TCP_KEEPALIVE_INTVL, kKeepAliveIntervalS);
  SetInt(socket, ZMQ_TCP_KEEPALIVE_CNT, kKeepAliveProbes);
  // Not ZMQ_HEARTBEAT_IVL: when that timer fires after a connection broke whose messages wait for
  // their reader, libzmq 4.3.4 aborts the process: "Assertion failed: !_io_error".
  SetInt(socket, ZMQ_TCP_MAXRT, kUnacknowledgedMs);
}

void SetCurveClient(void* socket, const CurveKeyPair& keys, const WorkerKey& server_key) {
  SetBytes(socket, ZMQ_CURVE_SERVERKEY, server_key.bytes.data(), server_key.bytes.size());
  SetBytes(socket, ZMQ_CURVE_PUBLICKEY, keys.public_key.bytes.data(), keys.public_key.bytes.size());
  SetBytes(socket, ZMQ_CURVE_SECRETKEY, keys.secret.data(), keys.secret.size());
}

void SetCurveServer(void* socket, const CurveKeyPair& keys) {
  // A draft option in the header; released libraries know it. Without it a missing ZAP handler
  // would let everybody in.
  constexpr int kZapEnforceDomain = 93;
  SetInt(socket, ZMQ_CURVE_SERVER, 1);
  SetBytes(socket, ZMQ_CURVE_SECRETKEY, keys.secret.data(), keys.secret.size());
  SetBytes(socket, ZMQ_ZAP_DOMAIN, kZapDomain, std::strlen(kZapDomain));
  SetInt(socket, kZapEnforceDomain, 1);
}

absl::Status StartMonitor(void* context, void* socket, const std::string& name, ZmqSocket* out) {
  const std::string address = "inproc://monitor-" + name;
  if (zmq_socket_monitor(socket, address.c_str(), kEvents) != 0) {
    return ZmqError("cannot watch a socket");
  }
  ZmqSocket monitor(zmq_socket(context, ZMQ_PAIR));
  if (!monitor) return ZmqError("cannot watch a socket");
  SetInt(monitor.get(), ZMQ_LINGER, 0);
  SetInt(monitor.get(), ZMQ_RCVHWM, 0);
  if (zmq_connect(monitor.get(), address.c_str()) != 0) return ZmqError("cannot watch a socket");
  *out = std::move(monitor);
  return absl::OkStatus();
}

std::optional<MonitorEvent> NextEvent(void* monitor) {
  std::vector<Frame> frames;
  constexpr size_t kEventBytes = 6;  // event number and value, then a frame with the endpoint
  while (Receive(monitor, 2, &frames) == ReceiveResult::kMessage) {
    if (frames[0].size() != kEventBytes) continue;
    ByteReader r(frames[0].bytes());
    MonitorEvent out;
    out.event = r.U16();
    out.value = static_cast<int>(r.U32());
    return out;
  }
  return std::nullopt;
}

ReceiveResult Receive(void* socket, size_t max_frames, std::vector<Frame>* out) {
  out->clear();
  bool too_many = false;
  for (;;) {
    Frame frame;
    // After the first part of a message the others are there: ZeroMQ delivers whole messages.
    if (zmq_msg_recv(MessageOf(frame), socket, ZMQ_DONTWAIT) < 0) return ReceiveResult::kNothing;
    const bool more = zmq_msg_more(MessageOf(frame)) != 0;
    if (out->size() < max_frames) {
      out->push_back(std::move(frame));
    } else {
      too_many = true;
    }
    if (!more) return too_many ? ReceiveResult::kTooManyFrames : ReceiveResult::kMessage;
  }
}

SendResult SendWhole(void* socket, std::vector<Frame>* frames) {
  for (size_t i = 0; i < frames->size(); ++i) {
    const int more = i + 1 < frames->size() ? ZMQ_SNDMORE : 0;
    if (zmq_msg_send(MessageOf((*frames)[i]), socket, ZMQ_DONTWAIT | more) >= 0) continue;
    // Only the first part can meet a full pipe; later parts follow it or are dropped with it.
    return zmq_errno() == EAGAIN && i == 0 ? SendResult::kFull : SendResult::kGone;
  }
  return SendResult::kSent;
}

WakeUp::WakeUp() : fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  LONGHAUL_CHECK(fd_ >= 0, "no descriptor for an eventfd");
}

WakeUp::~WakeUp() { close(fd_); }

void WakeUp::Notify() {
  const uint64_t one = 1;
  // A full counter means that the other thread is about to wake anyway.
  (void)!write(fd_, &one, sizeof one);
}

void WakeUp::Clear() {
  uint64_t count;
  (void)!read(fd_, &count, sizeof count);
}

}  // namespace longhaul

// Debian's libzmq (and the libsodium that it decrypts with) is built without the thread sanitizer,
// which therefore cannot see that a message changes hands inside it. Our own threads stay under
// watch.
#if defined(__SANITIZE_THREAD__)
extern "C" __attribute__((visibility("default"))) const char* __tsan_default_suppressions() {
  return "called_from_lib:libzmq.so\ncalled_from_lib:libsodium.so\nrace:libzmq.so\n";
}
#endif
