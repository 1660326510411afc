// The few requests to the kernel's routing tables that ioctl has no word for (rtnetlink(7)). Each
// call opens a socket of the calling thread's network namespace.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace longhaul::wan {

// Packets that may wait for the interface, and the longest one that stands for several segments.
absl::Status SetInterface(const std::string& interface, uint32_t queue_packets,
                          uint32_t max_offload_bytes);

// Replaces the route to `network`/`prefix_bits` (host byte order) by one with this congestion
// control. `locked`: sockets cannot choose another one, as if the system refused it.
absl::Status SetRoute(const std::string& interface, uint32_t network, uint8_t prefix_bits,
                      uint32_t source, const std::string& congestion_control, bool locked);

}  // namespace longhaul::wan
