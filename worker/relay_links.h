// A stage's connections to its neighbours: a server for the stage below, a client to the one
// above. Relay's messages go as parts of at most a mebibyte; what comes is put together again.
//
// Snapshots travel in the background: in small parts, at a quarter of the rate that the link has
// delivered, so that no state or credit waits behind one.
//
// Delivery is what the transport gives: at most once, in order while a connection lasts. A bounded
// number of parts waits for room; beyond it the oldest message is dropped, which Relay survives.
//
// Thread rule: one thread makes every call. `on_frames` is called on socket threads.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/time.h"
#include "pcn/relay/message.h"
#include "transport/client.h"
#include "transport/server.h"

namespace longhaul {

// ---- parts ----

inline constexpr size_t kMaxPartBytes = 1024 * 1024 - 64;
inline constexpr size_t kPartHeaderBytes = 16;

inline constexpr size_t kBackgroundPartBytes = 32 * 1024;

// Each part begins with the size of the whole, whether it goes in the background, and its own place
// in the whole.
std::vector<std::string> CutInParts(const pcn::Bytes& bytes, bool in_background = false);
bool IsInBackground(ByteSpan part);

class PartAssembler {
 public:
  explicit PartAssembler(size_t most_bytes) : most_bytes_(most_bytes) {}
  // The whole, once its last part is here. A part that does not continue what came before starts
  // anew or is dropped; so does a whole above the limit.
  std::optional<pcn::Bytes> Add(ByteSpan part);

 private:
  const size_t most_bytes_;
  pcn::Bytes bytes_;
  size_t total_ = 0;
};

// ---- links ----

class RelayLinks {
 public:
  static constexpr size_t kMaxWaitingParts = 1024;

  struct Received {
    bool from_below = false;
    std::vector<Frame> frames;
    std::string route;  // from below
  };
  struct Options {
    std::string listen = "127.0.0.1:0";
    CurveKeyPair keys;
    uint64_t most_message_bytes = 0;  // larger ones are dropped
    std::function<void(Received&&)> on_frames;
  };
  // Errors: those of RouterServer::Start.
  static absl::StatusOr<std::unique_ptr<RelayLinks>> Start(Options options);

  std::string address() const { return server_->address(); }
  // Who may connect from below, and where above is. Empty keys: nobody. What waits for a neighbour
  // that was replaced is dropped.
  void SetBelow(const WorkerKey& key);
  absl::Status SetAbove(const std::string& address, const WorkerKey& key);

  // A snapshot takes the place of one that is still on its way.
  void Send(const pcn::Message& message, bool up);
  void Flush(Duration now);  // what had no room before, and what may go in the background
  bool sends_in_background() const;
  // The message that these frames complete, if they do and it decodes.
  std::optional<pcn::Message> OnFrames(const Received& received);
  size_t waiting() const { return waiting_[0].size() + waiting_[1].size(); }

 private:
  explicit RelayLinks(Options options);
  bool SendPart(const std::string& part, bool up);
  void FlushMessages();
  void FlushBackground(bool up, Duration now);
  uint64_t BytesPerSecond(bool up) const;  // that the link has delivered; 0: not known

  Options options_;
  KeyTable allowed_;
  WorkerKey below_, above_;
  std::string above_address_;
  std::string route_below_;
  struct Background {
    std::deque<std::string> parts;
    double allowance_bytes = 0;
    std::optional<Duration> counted;  // allowance_bytes is as of then
  };
  std::deque<std::string> waiting_[2];                           // down, up
  Background background_[2];                                     // the same
  std::optional<PartAssembler> parts_[2], background_parts_[2];  // from below, from above
  std::unique_ptr<RouterServer> server_;
  std::unique_ptr<DealerClient> client_;
};

}  // namespace longhaul
