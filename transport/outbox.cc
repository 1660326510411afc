#include "transport/outbox.h"

namespace longhaul {

bool Outbox::Push(const std::string& route, Message&& message) {
  const uint64_t size = TotalBytes(message);
  std::lock_guard lock(mutex_);
  const auto it = queues_.find(route);
  const size_t queued = it == queues_.end() ? 0 : it->second.size();
  if (queued >= max_messages_per_route_ || (bytes_ > 0 && bytes_ + size > max_bytes_)) {
    refused_.insert(route);
    return false;
  }
  queues_[route].push_back(std::move(message));
  bytes_ += size;
  return true;
}

size_t Outbox::Queued(const std::string& route) const {
  std::lock_guard lock(mutex_);
  const auto it = queues_.find(route);
  return it == queues_.end() ? 0 : it->second.size();
}

std::vector<std::string> Outbox::Routes() const {
  std::lock_guard lock(mutex_);
  std::vector<std::string> out;
  out.reserve(queues_.size());
  for (const auto& [route, queue] : queues_) out.push_back(route);
  return out;
}

bool Outbox::Take(const std::string& route, Message* out) {
  std::lock_guard lock(mutex_);
  const auto it = queues_.find(route);
  if (it == queues_.end()) return false;
  *out = std::move(it->second.front());
  it->second.pop_front();
  if (it->second.empty()) queues_.erase(it);
  bytes_ -= TotalBytes(*out);
  return true;
}

void Outbox::PutBack(const std::string& route, Message&& message) {
  std::lock_guard lock(mutex_);
  bytes_ += TotalBytes(message);
  queues_[route].push_front(std::move(message));
}

size_t Outbox::Forget(const std::string& route) {
  std::lock_guard lock(mutex_);
  refused_.erase(route);
  const auto it = queues_.find(route);
  if (it == queues_.end()) return 0;
  const size_t messages = it->second.size();
  for (const Message& message : it->second) bytes_ -= TotalBytes(message);
  queues_.erase(it);
  return messages;
}

bool Outbox::empty() const {
  std::lock_guard lock(mutex_);
  return queues_.empty();
}

std::vector<std::string> Outbox::TakeRoutesWithRoom() {
  std::lock_guard lock(mutex_);
  std::vector<std::string> out;
  if (bytes_ > max_bytes_ / 2) return out;
  for (auto it = refused_.begin(); it != refused_.end();) {
    const auto queue = queues_.find(*it);
    if (queue != queues_.end() && queue->second.size() > max_messages_per_route_ / 2) {
      ++it;
      continue;
    }
    out.push_back(*it);
    it = refused_.erase(it);
  }
  return out;
}

}  // namespace longhaul
