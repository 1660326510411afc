// The network of a scenario without any rights: a process in the middle of ordinary TCP
// connections on the loopback interface. Each node gets a port of its own; what connects there is
// connected to the target, and the bytes pay for the way between the two nodes: rate, queue (by
// back-pressure), delay, jitter, shared bottlenecks, half-duplex. A TCP stream loses nothing, so
// losses and the kernel's congestion control are not emulated here; while a link is down, bytes
// wait in front of it.
//
// One thread of its own.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "wan/emulate/emulator.h"
#include "wan/emulate/network.h"

namespace longhaul::wan {

class Relay {
 public:
  // Streams lead from every host to `target_host`, which is reached at 127.0.0.1:`target_port`.
  static absl::StatusOr<std::unique_ptr<Relay>> Start(std::vector<HostShape> hosts,
                                                      std::vector<BottleneckShape> bottlenecks,
                                                      uint64_t seed, uint32_t target_host,
                                                      uint16_t target_port);
  virtual ~Relay() = default;  // stops; closes all streams

  virtual uint16_t port(uint32_t host) const = 0;  // on 127.0.0.1; 0 for the target's own host
  // As Emulator::Change. Links that are set down hold bytes back instead of losing them.
  virtual void Change(std::function<void(Network&)> change) = 0;
  virtual EmulatorReport report() const = 0;
  virtual void ResetLateness() = 0;
};

}  // namespace longhaul::wan
