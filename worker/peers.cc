#include "worker/peers.h"

#include <algorithm>

#include "common/log.h"
#include "common/status_macros.h"
#include "proto/relay.h"

namespace longhaul {
namespace {

std::vector<Frame> Greeting() {
  std::vector<Frame> frames;
  frames.emplace_back(EncodeRelayHeader(WorkerKey{}));
  return frames;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Peers>> Peers::Start(Options options) {
  std::unique_ptr<Peers> peers(new Peers(std::move(options)));
  if (!peers->options_.listen.empty()) RETURN_IF_ERROR(peers->Listen());
  return peers;
}

Peers::~Peers() { Stop(); }

void Peers::Stop() {
  std::map<WorkerKey, Link> links;
  {
    std::lock_guard lock(mutex_);
    links.swap(links_);
    bulk_.reset();
  }
  links.clear();
  server_.reset();
}

absl::Status Peers::Listen() {
  ServerOptions o;
  o.listen = options_.listen;
  o.keys = options_.keys;
  o.key_table = &table_;
  o.on_message = [this](Inbound&& in) { OnInbound(std::move(in)); };
  o.on_room = [this](const std::string& route) {
    options_.on_room();
    options_.on_route_room(route);
  };
  ASSIGN_OR_RETURN(server_, RouterServer::Start(std::move(o)));
  return absl::OkStatus();
}

std::shared_ptr<DealerClient> Peers::Connect(const PeerView& peer) {
  ClientOptions o;
  o.address = peer.address;
  o.server_key = peer.key;
  o.keys = options_.keys;
  o.uplink_bytes_per_s = options_.uplink_bytes_per_s;
  o.on_message = [this, key = peer.key](std::vector<Frame>&& frames) {
    options_.on_message(key, std::move(frames));
  };
  o.on_event = [this, key = peer.key](const ConnectionEvent& event) { OnEvent(key, event); };
  o.on_room = options_.on_room;
  absl::StatusOr<std::unique_ptr<DealerClient>> client = DealerClient::Start(std::move(o));
  if (client.ok()) return std::move(*client);
  LogWarning("reducer at " + peer.address + ": " + std::string(client.status().message()));
  return nullptr;
}

void Peers::Update(const std::vector<PeerView>& peers) {
  std::vector<std::shared_ptr<DealerClient>>
      ended;  // outlive the lock: their threads end with them
  std::vector<WorkerKey> admitted;
  for (const PeerView& peer : peers) {
    table_.Add(peer.key, Role::kWorker);
    admitted.push_back(peer.key);
    if (peer.address.empty() || peer.key == options_.keys.public_key) continue;
    {
      std::lock_guard lock(mutex_);
      Link& link = links_[peer.key];
      if (link.address == peer.address) continue;
      ended.push_back(std::exchange(link.client, nullptr));
      link = {.address = peer.address};
    }
    std::shared_ptr<DealerClient> client = Connect(peer);
    std::lock_guard lock(mutex_);
    Link& link = links_[peer.key];
    link.client = std::move(client);
    link.tried = link.tried || !link.client;
    if (link.up && link.client) link.client->Send(Greeting());  // it was quicker than we
  }
  std::lock_guard lock(mutex_);
  for (auto it = links_.begin(); it != links_.end();) {
    const bool named = std::any_of(peers.begin(), peers.end(), [&](const PeerView& p) {
      return p.key == it->first && !p.address.empty();
    });
    if (!named) ended.push_back(it->second.client);
    it = named ? std::next(it) : links_.erase(it);
  }
  for (const WorkerKey& key : admitted_) {
    if (std::find(admitted.begin(), admitted.end(), key) == admitted.end()) table_.Remove(key);
  }
  admitted_ = std::move(admitted);
}

void Peers::SetRelay(std::shared_ptr<DealerClient> bulk) {
  std::lock_guard lock(mutex_);
  bulk_ = std::move(bulk);
}

void Peers::Greet() {
  std::lock_guard lock(mutex_);
  if (bulk_) bulk_->Send(Greeting());
}

void Peers::OnEvent(const WorkerKey& key, const ConnectionEvent& event) {
  const bool up = event.change == ConnectionChange::kConnected;
  bool news = false;
  {
    std::lock_guard lock(mutex_);
    auto link = links_.find(key);
    if (link == links_.end()) return;
    news = link->second.up != up || !link->second.tried;
    link->second.tried = true;
    link->second.up = up;
    if (up && link->second.client) link->second.client->Send(Greeting());
  }
  if (news)
    LogDebug("reducer: " + std::string(up ? "reached" : "not reached, relayed: ") +
             (up ? "" : event.reason));
  if (news) options_.on_connected(key);
}

std::vector<Frame> Peers::AsDataRequest(Frame&& envelope) {
  std::vector<Frame> frames = Greeting();
  frames.push_back(std::move(envelope));
  return frames;
}

bool Peers::SendTo(const std::string& route, std::vector<Frame>&& frames) {
  return server_ && server_->Send(route, std::move(frames));
}

void Peers::OnInbound(Inbound&& in) {
  if (in.frames.size() == 2 && DecodeRelayHeader(in.frames[0].bytes()) == WorkerKey{})
    return options_.on_data_request(in.user, in.route, std::move(in.frames[1]));
  bool news = false;
  {
    std::lock_guard lock(mutex_);
    std::string& route = routes_[in.user];
    news = route != in.route;
    route = in.route;
  }
  if (news) options_.on_connected(in.user);
  if (in.frames.size() == 1 && DecodeRelayHeader(in.frames[0].bytes())) return;  // a greeting
  options_.on_message(in.user, std::move(in.frames));
}

bool Peers::Send(const WorkerKey& to, std::vector<Frame>&& frames) {
  if (to == options_.keys.public_key) {
    options_.on_message(to, std::move(frames));
    return true;
  }
  std::lock_guard lock(mutex_);
  if (to == WorkerKey{}) return bulk_ && bulk_->Send(std::move(frames));
  auto link = links_.find(to);
  if (link != links_.end() && link->second.client) {
    if (link->second.up) return link->second.client->Send(std::move(frames));
    if (!link->second.tried) return false;
  }
  auto route = routes_.find(to);
  if (server_ && route != routes_.end() && server_->Stats(route->second))
    return server_->Send(route->second, std::move(frames));
  if (!bulk_) return false;
  std::vector<Frame> relayed;
  relayed.emplace_back(EncodeRelayHeader(to));
  for (Frame& frame : frames) relayed.push_back(std::move(frame));
  return bulk_->Send(std::move(relayed));
}

bool Peers::TakeRelayed(std::vector<Frame>& frames) {
  const std::optional<WorkerKey> from = DecodeRelayHeader(frames[0].bytes());
  if (!from) return false;
  frames.erase(frames.begin());
  if (!frames.empty()) options_.on_message(*from, std::move(frames));
  return true;
}

void Peers::Cut(const WorkerKey& from) {
  LogWarning("another worker sent more than it was granted: its connections are cut");
  if (server_) server_->Cut(from, CutReason::kCreditOverrun);
}

LinkRow Peers::LinkTo(const WorkerKey& to) const {
  std::lock_guard lock(mutex_);
  if (to == WorkerKey{}) return bulk_ ? SumLinks("", std::vector{bulk_->stats()}) : LinkRow();
  auto link = links_.find(to);
  if (link != links_.end() && link->second.client && link->second.up)
    return SumLinks("", std::vector{link->second.client->stats()});
  auto route = routes_.find(to);
  const auto stats =
      server_ && route != routes_.end() ? server_->Stats(route->second) : std::nullopt;
  return stats ? SumLinks("", std::vector{*stats}) : LinkRow();
}

std::vector<PeerLink> Peers::Links() const {
  std::lock_guard lock(mutex_);
  std::vector<PeerLink> links;
  for (const auto& [key, link] : links_) {
    if (!link.tried || links.size() >= kMaxPeers) continue;
    links.push_back({key, link.up});
    if (link.up && link.client)
      links.back().bytes_per_s = link.client->stats().delivery_rate_bytes_per_s;
  }
  return links;
}

}  // namespace longhaul
