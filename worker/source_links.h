// Connections to other workers that training data is asked of (their peer ports): at most
// kMaxLinks, made when needed and given up when one fails or is not used.
//
// Owned by one thread; `on_message` and `on_change` come on the links' own threads.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "common/time.h"
#include "proto/messages.h"
#include "transport/client.h"

namespace longhaul {

class SourceLinks {
 public:
  static constexpr size_t kMaxLinks = 16;
  static constexpr Duration kIdle = Seconds(30);  // may be closed after it

  struct Options {
    CurveKeyPair keys;
    std::function<void(const WorkerKey& from, std::vector<Frame>&&)> on_message;
    // Not up: Drop it.
    std::function<void(const WorkerKey& holder, bool up)> on_change;
  };

  explicit SourceLinks(Options options) : options_(std::move(options)) {}

  // False: there is no way to this holder now. What is sent while it connects is lost; on_change
  // tells when it can be said again.
  bool Send(const PeerView& holder, std::vector<Frame>&& frames);
  void Drop(const WorkerKey& holder) { links_.erase(holder); }

 private:
  using Clock = std::chrono::steady_clock;
  struct Link {
    std::string address;
    std::unique_ptr<DealerClient> client;
    Clock::time_point used;
  };
  bool MakeRoom();

  const Options options_;
  std::map<WorkerKey, Link> links_;
};

}  // namespace longhaul
