#include "transport/tcp_socket.h"

#include <linux/tcp.h>
#include <netinet/in.h>

#include <cstddef>
#include <cstring>

namespace longhaul {

namespace {

// tcp_info grew over the years: a field is there only if the kernel filled it.
template <class T>
T FieldOr(const tcp_info& info, socklen_t filled, const T tcp_info::*field, T otherwise) {
  const auto offset = static_cast<size_t>(reinterpret_cast<const char*>(&(info.*field)) -
                                          reinterpret_cast<const char*>(&info));
  return offset + sizeof(T) <= filled ? info.*field : otherwise;
}

std::string HostOf(const sockaddr_storage& address) {
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    return std::string(reinterpret_cast<const char*>(&v4.sin_addr), sizeof v4.sin_addr);
  }
  if (address.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
    return std::string(reinterpret_cast<const char*>(&v6.sin6_addr), sizeof v6.sin6_addr);
  }
  return {};
}

}  // namespace

TcpSocket::TcpSocket(int fd)
    : fd_(fd), local_(NameOf(fd, getsockname)), peer_(NameOf(fd, getpeername)) {
  peer_host_ = HostOf(peer_.bytes);
}

TcpSocket::Address TcpSocket::NameOf(int fd, int (*get_name)(int, sockaddr*, socklen_t*)) {
  Address out;
  out.size = sizeof out.bytes;
  if (get_name(fd, reinterpret_cast<sockaddr*>(&out.bytes), &out.size) != 0) out = {};
  return out;
}

bool TcpSocket::Equal(const Address& a, const Address& b) {
  return a.size == b.size && std::memcmp(&a.bytes, &b.bytes, a.size) == 0;
}

bool TcpSocket::StillOurs() const {
  return peer_.size > 0 && Equal(local_, NameOf(fd_, getsockname)) &&
         Equal(peer_, NameOf(fd_, getpeername));
}

std::string TcpSocket::Tune(const TcpTuning& tuning) const {
  if (!StillOurs()) return {};
  setsockopt(fd_, IPPROTO_TCP, TCP_CONGESTION, tuning.congestion_control.data(),
             static_cast<socklen_t>(tuning.congestion_control.size()));
  setsockopt(fd_, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &tuning.unsent_low_water_bytes,
             sizeof tuning.unsent_low_water_bytes);
  if (tuning.pacing_bytes_per_s > 0) {
    setsockopt(fd_, SOL_SOCKET, SO_MAX_PACING_RATE, &tuning.pacing_bytes_per_s,
               sizeof tuning.pacing_bytes_per_s);
  }
  return CongestionControl();
}

std::string TcpSocket::CongestionControl() const {
  char name[32] = {};
  socklen_t size = sizeof name - 1;
  if (getsockopt(fd_, IPPROTO_TCP, TCP_CONGESTION, name, &size) != 0) return {};
  return name;
}

std::optional<SocketStats> TcpSocket::Stats() const {
  tcp_info info{};
  socklen_t filled = sizeof info;
  if (!StillOurs() || getsockopt(fd_, IPPROTO_TCP, TCP_INFO, &info, &filled) != 0) {
    return std::nullopt;
  }
  SocketStats out;
  const auto acked = FieldOr(info, filled, &tcp_info::tcpi_bytes_acked, {});
  out.bytes_sent = FieldOr(info, filled, &tcp_info::tcpi_bytes_sent, acked);
  out.bytes_received = FieldOr(info, filled, &tcp_info::tcpi_bytes_received, {});
  out.rtt_us = info.tcpi_rtt;
  const uint32_t min_rtt = FieldOr(info, filled, &tcp_info::tcpi_min_rtt, {});
  out.min_rtt_us = min_rtt == UINT32_MAX ? 0 : min_rtt;
  out.delivery_rate_bytes_per_s = FieldOr(info, filled, &tcp_info::tcpi_delivery_rate, {});
  out.bytes_retransmitted = FieldOr(info, filled, &tcp_info::tcpi_bytes_retrans, {});
  out.busy_us = FieldOr(info, filled, &tcp_info::tcpi_busy_time, {});
  out.window_limited_us = FieldOr(info, filled, &tcp_info::tcpi_rwnd_limited, {}) +
                          FieldOr(info, filled, &tcp_info::tcpi_sndbuf_limited, {});
  out.congestion_control = CongestionControl();
  return out;
}

bool TcpSocket::Cut() const {
  if (!StillOurs()) return false;
  // With a reset at the close that follows: otherwise a peer that filled our window would sit in
  // front of it for minutes.
  const linger reset{1, 0};
  setsockopt(fd_, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  return shutdown(fd_, SHUT_RDWR) == 0;
}

}  // namespace longhaul
