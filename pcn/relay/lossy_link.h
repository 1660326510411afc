// A link in scheduled ticks, for tests, benches and simulation: it delays, drops, repeats and
// reorders messages as its own draws say.
//
// Thread rule: one thread per object. Deterministic: same seed and calls, same deliveries.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "common/rng.h"
#include "pcn/relay/message.h"

namespace longhaul::pcn {

class LossyLink {
 public:
  struct Options {
    uint64_t delay = 0;   // ticks beyond the one that every message takes
    uint64_t jitter = 0;  // up to this many more, so that messages overtake each other
    uint32_t loss_permille = 0;
    uint32_t duplicate_permille = 0;
    uint64_t seed = 0;
  };
  explicit LossyLink(const Options& options) : options_(options), rng_(options.seed) {}

  void Send(const Message& message, uint64_t now);
  // What arrives at tick `now` or arrived before.
  std::vector<Message> Receive(uint64_t now);
  size_t in_flight() const { return queue_.size(); }
  uint64_t sent_bytes() const { return sent_bytes_; }
  // From now on nothing is lost, repeated or reordered.
  void Heal() { options_.jitter = options_.loss_permille = options_.duplicate_permille = 0; }

 private:
  void Schedule(const Message& message, uint64_t now);

  Options options_;
  Rng rng_;
  std::multimap<uint64_t, Message> queue_;  // by tick of arrival
  uint64_t sent_bytes_ = 0;
};

}  // namespace longhaul::pcn
