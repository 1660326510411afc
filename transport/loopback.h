// For tests: a server and members on the loopback interface, on any free port, with queues to wait
// on.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/bounded_queue.h"
#include "common/check.h"
#include "transport/client.h"
#include "transport/server.h"

namespace longhaul {

inline constexpr Duration kPatience = Seconds(30);     // for what must happen
inline constexpr Duration kMoment = Milliseconds(50);  // for what must not

// True when `condition` became true within the patience.
template <class Condition>
bool Eventually(Condition condition) {
  BoundedQueue<int> never(1);
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    never.PopFor(Milliseconds(2));
  }
  return true;
}

inline std::vector<Frame> Text(std::string text) {
  std::vector<Frame> frames;
  frames.emplace_back(std::move(text));
  return frames;
}

class Lab {
 public:
  explicit Lab(ServerOptions options = {}) : keys(CurveKeyPair::Generate()) {
    if (options.listen == ServerOptions().listen) options.listen = "127.0.0.1:0";
    options.keys = keys;
    options.key_table = &table;
    if (!options.on_message) {
      options.on_message = [this](Inbound&& in) { inbox.TryPush(std::move(in)); };
    }
    auto started = RouterServer::Start(std::move(options));
    LONGHAUL_CHECK(started.ok(), std::string(started.status().message()).c_str());
    server = *std::move(started);
  }

  KeyTable table;
  CurveKeyPair keys;
  BoundedQueue<Inbound> inbox{4096};
  std::unique_ptr<RouterServer> server;
};

class Member {
 public:
  Member(const std::string& address, const WorkerKey& server_key, const CurveKeyPair& keys,
         ClientOptions options = {}) {
    options.address = address;
    options.server_key = server_key;
    options.keys = keys;
    options.reconnect_least = Milliseconds(20);
    options.reconnect_most = Milliseconds(200);
    options.on_message = [this](std::vector<Frame>&& frames) { inbox.TryPush(std::move(frames)); };
    options.on_event = [this](const ConnectionEvent& e) { events.TryPush(ConnectionEvent(e)); };
    auto started = DealerClient::Start(std::move(options));
    LONGHAUL_CHECK(started.ok(), std::string(started.status().message()).c_str());
    client = *std::move(started);
  }
  // A member of the lab with keys of its own.
  explicit Member(Lab& lab) : Member(lab, Enrolled(lab)) {}
  Member(Lab& lab, const CurveKeyPair& keys)
      : Member(lab.server->address(), lab.keys.public_key, keys) {}

  static CurveKeyPair Enrolled(Lab& lab) {
    const CurveKeyPair keys = CurveKeyPair::Generate();
    lab.table.Add(keys.public_key, Role::kWorker);
    return keys;
  }

  // Waits for this change, passing over others.
  bool Saw(ConnectionChange change) {
    while (auto event = events.PopFor(kPatience)) {
      if (event->change == change) return true;
    }
    return false;
  }

  BoundedQueue<std::vector<Frame>> inbox{4096};
  BoundedQueue<ConnectionEvent> events{4096};
  std::unique_ptr<DealerClient> client;
};

}  // namespace longhaul
