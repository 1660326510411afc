// A worker's end: one DEALER socket over one TCP connection, CURVE, and a thread of its own that
// reconnects for ever with a jittered, growing back-off. Control and bulk use one DealerClient
// each, with the same keys.
//
// Delivery is at most once, in order. What was queued when a connection ended is dropped: the
// caller hears kDisconnected and says anew what still matters.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/ids.h"
#include "common/time.h"
#include "transport/frame.h"
#include "transport/keys.h"
#include "transport/tcp_socket.h"

namespace longhaul {

enum class ConnectionChange : uint8_t {
  kConnected = 1,  // handshake done: the server proved its key and took ours
  kDisconnected,   // after kConnected
  kUnreachable,    // no TCP connection
  kNotAllowed,     // the server refused our key
  kWrongServer,    // it closed the connection during the handshake: another server key, or no
                   // coordinator at all
};

struct ConnectionEvent {
  ConnectionChange change = ConnectionChange::kConnected;
  std::string reason;  // for people
};

struct ClientOptions {
  std::string address;  // host:port
  WorkerKey server_key;
  CurveKeyPair keys;
  // Both on the socket thread: must be quick and must not destroy the client.
  std::function<void(std::vector<Frame>&&)> on_message;
  std::function<void(const ConnectionEvent&)> on_event;  // every change, and every failed attempt
  // Optional, on the socket thread: Send said no because of a full queue, and there is room again.
  std::function<void()> on_room;

  uint64_t uplink_bytes_per_s = 0;  // 0: no cap; of this connection
  size_t max_queued_messages = 64;
  uint64_t max_queued_bytes = 64 * 1024 * 1024;
  int high_water_messages = 16;
  Duration connect_timeout = Seconds(15);  // TCP; some networks swallow packets silently
  Duration handshake_timeout = Seconds(10);
  Duration reconnect_least = Milliseconds(200);
  Duration reconnect_most = Seconds(10);
};

struct ClientCounters {
  uint64_t messages_in = 0;
  uint64_t messages_out = 0;
  uint64_t payload_bytes_in = 0;
  uint64_t payload_bytes_out = 0;
  // As the kernel counts, over all connections; payload bytes where it does not.
  uint64_t socket_bytes_in = 0;
  uint64_t socket_bytes_out = 0;
  uint64_t dropped_in = 0;   // too many frames
  uint64_t dropped_out = 0;  // queued when the connection ended
  uint64_t connects = 0;     // successful handshakes
};

class DealerClient {
 public:
  // Returns at once; events tell how connecting goes. InvalidArgument for a malformed address.
  static absl::StatusOr<std::unique_ptr<DealerClient>> Start(ClientOptions options);
  virtual ~DealerClient() = default;  // stops; messages not yet sent are lost

  // Any thread. False, and nothing taken, when not connected or when the queue is full.
  // 1 to kMaxFrames frames of at most kMaxFrameBytes.
  virtual bool Send(std::vector<Frame>&& frames) = 0;

  virtual bool connected() const = 0;
  virtual ClientCounters counters() const = 0;
  virtual SocketStats stats() const = 0;  // of the open connection; zero without one
  // In force on the latest connection ("bbr", "cubic"); "" before the first.
  virtual std::string congestion_control() const = 0;
};

}  // namespace longhaul
