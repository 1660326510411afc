// The connections between this worker and others: reducers that it connects to, and, when it
// reduces itself, a port that others connect to. Whom nobody can reach goes through the
// coordinator's port: each pair finds out for itself, by trying.
//
// Only keys that the coordinator names get in, and a reducer must have the key that it named.
// Thread-safe. Delivery is at most once; the transfers above repair themselves.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/messages.h"
#include "transport/client.h"
#include "transport/key_table.h"
#include "transport/link_table.h"
#include "transport/server.h"

namespace longhaul {

class Peers {
 public:
  struct Options {
    CurveKeyPair keys;
    std::string listen;               // address:port; "": nobody connects to us
    uint64_t uplink_bytes_per_s = 0;  // of each connection; 0: no cap
    // On any thread, also on that of Send (what is for ourselves).
    std::function<void(const WorkerKey& from, std::vector<Frame>&&)> on_message;
    std::function<void(const WorkerKey& peer)> on_connected;  // anew: credit lapsed
    std::function<void()> on_room;
    // A worker asks for training data (AsDataRequest) over the connection `route`, which is not one
    // of the exchange; answers go there with SendTo. on_route_room: SendTo said no, and has room.
    std::function<void(const WorkerKey& from, const std::string& route, Frame&&)> on_data_request;
    std::function<void(const std::string& route)> on_route_room;
  };

  // How a request for training data is sent to a holder.
  static std::vector<Frame> AsDataRequest(Frame&& envelope);

  // Unavailable, InvalidArgument: the port cannot be opened.
  static absl::StatusOr<std::unique_ptr<Peers>> Start(Options options);
  ~Peers();

  std::string address() const { return server_ ? server_->address() : ""; }

  // Who takes part now. By one thread, which is none of the callbacks'.
  void Update(const std::vector<PeerView>& peers);
  // What relays: the bulk connection to the coordinator, or null.
  void SetRelay(std::shared_ptr<DealerClient> bulk);
  // It is up: the coordinator learns which one it is.
  void Greet();
  void Stop();  // no callback afterwards

  // A zero key: to the coordinator itself. False: no room now (on_room), or no way.
  bool Send(const WorkerKey& to, std::vector<Frame>&& frames);
  // Over a connection that a worker made to us. False: no room now (on_route_room).
  bool SendTo(const std::string& route, std::vector<Frame>&& frames);
  // What came over the relay; false: it was not relayed.
  bool TakeRelayed(std::vector<Frame>& frames);

  // Ends the connections that it made to us: it does not keep to its credit. Any thread.
  void Cut(const WorkerKey& from);

  // What the kernel says of the way there; zero key: over the relay's connection to the
  // coordinator. Without a connection of its own, a row without a round trip.
  LinkRow LinkTo(const WorkerKey& to) const;
  std::vector<PeerLink> Links() const;  // to the reducers

 private:
  struct Link {
    std::string address;
    std::shared_ptr<DealerClient> client;
    bool tried = false;  // it is known whether it can be reached
    bool up = false;
  };

  explicit Peers(Options options) : options_(std::move(options)) {}
  absl::Status Listen();
  std::shared_ptr<DealerClient> Connect(const PeerView& peer);
  void OnEvent(const WorkerKey& key, const ConnectionEvent& event);
  void OnInbound(Inbound&& in);

  const Options options_;
  KeyTable table_;
  mutable std::mutex mutex_;
  std::map<WorkerKey, Link> links_;
  std::map<WorkerKey, std::string> routes_;  // of those who connected to us
  std::vector<WorkerKey> admitted_;
  std::shared_ptr<DealerClient> bulk_;
  std::unique_ptr<RouterServer> server_;
};

}  // namespace longhaul
