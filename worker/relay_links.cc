#include "worker/relay_links.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/status_macros.h"

namespace longhaul {
namespace {

uint64_t ReadU64(ByteSpan bytes, size_t at) {
  uint64_t value = 0;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

// Tells the server above our route, so that it can answer before we have anything to say.
constexpr char kGreeting[] = "here";

std::vector<Frame> OneFrame(std::string bytes) {
  std::vector<Frame> frames;
  frames.emplace_back(std::move(bytes));
  return frames;
}

}  // namespace

std::vector<std::string> CutInParts(const pcn::Bytes& bytes) {
  std::vector<std::string> parts;
  const uint64_t total = bytes.size();
  for (uint64_t at = 0; at < total; at += kMaxPartBytes) {
    const size_t size = std::min<size_t>(kMaxPartBytes, total - at);
    std::string part(kPartHeaderBytes + size, '\0');
    std::memcpy(part.data(), &total, sizeof total);
    std::memcpy(part.data() + sizeof total, &at, sizeof at);
    std::memcpy(part.data() + kPartHeaderBytes, bytes.data() + at, size);
    parts.push_back(std::move(part));
  }
  return parts;
}

std::optional<pcn::Bytes> PartAssembler::Add(ByteSpan part) {
  if (part.size() <= kPartHeaderBytes) return std::nullopt;
  const uint64_t total = ReadU64(part, 0), at = ReadU64(part, sizeof(uint64_t));
  const ByteSpan piece = part.subspan(kPartHeaderBytes);
  if (at == 0) {
    bytes_.clear();
    total_ = total <= most_bytes_ ? total : 0;
  }
  const bool continues = total == total_ && at == bytes_.size();
  if (!continues || piece.size() > total_ - bytes_.size()) {
    bytes_.clear();
    total_ = 0;
    return std::nullopt;
  }
  const auto* first = reinterpret_cast<const uint8_t*>(piece.data());
  bytes_.insert(bytes_.end(), first, first + piece.size());
  if (bytes_.size() < total_) return std::nullopt;
  total_ = 0;
  return std::exchange(bytes_, {});
}

RelayLinks::RelayLinks(Options options) : options_(std::move(options)) {
  for (auto& parts : parts_) parts.emplace(options_.most_message_bytes);
}

absl::StatusOr<std::unique_ptr<RelayLinks>> RelayLinks::Start(Options options) {
  std::unique_ptr<RelayLinks> links(new RelayLinks(std::move(options)));
  ServerOptions server;
  server.listen = links->options_.listen;
  server.keys = links->options_.keys;
  server.key_table = &links->allowed_;
  server.on_message = [tell = links->options_.on_frames](Inbound&& in) {
    tell({true, std::move(in.frames), std::move(in.route)});
  };
  ASSIGN_OR_RETURN(links->server_, RouterServer::Start(std::move(server)));
  return links;
}

void RelayLinks::SetBelow(const WorkerKey& key) {
  if (key == below_) return;
  if (below_ != WorkerKey()) allowed_.Remove(below_);
  if (key != WorkerKey()) allowed_.Add(key, Role::kWorker);
  below_ = key;
  route_below_.clear();
  waiting_[0].clear();
}

absl::Status RelayLinks::SetAbove(const std::string& address, const WorkerKey& key) {
  if (key == above_ && address == above_address_) return absl::OkStatus();
  above_ = key;
  above_address_ = address;
  client_.reset();
  waiting_[1].clear();
  if (key == WorkerKey()) return absl::OkStatus();
  ClientOptions o;
  o.address = address;
  o.server_key = key;
  o.keys = options_.keys;
  o.on_message = [tell = options_.on_frames](std::vector<Frame>&& frames) {
    tell({false, std::move(frames), ""});
  };
  // The greeting goes out from OnFrames' thread: see the event of no frames.
  o.on_event = [tell = options_.on_frames](const ConnectionEvent& event) {
    if (event.change == ConnectionChange::kConnected) tell({false, {}, ""});
  };
  ASSIGN_OR_RETURN(client_, DealerClient::Start(std::move(o)));
  return absl::OkStatus();
}

bool RelayLinks::SendPart(const std::string& part, bool up) {
  if (up) return client_ != nullptr && client_->Send(OneFrame(part));
  return !route_below_.empty() && server_->Send(route_below_, OneFrame(part));
}

void RelayLinks::Send(const pcn::Message& message, bool up) {
  for (std::string& part : CutInParts(pcn::EncodeMessage(message))) {
    waiting_[up].push_back(std::move(part));
  }
  // Parts of a message that lost its beginning are dropped where they arrive.
  while (waiting_[up].size() > kMaxWaitingParts) waiting_[up].pop_front();
  Flush();
}

void RelayLinks::Flush() {
  for (const bool up : {false, true}) {
    while (!waiting_[up].empty() && SendPart(waiting_[up].front(), up)) waiting_[up].pop_front();
  }
}

std::optional<pcn::Message> RelayLinks::OnFrames(const Received& received) {
  if (received.from_below) route_below_ = received.route;
  if (received.frames.empty()) {
    if (client_ != nullptr) client_->Send(OneFrame(kGreeting));
    return std::nullopt;
  }
  if (received.frames.size() != 1) return std::nullopt;
  const auto whole = parts_[received.from_below ? 0 : 1]->Add(received.frames[0].bytes());
  return whole ? pcn::DecodeMessage(*whole) : std::nullopt;
}

}  // namespace longhaul
