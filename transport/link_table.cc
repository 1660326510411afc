#include "transport/link_table.h"

#include <algorithm>
#include <fstream>

namespace longhaul {

LinkRow SumLinks(const std::string& peer, const std::vector<SocketStats>& connections) {
  LinkRow row;
  row.peer = peer;
  double busy_us = 0, limited_us = 0;
  const auto least = [](uint32_t a, uint32_t b) { return a == 0 || (b != 0 && b < a) ? b : a; };
  for (const SocketStats& c : connections) {
    ++row.connections;
    row.rtt_us = least(row.rtt_us, c.rtt_us);
    row.min_rtt_us = least(row.min_rtt_us, c.min_rtt_us);
    row.rate_bytes_per_s += c.delivery_rate_bytes_per_s;
    row.bytes_sent += c.bytes_sent;
    row.bytes_received += c.bytes_received;
    row.bytes_retransmitted += c.bytes_retransmitted;
    busy_us += static_cast<double>(c.busy_us);
    limited_us += static_cast<double>(c.window_limited_us);
    if (row.congestion_control.find(c.congestion_control) == std::string::npos) {
      row.congestion_control += (row.congestion_control.empty() ? "" : "+") + c.congestion_control;
    }
  }
  if (busy_us > 0) row.window_limited = std::min(1.0, limited_us / busy_us);
  return row;
}

std::string CongestionAdvice(const std::string& congestion_control,
                             std::optional<bool> slow_start_after_idle) {
  if (congestion_control.empty() || congestion_control == "bbr") return "";
  std::string out = "this system's TCP uses " + congestion_control +
                    " and does not let us choose BBR: on a long path a thousandth of loss costs "
                    "nine tenths of the rate";
  if (slow_start_after_idle.value_or(false)) {
    out += ", and every pause between rounds starts slowly again";
  }
  return out +
         ". More connections are used instead. What helps:\n"
         "  sudo sysctl -w net.ipv4.tcp_congestion_control=bbr\n"
         "  sudo sysctl -w net.ipv4.tcp_slow_start_after_idle=0 "
         "net.ipv4.tcp_rmem=\"4096 131072 67108864\" net.ipv4.tcp_wmem=\"4096 16384 67108864\"";
}

std::optional<bool> SlowStartAfterIdle() {
  std::ifstream file("/proc/sys/net/ipv4/tcp_slow_start_after_idle");
  int value = 0;
  if (!(file >> value)) return std::nullopt;
  return value != 0;
}

}  // namespace longhaul
