// Messages waiting for their connections, a queue per route, with limits. Thread-safe; one thread
// takes. A message is either in here or with the taker, and order within a route is kept because
// the taker puts a message that did not fit back in front.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "transport/frame.h"

namespace longhaul {

class Outbox {
 public:
  using Message = std::vector<Frame>;

  Outbox(size_t max_messages_per_route, uint64_t max_bytes)
      : max_messages_per_route_(max_messages_per_route), max_bytes_(max_bytes) {}

  // False when full; the message is then untouched. A message is taken when nothing is queued,
  // however long it is.
  bool Push(const std::string& route, Message&& message);

  // Messages that wait for the route.
  size_t Queued(const std::string& route) const;
  std::vector<std::string> Routes() const;  // that have messages
  bool Take(const std::string& route, Message* out);
  void PutBack(const std::string& route, Message&& message);
  // Drops what is queued for the route; how many messages.
  size_t Forget(const std::string& route);
  bool empty() const;

  // Routes for which Push said no and that have room again: half of both limits. Each is told once.
  std::vector<std::string> TakeRoutesWithRoom();

 private:
  const size_t max_messages_per_route_;
  const uint64_t max_bytes_;
  mutable std::mutex mutex_;
  std::map<std::string, std::deque<Message>> queues_;  // no empty queues
  std::set<std::string> refused_;
  uint64_t bytes_ = 0;
};

}  // namespace longhaul
