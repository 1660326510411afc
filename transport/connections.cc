#include "transport/connections.h"

#include <algorithm>

namespace longhaul {

void Connections::OnAccepted(int fd) {
  OnClosed(fd);  // if its end went unnoticed
  Connection& connection = open_.emplace(fd, Connection(fd)).first->second;
  connection.number = next_number_++;
  silent_by_host_[connection.socket.peer_host()][connection.number] = fd;
  ++silent_;
  if (open_.size() > limits_.connections) {
    Cut(connection, CutReason::kTooMany);
  } else if (silent_ > limits_.silent) {
    CutOneSilent();
  }
}

void Connections::OnClosed(int fd) {
  const auto it = open_.find(fd);
  if (it == open_.end()) return;
  if (it->second.route.empty()) ++ended_silent_;
  EndSilence(it->second);
  open_.erase(it);
}

void Connections::EndSilence(Connection& connection) {
  if (!connection.silent) return;
  connection.silent = false;
  --silent_;
  const auto host = silent_by_host_.find(connection.socket.peer_host());
  host->second.erase(connection.number);
  if (host->second.empty()) silent_by_host_.erase(host);
}

void Connections::OnMessage(int fd, const std::string& route, const WorkerKey& user) {
  const auto it = open_.find(fd);
  if (it == open_.end()) return;
  Connection& connection = it->second;
  // Not before: strangers are not worth the system calls. Nothing to tune: the descriptor is
  // another connection's by now, of which we have not heard yet.
  if (connection.route.empty() && connection.socket.Tune({}).empty()) return;
  EndSilence(connection);
  connection.route = route;
  connection.user = user;
  connection.delivered_since_sample = true;
}

void Connections::CutUser(const WorkerKey& user, CutReason reason) {
  for (auto& [fd, connection] : open_) {
    if (!connection.route.empty() && connection.user == user) Cut(connection, reason);
  }
}

void Connections::Cut(Connection& connection, CutReason reason) {
  if (connection.cut) return;
  EndSilence(connection);
  connection.cut = true;
  connection.socket.Cut();
  ++cuts_[static_cast<size_t>(reason)];
}

// The oldest of the address that has most silent connections: whoever floods us loses his own.
void Connections::CutOneSilent() {
  const auto most = std::max_element(
      silent_by_host_.begin(), silent_by_host_.end(),
      [](const auto& a, const auto& b) { return a.second.size() < b.second.size(); });
  if (most == silent_by_host_.end()) return;
  Cut(open_.at(most->second.begin()->second), CutReason::kSilent);
}

bool Connections::SampleSome(size_t most) {
  auto it = open_.lower_bound(next_sampled_);
  for (; most > 0 && it != open_.end(); --most, ++it) SampleOne(it->second);
  next_sampled_ = it == open_.end() ? 0 : it->first;
  return it == open_.end();
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
    Cut(connection, CutReason::kEndlessMessage);
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
