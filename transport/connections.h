// The TCP connections of a server, as its monitor and its messages tell: how many there are, which
// have never delivered a message, which send without ever completing one, and the kernel's byte
// counts. Cuts what breaks a limit. Owned by the socket thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/ids.h"
#include "transport/cut_reason.h"
#include "transport/tcp_socket.h"

namespace longhaul {

class Connections {
 public:
  struct Limits {
    size_t connections = 0;
    size_t silent = 0;
    uint64_t unfinished_bytes = 0;
  };

  explicit Connections(const Limits& limits) : limits_(limits) {}

  void OnAccepted(int fd);
  void OnClosed(int fd);
  // A whole message came from `fd`, on this route.
  void OnMessage(int fd, const std::string& route, const WorkerKey& user);
  // Ends the connections of a user that have delivered a message.
  void CutUser(const WorkerKey& user, CutReason reason);
  // Looks at the next `most` connections; true when that was the last of them, and the next call
  // begins again. To be called after pending messages were read, for a whole pass some times a
  // second. In parts, because each costs system calls.
  bool SampleSome(size_t most);

  size_t size() const { return open_.size(); }
  const CutCounts& cuts() const { return cuts_; }          // by CutReason
  uint64_t ended_silent() const { return ended_silent_; }  // without having delivered a message
  uint64_t socket_bytes_in() const { return bytes_in_; }
  uint64_t socket_bytes_out() const { return bytes_out_; }
  std::map<std::string, SocketStats> StatsByRoute() const;
  // Open connections that have delivered a message, by user.
  std::map<WorkerKey, std::vector<std::string>> RoutesByUser() const;

 private:
  struct Connection {
    explicit Connection(int fd) : socket(fd) {}
    TcpSocket socket;
    uint64_t number = 0;  // in order of arrival
    bool silent = true;   // not cut, no message yet
    std::string route;    // "": has not delivered a message yet
    WorkerKey user;       // who sent it
    bool delivered_since_sample = false;
    uint64_t received_at_last_message = 0;
    SocketStats stats;
    bool cut = false;
  };

  void Cut(Connection& connection, CutReason reason);
  void CutOneSilent();
  void EndSilence(Connection& connection);
  void SampleOne(Connection& connection);

  Limits limits_;
  std::map<int, Connection> open_;
  size_t silent_ = 0;
  // Those by the host they come from and in order of arrival: a flood costs little per connection.
  std::map<std::string, std::map<uint64_t, int>> silent_by_host_;
  uint64_t next_number_ = 0;
  int next_sampled_ = 0;  // descriptor from which SampleSome goes on
  CutCounts cuts_{};
  uint64_t ended_silent_ = 0;
  uint64_t bytes_in_ = 0;
  uint64_t bytes_out_ = 0;
};

}  // namespace longhaul
