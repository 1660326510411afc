#include "transport/connections.h"

#include <algorithm>

namespace longhaul {

void Connections::OnAccepted(int fd) {
  OnClosed(fd);  // if its end went unnoticed
  Connection& connection = open_.emplace(fd, Connection(fd)).first->second;
  connection.number = next_number_++;
  connection.socket.Tune({});
  ++silent_;
  if (open_.size() > limits_.connections) {
    Cut(connection);
  } else if (silent_ > limits_.silent) {
    CutOneSilent();
  }
}

void Connections::OnClosed(int fd) {
  const auto it = open_.find(fd);
  if (it == open_.end()) return;
  if (it->second.route.empty()) ++ended_silent_;
  if (it->second.route.empty() && !it->second.cut) --silent_;
  open_.erase(it);
}

void Connections::OnMessage(int fd, const std::string& route, const WorkerKey& user) {
  const auto it = open_.find(fd);
  if (it == open_.end()) return;
  Connection& connection = it->second;
  if (connection.route.empty() && !connection.cut) --silent_;
  connection.route = route;
  connection.user = user;
  connection.delivered_since_sample = true;
}

void Connections::Cut(Connection& connection) {
  if (connection.cut) return;
  if (connection.route.empty()) --silent_;
  connection.cut = true;
  connection.socket.Cut();
  ++cut_;
}

// The oldest of the address that has most silent connections: whoever floods us loses his own.
void Connections::CutOneSilent() {
  std::map<std::string, size_t> by_host;
  for (const auto& [fd, c] : open_) {
    if (c.route.empty() && !c.cut) ++by_host[c.socket.peer_host()];
  }
  const auto most = std::max_element(by_host.begin(), by_host.end(),
                                     [](auto& a, auto& b) { return a.second < b.second; });
  Connection* oldest = nullptr;
  for (auto& [fd, c] : open_) {
    if (!c.route.empty() || c.cut || c.socket.peer_host() != most->first) continue;
    if (oldest == nullptr || c.number < oldest->number) oldest = &c;
  }
  if (oldest != nullptr) Cut(*oldest);
}

void Connections::Sample() {
  for (auto& [fd, connection] : open_) SampleOne(connection);
}

void Connections::SampleOne(Connection& connection) {
  const std::optional<SocketStats> now = connection.socket.Stats();
  if (!now) return;
  bytes_in_ += now->bytes_received - connection.stats.bytes_received;
  bytes_out_ += now->bytes_sent - connection.stats.bytes_sent;
  connection.stats = *now;
  if (connection.delivered_since_sample) {
    connection.delivered_since_sample = false;
    connection.received_at_last_message = now->bytes_received;
  }
  if (now->bytes_received - connection.received_at_last_message > limits_.unfinished_bytes) {
    Cut(connection);
  }
}

std::map<std::string, SocketStats> Connections::StatsByRoute() const {
  std::map<std::string, SocketStats> out;
  for (const auto& [fd, connection] : open_) {
    if (!connection.route.empty()) out[connection.route] = connection.stats;
  }
  return out;
}

std::map<WorkerKey, std::vector<std::string>> Connections::RoutesByUser() const {
  std::map<WorkerKey, std::vector<std::string>> out;
  for (const auto& [fd, connection] : open_) {
    if (!connection.route.empty() && !connection.cut) {
      out[connection.user].push_back(connection.route);
    }
  }
  return out;
}

}  // namespace longhaul
