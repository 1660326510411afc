// A worker's bulk end: several DEALER connections to one server with the same keys, opened on
// demand. A message goes to any connection that takes it; queues are short, so a slow one takes
// less (work stealing). Nothing is promised about order between messages; what was on a connection
// that ended is gone, and the transfers above ask for it again.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "transport/client.h"
#include "transport/link_estimate.h"
#include "transport/link_table.h"

namespace longhaul {

struct StripedOptions {
  // Of each connection. on_event is called for the first connection that opens and the last one
  // that ends, and for failed attempts of the first stripe.
  ClientOptions client;
  // Optional: one connection of several has ended and messages on it may be lost.
  std::function<void()> on_stripe_lost;
  uint32_t stripes = 1;                 // at the start
  uint32_t most_stripes = kMaxStripes;  // grows up to this by itself
  // Called with the first message of a new connection, so that the server learns whose it is
  // (a server hears of a connection when it speaks). Empty: nothing is sent.
  std::function<std::vector<Frame>()> hello;
};

class StripedClient {
 public:
  // As DealerClient::Start.
  static absl::StatusOr<std::unique_ptr<StripedClient>> Start(StripedOptions options);
  virtual ~StripedClient() = default;

  // Any thread. False, and nothing taken, when no connection has room.
  virtual bool Send(std::vector<Frame>&& frames) = 0;
  // Any thread. Opens connections up to this many; never closes any.
  virtual void Grow(uint32_t stripes) = 0;

  virtual uint32_t stripes() const = 0;    // asked for
  virtual uint32_t connected() const = 0;  // open now
  virtual ClientCounters counters() const = 0;
  virtual LinkRow link() const = 0;
};

}  // namespace longhaul
