// The coordinator's end: one ROUTER socket on one TCP port, CURVE on every connection, and only
// keys of a KeyTable get in. One thread moves message handles: no decoding, no hashing, no disk.
//
// Delivery is at most once, in order per connection. Nothing here blocks: a full queue says no, and
// what cannot be delivered is dropped and counted. Control messages are repeated by their senders,
// and transfers repair themselves.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/ids.h"
#include "common/time.h"
#include "transport/cut_reason.h"
#include "transport/frame.h"
#include "transport/key_table.h"
#include "transport/keys.h"
#include "transport/link_table.h"
#include "transport/tcp_socket.h"

namespace longhaul {

// A message of an authenticated connection.
struct Inbound {
  std::string route;          // names the connection; never reused
  WorkerKey user;             // proven by CURVE, not claimed
  Role role = Role::kWorker;  // what the table says now
  std::vector<Frame> frames;  // 1 to kMaxFrames
};

struct ServerOptions {
  std::string listen = "0.0.0.0:7443";  // address:port; port 0: any free one
  CurveKeyPair keys;
  const KeyTable* key_table = nullptr;  // must outlive the server
  // On the socket thread: must be quick and must not call Stop or destroy the server.
  std::function<void(Inbound&&)> on_message;
  // Optional, on the socket thread: Send refused a message for this route and now has room again.
  std::function<void(const std::string& route)> on_room;

  size_t max_queued_messages_per_route = 64;
  uint64_t max_queued_bytes = 256 * 1024 * 1024;  // all routes together
  // Inside ZeroMQ, per connection and direction; at least 2 (with 1 its ROUTER delivers nothing).
  int high_water_messages = 32;
  size_t max_connections = 4096;
  // Connections that have not delivered a message yet. Above it, the oldest one of the address that
  // has most of them is cut: idle strangers cannot keep members out.
  size_t max_silent_connections = 256;
  // Bytes that a connection may send without completing a message: bounds the memory that endless
  // multi-part messages take.
  uint64_t max_unfinished_bytes = 16 * 1024 * 1024;
  // Probes of the way to us (transport/link_probe.h) are answered here, up to so many bytes per key
  // that refill slowly; 0: none is. The note is what whoever holds a key or an invitation may know.
  uint64_t max_probe_bytes = 512 * 1024 * 1024;
  std::string note;  // at most kMaxFrameBytes

  Duration handshake_timeout = Seconds(3);
  Duration self_test_timeout = Seconds(10);
};

struct ServerCounters {
  uint64_t messages_in = 0;
  uint64_t messages_out = 0;
  uint64_t payload_bytes_in = 0;
  uint64_t payload_bytes_out = 0;
  uint64_t socket_bytes_in = 0;  // as the kernel counts, of all connections ever
  uint64_t socket_bytes_out = 0;
  uint64_t connections = 0;   // open now
  uint64_t refused_keys = 0;  // by the key table
  // Connections that ended without having delivered a message: refused keys, wrong server key,
  // other mechanisms, port scans.
  uint64_t refused_connections = 0;
  uint64_t dropped_in = 0;       // too many frames, removed key, route chosen by the client
  uint64_t dropped_out = 0;      // the connection had gone
  uint64_t cut_connections = 0;  // by a limit above, or by Cut
  CutCounts cut_by_reason{};     // the same, by CutReason
};

class RouterServer {
 public:
  // Binds, proves to itself that a stranger is refused, then serves. Unavailable when the port
  // cannot be bound; FailedPrecondition or DeadlineExceeded when the self-test fails;
  // InvalidArgument for a malformed listen address.
  static absl::StatusOr<std::unique_ptr<RouterServer>> Start(ServerOptions options);
  virtual ~RouterServer() = default;  // stops; messages not yet sent are lost

  // Any thread. False when the queue of the route or of the server is full: nothing was taken.
  // True promises nothing: the connection may end. 1 to kMaxFrames frames of at most
  // kMaxFrameBytes.
  virtual bool Send(const std::string& route, std::vector<Frame>&& frames) = 0;

  // The same over whichever of these routes has the shortest queue: a peer with several bulk
  // connections gets its chunks over all of them, and a slow one takes less.
  virtual bool SendToAny(const std::vector<std::string>& routes, std::vector<Frame>&& frames) = 0;

  // Any thread. Ends the connections of a user soon, and counts them under `reason`; it may come
  // again. What came from it before may still be delivered.
  virtual void Cut(const WorkerKey& user, CutReason reason) = 0;

  virtual std::string address() const = 0;  // host:port, with the real port
  virtual uint16_t port() const = 0;
  virtual ServerCounters counters() const = 0;  // any thread
  // What the kernel says about the connection of a route that has sent a message; nothing when it
  // ended. At most a fraction of a second old. Any thread.
  virtual std::optional<SocketStats> Stats(const std::string& route) const = 0;
  // Of one user; nothing without such connections. As old as Stats. Any thread.
  virtual std::optional<LinkRow> Link(const WorkerKey& user) const = 0;
  // A row per user with connections that have sent a message. As old as Stats. Any thread.
  virtual std::vector<LinkRow> Links() const = 0;
};

}  // namespace longhaul
