// What is known about the way to one peer, over all its connections: for the status page, metrics
// and the log. Plain values; pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "transport/tcp_socket.h"

namespace longhaul {

struct LinkRow {
  std::string peer;                // host:port, or the hex of a user's key
  std::string congestion_control;  // "bbr", "cubic"; "bbr+cubic" when connections differ
  uint32_t connections = 0;
  uint32_t rtt_us = 0;            // smoothed, the least of the connections
  uint32_t min_rtt_us = 0;        // ever seen; 0: not known
  uint64_t rate_bytes_per_s = 0;  // delivered to the peer lately, as the kernel measures, summed
  uint64_t bytes_sent = 0;
  uint64_t bytes_received = 0;
  uint64_t bytes_retransmitted = 0;
  double window_limited = 0;  // share of the sending time that waited for a buffer; 0 to 1

  // Retransmitted over sent: an upper bound of what the path loses.
  double loss() const {
    return bytes_sent == 0
               ? 0
               : static_cast<double>(bytes_retransmitted) / static_cast<double>(bytes_sent);
  }
};

// One row from the connections of one peer.
LinkRow SumLinks(const std::string& peer, const std::vector<SocketStats>& connections);

// What to tell a person whose system does not allow BBR, with the two commands that help; "" when
// the connection has it. `slow_start_after_idle`: the sysctl of that name, if it is known.
std::string CongestionAdvice(const std::string& congestion_control,
                             std::optional<bool> slow_start_after_idle);
// net.ipv4.tcp_slow_start_after_idle of this system.
std::optional<bool> SlowStartAfterIdle();

}  // namespace longhaul
