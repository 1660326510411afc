#include "worker/relay_links.h"

#include <algorithm>
#include <chrono>
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

constexpr uint64_t kBackgroundBit = uint64_t{1} << 63;               // of the size of the whole
constexpr uint64_t kLeastBackgroundRate = 4 * kBackgroundPartBytes;  // bytes per second
constexpr double kBackgroundShare = 0.25;
constexpr Duration kMostCounted = Milliseconds(250);  // time without a part gives no more than this

// Tells the server above our route, so that it can answer before we have anything to say.
constexpr char kGreeting[] = "here";

std::vector<Frame> OneFrame(std::string bytes) {
  std::vector<Frame> frames;
  frames.emplace_back(std::move(bytes));
  return frames;
}

}  // namespace

std::vector<std::string> CutInParts(const pcn::Bytes& bytes, bool in_background) {
  std::vector<std::string> parts;
  const uint64_t total = bytes.size(), marked = total | (in_background ? kBackgroundBit : 0);
  const size_t most = in_background ? kBackgroundPartBytes : kMaxPartBytes;
  for (uint64_t at = 0; at < total; at += most) {
    const size_t size = std::min<size_t>(most, total - at);
    std::string part(kPartHeaderBytes + size, '\0');
    std::memcpy(part.data(), &marked, sizeof marked);
    std::memcpy(part.data() + sizeof marked, &at, sizeof at);
    std::memcpy(part.data() + kPartHeaderBytes, bytes.data() + at, size);
    parts.push_back(std::move(part));
  }
  return parts;
}

bool IsInBackground(ByteSpan part) {
  return part.size() >= kPartHeaderBytes && (ReadU64(part, 0) & kBackgroundBit) != 0;
}

std::optional<pcn::Bytes> PartAssembler::Add(ByteSpan part) {
  if (part.size() <= kPartHeaderBytes) return std::nullopt;
  const uint64_t total = ReadU64(part, 0) & ~kBackgroundBit, at = ReadU64(part, sizeof(uint64_t));
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
  for (auto& parts : background_parts_) parts.emplace(options_.most_message_bytes);
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
  background_[0].parts.clear();
}

absl::Status RelayLinks::SetAbove(const std::string& address, const WorkerKey& key) {
  if (key == above_ && address == above_address_) return absl::OkStatus();
  above_ = key;
  above_address_ = address;
  client_.reset();
  waiting_[1].clear();
  background_[1].parts.clear();
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
  const bool in_background = message.kind == pcn::MessageKind::kSnapshot;
  std::vector<std::string> parts = CutInParts(pcn::EncodeMessage(message), in_background);
  if (in_background) {
    background_[up] = {};
    for (std::string& part : parts) background_[up].parts.push_back(std::move(part));
    return;
  }
  for (std::string& part : parts) waiting_[up].push_back(std::move(part));
  // Parts of a message that lost its beginning are dropped where they arrive.
  while (waiting_[up].size() > kMaxWaitingParts) waiting_[up].pop_front();
  FlushMessages();
}

void RelayLinks::FlushMessages() {
  for (const bool up : {false, true}) {
    while (!waiting_[up].empty() && SendPart(waiting_[up].front(), up)) waiting_[up].pop_front();
  }
}

void RelayLinks::Flush(Duration now) {
  FlushMessages();
  for (const bool up : {false, true}) FlushBackground(up, now);
}

void RelayLinks::FlushBackground(bool up, Duration now) {
  Background& b = background_[up];
  if (b.parts.empty()) return;
  const Duration passed = std::min(now - b.counted.value_or(now), kMostCounted);
  b.counted = now;
  const double rate = std::max<double>(kLeastBackgroundRate, kBackgroundShare * BytesPerSecond(up));
  b.allowance_bytes += rate * std::chrono::duration<double>(passed).count();
  while (!b.parts.empty() && waiting_[up].empty() && b.allowance_bytes >= b.parts[0].size()) {
    if (!SendPart(b.parts[0], up)) return;
    b.allowance_bytes -= b.parts[0].size();
    b.parts.pop_front();
  }
}

uint64_t RelayLinks::BytesPerSecond(bool up) const {
  if (up) return client_ == nullptr ? 0 : client_->stats().delivery_rate_bytes_per_s;
  const auto stats = server_->Stats(route_below_);
  return stats ? stats->delivery_rate_bytes_per_s : 0;
}

bool RelayLinks::sends_in_background() const {
  return !background_[0].parts.empty() || !background_[1].parts.empty();
}

std::optional<pcn::Message> RelayLinks::OnFrames(const Received& received) {
  if (received.from_below) route_below_ = received.route;
  if (received.frames.empty()) {
    if (client_ != nullptr) client_->Send(OneFrame(kGreeting));
    return std::nullopt;
  }
  if (received.frames.size() != 1) return std::nullopt;
  const ByteSpan part = received.frames[0].bytes();
  auto& parts = IsInBackground(part) ? background_parts_ : parts_;
  const auto whole = parts[received.from_below ? 0 : 1]->Add(part);
  return whole ? pcn::DecodeMessage(*whole) : std::nullopt;
}

}  // namespace longhaul
