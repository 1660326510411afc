// A look at a TCP connection that ZeroMQ owns, through the descriptor that its monitor tells us:
// tuning, the kernel's byte counts and round trip, and cutting it. ZeroMQ may close the descriptor
// at any moment and the kernel may give its number to another connection, so every use first
// compares both addresses with those seen at the beginning; a descriptor that is no longer ours is
// left alone. Not thread-safe.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <optional>
#include <string>

namespace longhaul {

// What the kernel counts for one connection, all of TCP's payload included (encryption, framing,
// heartbeats; retransmissions count as sent).
struct SocketStats {
  uint64_t bytes_sent = 0;
  uint64_t bytes_received = 0;
  uint32_t rtt_us = 0;      // smoothed
  uint32_t min_rtt_us = 0;  // 0: not known
  uint64_t delivery_rate_bytes_per_s = 0;
  uint64_t bytes_retransmitted = 0;
  uint64_t busy_us = 0;            // time with something to send
  uint64_t window_limited_us = 0;  // of that, waiting for the peer's window or our own buffer
  std::string congestion_control;  // in force now
};

struct TcpTuning {
  uint64_t pacing_bytes_per_s = 0;  // 0: no cap
  std::string congestion_control = "bbr";
  uint32_t unsent_low_water_bytes = 512 * 1024;  // keep little unsent in the kernel
};

class TcpSocket {
 public:
  explicit TcpSocket(int fd);

  // Each setting is tried by itself; one that the system refuses stays as it was. Returns the
  // congestion control in force, "" when this is no TCP connection.
  std::string Tune(const TcpTuning& tuning) const;
  std::optional<SocketStats> Stats() const;  // nothing when the descriptor is no longer ours
  bool Cut() const;                          // both directions; ZeroMQ then closes it
  const std::string& peer_host() const { return peer_host_; }  // raw address bytes, for comparing

  // The congestion control in force; "" when this is no TCP connection.
  std::string CongestionControl() const;

 private:
  struct Address {
    sockaddr_storage bytes{};
    socklen_t size = 0;
  };
  static Address NameOf(int fd, int (*get_name)(int, sockaddr*, socklen_t*));
  static bool Equal(const Address& a, const Address& b);
  bool StillOurs() const;

  int fd_;
  Address local_;
  Address peer_;
  std::string peer_host_;
};

}  // namespace longhaul
