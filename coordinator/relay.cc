#include "coordinator/relay.h"

#include "proto/relay.h"

namespace longhaul {
namespace {

uint64_t BytesOf(const std::vector<Frame>& frames) {
  uint64_t bytes = 0;
  for (const Frame& frame : frames) bytes += frame.size();
  return bytes;
}

}  // namespace

void Relay::SetReducers(std::set<WorkerKey> reducers) {
  std::lock_guard lock(mutex_);
  reducers_ = std::move(reducers);
}

bool Relay::Allowed(const WorkerKey& from, const WorkerKey& to) const {
  std::lock_guard lock(mutex_);
  return reducers_.contains(from) || reducers_.contains(to);
}

std::string Relay::RouteOf(const WorkerKey& key) const {
  std::lock_guard lock(mutex_);
  auto route = routes_.find(key);
  return route == routes_.end() ? "" : route->second;
}

bool Relay::Take(Inbound& inbound) {
  const std::optional<WorkerKey> to = DecodeRelayHeader(inbound.frames[0].bytes());
  if (!to || inbound.role != Role::kWorker) return false;
  if (*to == WorkerKey{}) {
    Line& line = lines_[inbound.user];
    line.route = inbound.route;
    {
      std::lock_guard lock(mutex_);
      routes_[inbound.user] = inbound.route;
    }
    Flush(line);
    return true;
  }
  auto line = lines_.find(*to);
  const uint64_t bytes = BytesOf(inbound.frames);
  if (inbound.frames.size() < 2 || line == lines_.end() || !Allowed(inbound.user, *to) ||
      line->second.waiting_bytes + bytes > kMaxRelayBytes) {
    ++dropped_;
    return true;
  }
  inbound.frames[0] = Frame(EncodeRelayHeader(inbound.user));
  line->second.waiting.push_back(std::move(inbound.frames));
  line->second.waiting_bytes += bytes;
  Flush(line->second);
  return true;
}

void Relay::Room(const std::string& route) {
  for (auto& [key, line] : lines_) {
    if (line.route == route) Flush(line);
  }
}

void Relay::Flush(Line& line) {
  while (!line.waiting.empty()) {
    const uint64_t bytes = BytesOf(line.waiting.front());
    if (!send_(line.route, std::move(line.waiting.front()))) return;
    line.waiting.pop_front();
    line.waiting_bytes -= bytes;
    bytes_ += bytes;
  }
}

}  // namespace longhaul
