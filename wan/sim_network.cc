#include "wan/sim_network.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

namespace longhaul::wan {
namespace {

constexpr uint64_t kSegmentPayload = 1448;
constexpr uint64_t kSegmentHeaders = 52;
constexpr uint64_t kMessageOverhead = 70;  // ZMTP frames and CURVE boxes
constexpr uint64_t kPieceBytes = 16 * kSegmentPayload;
constexpr double kFirstWindow = 10 * kSegmentPayload;  // RFC 6928
constexpr double kGain = 1.25;
constexpr double kStockWindow = 4.0 * 1024 * 1024;
constexpr double kMathis = 1.22;
constexpr Duration kLeastTimeout = Milliseconds(200);

// Losses are the stream's business: the network itself keeps everything.
std::vector<HostShape> WithoutLoss(std::vector<HostShape> hosts) {
  for (HostShape& host : hosts) host.up.loss = host.down.loss = 0;
  return hosts;
}
std::vector<BottleneckShape> WithoutLoss(std::vector<BottleneckShape> bottlenecks) {
  for (BottleneckShape& b : bottlenecks) b.link.loss = 0;
  return bottlenecks;
}

double Unit(uint64_t draw) { return static_cast<double>(draw >> 11) * 0x1p-53; }

}  // namespace

SimNetwork::SimNetwork(sim::EventQueue& queue, const Scenario& scenario)
    : queue_(queue),
      scenario_(scenario),
      network_(WithoutLoss(scenario.HostShapes()), WithoutLoss(scenario.BottleneckShapes()),
               scenario.seed, Network::Overload::kWait),
      rng_(Draw(scenario.seed, {0x10551})) {}

void SimNetwork::Send(uint32_t from, uint32_t to, bool bulk, uint64_t bytes,
                      std::function<void()> arrived) {
  std::shared_ptr<Stream>& stream = streams_[{from, to, bulk}];
  if (!stream) {
    stream = std::make_shared<Stream>();
    stream->from = from;
    stream->to = to;
    stream->loss = LossOf(from, to);
    stream->window = kFirstWindow;
  }
  stream->waiting.push_back({bytes + kMessageOverhead, std::move(arrived)});
  Pump(stream);
}

void SimNetwork::Forget(uint32_t node) {
  std::erase_if(streams_, [&](const auto& s) {
    const auto& [from, to, bulk] = s.first;
    if (from != node && to != node) return false;
    s.second->waiting.clear();  // acknowledgements may still come
    return true;
  });
  for (auto& [number, piece] : pieces_) {
    if (piece.stream->from == node || piece.stream->to == node) piece.arrived = nullptr;
  }
}

void SimNetwork::Apply(const Schedule::Step& step) {
  ApplyToNetwork(scenario_, step, network_);
  for (const auto& [key, stream] : streams_) Pump(stream);
}

Duration SimNetwork::RoundTrip(const Stream& s) const {
  Duration trip{0};
  for (uint32_t link : network_.WayOf(s.from, s.to)) trip += network_.links()[link].shape().delay;
  for (uint32_t link : network_.WayOf(s.to, s.from)) trip += network_.links()[link].shape().delay;
  return trip;
}

double SimNetwork::LossOf(uint32_t from, uint32_t to) const {
  const std::vector<HostShape> hosts = scenario_.HostShapes();
  double kept = (1 - hosts[from].up.loss) * (1 - hosts[to].down.loss);
  for (const BottleneckShape& b : scenario_.BottleneckShapes()) {
    const auto has = [&](uint32_t n) { return std::count(b.members.begin(), b.members.end(), n); };
    if (has(from) != has(to)) kept *= 1 - b.link.loss;
  }
  return 1 - kept;
}

double SimNetwork::MostWindow(const Stream& s) const {
  uint64_t rate = std::numeric_limits<uint64_t>::max();
  for (uint32_t link : network_.WayOf(s.from, s.to)) {
    rate = std::min(rate, network_.links()[link].shape().bits_per_s);
  }
  const double trip_s = std::chrono::duration<double>(RoundTrip(s)).count();
  double most = kGain * static_cast<double>(rate) / 8 * trip_s;
  if (scenario_.nodes[s.from].kernel == HostKernel::kStock) {
    most = std::min(most, kStockWindow);
    if (s.loss > 0) most = std::min(most, kSegmentPayload * kMathis / std::sqrt(s.loss));
  }
  return std::max(most, kFirstWindow);
}

bool SimNetwork::Down(const Stream& s) const {
  const auto& way = network_.WayOf(s.from, s.to);
  return std::any_of(way.begin(), way.end(),
                     [&](uint32_t link) { return network_.links()[link].down(); });
}

void SimNetwork::Pump(const std::shared_ptr<Stream>& stream) {
  Stream& s = *stream;
  if (scenario_.nodes[s.from].kernel == HostKernel::kStock && s.under_way == 0 &&
      Now() - s.last_sent > RoundTrip(s) + kLeastTimeout) {
    s.window = kFirstWindow;  // tcp_slow_start_after_idle
  }
  while (!s.waiting.empty() && !Down(s) && static_cast<double>(s.under_way) < s.window) {
    SendPiece(stream);
  }
}

void SimNetwork::SendPiece(const std::shared_ptr<Stream>& stream) {
  Message& message = stream->waiting.front();
  Piece piece{stream, std::min(message.left, kPieceBytes), 0, nullptr};
  piece.segments = static_cast<uint32_t>((piece.bytes + kSegmentPayload - 1) / kSegmentPayload);
  message.left -= piece.bytes;
  if (message.left == 0) {
    piece.arrived = std::move(message.arrived);
    stream->waiting.pop_front();
  }
  stream->under_way += piece.bytes;
  stream->last_sent = Now();
  Parcel parcel;
  parcel.from = stream->from;
  parcel.to = stream->to;
  parcel.segments = piece.segments;
  parcel.wire_bytes = static_cast<uint32_t>(piece.bytes + piece.segments * kSegmentHeaders);
  parcel.segment_bytes = static_cast<uint32_t>(
      std::min<uint64_t>(parcel.wire_bytes, kSegmentPayload + kSegmentHeaders));
  const uint64_t number = next_piece_++;
  parcel.bytes.resize(sizeof number);
  std::memcpy(parcel.bytes.data(), &number, sizeof number);
  pieces_.emplace(number, std::move(piece));
  network_.Send(Now(), std::move(parcel));
  Arm();
}

void SimNetwork::Arm() {
  const std::optional<Duration> due = network_.NextDue();
  if (!due || (armed_ && *armed_ <= *due)) return;
  armed_ = due;
  queue_.At(Timestamp{*due}, [this, at = *due] {
    if (armed_ == at) armed_.reset();
    DeliverDue();
  });
}

void SimNetwork::DeliverDue() {
  while (auto delivery = network_.Receive(Now())) {
    uint64_t number;
    std::memcpy(&number, delivery->parcel.bytes.data(), sizeof number);
    const auto it = pieces_.find(number);
    Piece piece = std::move(it->second);
    pieces_.erase(it);
    Arrive(std::move(piece));
  }
  Arm();
}

void SimNetwork::Arrive(Piece piece) {
  Stream& s = *piece.stream;
  const double all_there = std::pow(1 - s.loss, piece.segments);
  Timestamp at = queue_.now();
  if (all_there < 1 && Unit(rng_.Next()) >= all_there) at = at + RoundTrip(s);
  s.in_order = std::max(s.in_order, at);
  queue_.At(s.in_order, [this, piece = std::move(piece)] {
    if (piece.arrived) piece.arrived();
    queue_.After(RoundTrip(*piece.stream) / 2, [this, stream = piece.stream, bytes = piece.bytes] {
      Acknowledge(stream, bytes);
    });
  });
}

void SimNetwork::Acknowledge(const std::shared_ptr<Stream>& stream, uint64_t bytes) {
  stream->under_way -= bytes;
  stream->window = std::min(stream->window + static_cast<double>(bytes), MostWindow(*stream));
  Pump(stream);
}

}  // namespace longhaul::wan
