#include "worker/source_links.h"

#include <algorithm>

namespace longhaul {

bool SourceLinks::MakeRoom() {
  const auto oldest =
      std::min_element(links_.begin(), links_.end(),
                       [](const auto& a, const auto& b) { return a.second.used < b.second.used; });
  if (links_.size() < kMaxLinks) return true;
  if (Clock::now() - oldest->second.used < kIdle) return false;
  links_.erase(oldest);
  return true;
}

bool SourceLinks::Send(const PeerView& holder, std::vector<Frame>&& frames) {
  auto it = links_.find(holder.key);
  if (it != links_.end() && it->second.address != holder.address) {
    links_.erase(it);
    it = links_.end();
  }
  if (it == links_.end()) {
    if (!MakeRoom()) return false;
    ClientOptions o;
    o.address = holder.address;
    o.server_key = holder.key;
    o.keys = options_.keys;
    o.on_message = [this, key = holder.key](std::vector<Frame>&& received) {
      options_.on_message(key, std::move(received));
    };
    o.on_event = [this, key = holder.key](const ConnectionEvent& event) {
      options_.on_change(key, event.change == ConnectionChange::kConnected);
    };
    absl::StatusOr<std::unique_ptr<DealerClient>> client = DealerClient::Start(std::move(o));
    if (!client.ok()) return false;
    it = links_.emplace(holder.key, Link{holder.address, std::move(*client), {}}).first;
  }
  it->second.used = Clock::now();
  it->second.client->Send(std::move(frames));
  return true;
}

}  // namespace longhaul
