#include "bench/wan_peer.h"

#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "absl/strings/str_cat.h"
#include "common/bounded_queue.h"
#include "common/bytes.h"
#include "common/rng.h"
#include "common/status_macros.h"
#include "transport/link_estimate.h"
#include "transport/server.h"
#include "transport/striped_client.h"

namespace longhaul {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint16_t kPort = 5700;  // of a network of our own
constexpr Duration kTick = Milliseconds(2);
constexpr uint64_t kLeastWindow = 512 * 1024;
constexpr Duration kLookEvery = Milliseconds(50);
constexpr Duration kHeartbeatEvery = Milliseconds(20);
constexpr Duration kGiveUp = Seconds(120);       // without progress
constexpr Duration kLinger = Milliseconds(500);  // for the last results of others

enum class Kind : uint32_t { kHello = 0, kPut = 1, kResult = 2, kHeartbeat = 3 };

struct Header {
  Kind kind = Kind::kHello;
  uint32_t round = 0;
  uint32_t rank = 0;  // hello: who speaks
  uint32_t chunk = 0;
};

// All peers of a benchmark know each other.
CurveKeyPair KeysOf(uint32_t rank) {
  std::array<uint8_t, 32> secret;
  for (size_t i = 0; i < secret.size(); ++i) {
    secret[i] = static_cast<uint8_t>(Draw(0x77616E, {rank, i}));
  }
  return CurveKeyPair::FromSecret(secret);
}

Frame ToFrame(const Header& header) {
  std::string bytes(sizeof header, '\0');
  std::memcpy(bytes.data(), &header, sizeof header);
  return Frame(std::move(bytes));
}

double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) { return t.tv_sec + t.tv_usec * 1e-6; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// Small whole numbers: sums are exact in float32, in any order.
float Value(uint32_t rank, size_t i) { return static_cast<float>(1 + rank + (i & 7)); }

// Asks another peer every now and then whether it is there, on a connection of its own, as a worker
// has one for control. Times are taken on the socket thread.
class Heartbeats {
 public:
  absl::Status Start(const std::string& address, const WorkerKey& server,
                     const CurveKeyPair& keys) {
    ClientOptions options;
    options.address = address;
    options.server_key = server;
    options.keys = keys;
    options.reconnect_most = Milliseconds(500);
    options.on_event = [](const ConnectionEvent&) {};
    options.on_message = [this](std::vector<Frame>&& frames) { Take(frames); };
    ASSIGN_OR_RETURN(client_, DealerClient::Start(std::move(options)));
    return absl::OkStatus();
  }

  void Beat(uint32_t round, uint32_t rank) {
    const auto now = Clock::now();
    if (!client_ || now < next_) return;
    next_ = now + kHeartbeatEvery;
    std::vector<Frame> frames;
    frames.push_back(ToFrame({Kind::kHeartbeat, round, rank, next_number_}));
    {
      std::lock_guard lock(mutex_);
      sent_[next_number_++] = now;
    }
    if (client_->Send(std::move(frames))) return;
    std::lock_guard lock(mutex_);
    sent_.erase(next_number_ - 1);
  }

  // Of those answered since the last call.
  std::vector<double> TakeTimes() {
    std::lock_guard lock(mutex_);
    return std::exchange(times_ms_, {});
  }

 private:
  void Take(const std::vector<Frame>& frames) {
    Header header;
    if (frames[0].size() != sizeof header) return;
    std::memcpy(&header, frames[0].bytes().data(), sizeof header);
    std::lock_guard lock(mutex_);
    const auto it = sent_.find(header.chunk);
    if (it == sent_.end()) return;
    times_ms_.push_back(
        std::chrono::duration<double, std::milli>(Clock::now() - it->second).count());
    sent_.erase(it);
  }

  std::mutex mutex_;
  std::map<uint32_t, Clock::time_point> sent_;
  std::vector<double> times_ms_;
  Clock::time_point next_;
  uint32_t next_number_ = 1;
  std::unique_ptr<DealerClient> client_;  // last: stops first
};

class Peer {
 public:
  explicit Peer(const WanPeerOptions& options)
      : o_(options),
        peers_(static_cast<uint32_t>(options.hosts.size())),
        input_(options.bytes / sizeof(float)),
        output_(input_.size()),
        clients_(peers_),
        routes_(peers_),
        results_(peers_),
        next_put_(peers_),
        outstanding_(peers_),
        received_(peers_) {
    for (size_t i = 0; i < input_.size(); ++i) input_[i] = Value(o_.rank, i);
    CutSlices();
  }

  absl::Status Start() {
    ServerOptions server;
    server.listen = absl::StrCat(o_.hosts[o_.rank], ":", kPort);
    server.keys = KeysOf(o_.rank);
    server.key_table = &table_;
    // Short, so that a slow connection takes less; long enough for the server's next look.
    server.max_queued_messages_per_route = 4;
    server.high_water_messages = 4;
    server.on_message = [this](Inbound&& in) {
      if (IsHeartbeat(in)) return Answer(std::move(in));
      events_.Push({true, 0, std::move(in.route), std::move(in.frames)});
    };
    server.on_room = [this](const std::string&) { events_.TryPush({}); };
    for (uint32_t rank = 0; rank < peers_; ++rank) {
      table_.Add(KeysOf(rank).public_key, Role::kWorker);
    }
    ASSIGN_OR_RETURN(server_, RouterServer::Start(std::move(server)));
    answering_ = server_.get();
    for (uint32_t rank = 0; rank < peers_; ++rank) {
      if (rank != o_.rank) RETURN_IF_ERROR(Connect(rank));
    }
    const uint32_t next = (o_.rank + 1) % peers_;
    if (!o_.heartbeats) return absl::OkStatus();
    return heartbeats_.Start(absl::StrCat(o_.hosts[next], ":", kPort), KeysOf(next).public_key,
                             KeysOf(o_.rank));
  }

  // Round 0 moves one chunk per slice: connections open.
  absl::StatusOr<WanPeerRound> Round(uint32_t round) {
    round_ = round;
    Reset();
    const auto begin = Clock::now();
    const double cpu = CpuSeconds();
    progress_ = begin;
    heartbeats_.TakeTimes();  // of the pause before
    for (Event& event : std::exchange(early_, {})) Handle(std::move(event));
    while (!Done()) {
      Pump();
      if (auto event = events_.PopFor(kTick)) {
        do {
          Handle(std::move(*event));
          event = events_.PopFor(Duration(0));
        } while (event);
      }
      if (Clock::now() - progress_ > kGiveUp) {
        return absl::DeadlineExceededError(absl::StrCat("round ", round, " stands still"));
      }
    }
    WanPeerRound out;
    out.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    out.cpu_seconds = CpuSeconds() - cpu;
    out.correct = round == 0 || Correct();
    out.heartbeat_ms = heartbeats_.TakeTimes();
    Describe(&out);
    return out;
  }

  // Others may still wait for results of ours.
  void Finish() {
    const auto until = Clock::now() + kLinger;
    while (Clock::now() < until) {
      Pump();
      if (auto event = events_.PopFor(kTick)) Handle(std::move(*event));
    }
  }

 private:
  struct Event {
    bool at_server = false;
    uint32_t rank = 0;  // of the server that a client is connected to
    std::string route;
    std::vector<Frame> frames;  // empty: there is room somewhere
  };
  struct Sum {
    std::vector<float> values;
    uint32_t parts = 0;
  };

  absl::Status Connect(uint32_t rank) {
    StripedOptions options;
    options.client.address = absl::StrCat(o_.hosts[rank], ":", kPort);
    options.client.server_key = KeysOf(rank).public_key;
    options.client.keys = KeysOf(o_.rank);
    options.client.reconnect_most = Milliseconds(500);
    options.client.on_message = [this, rank](std::vector<Frame>&& frames) {
      events_.Push({false, rank, "", std::move(frames)});
    };
    options.client.on_event = [](const ConnectionEvent&) {};
    options.client.on_room = [this] { events_.TryPush({}); };
    options.stripes = std::max(1u, o_.stripes);
    if (o_.stripes > 0) options.most_stripes = o_.stripes;
    options.hello = [this] {
      std::vector<Frame> frames;
      frames.push_back(ToFrame({Kind::kHello, 0, o_.rank, 0}));
      return frames;
    };
    ASSIGN_OR_RETURN(clients_[rank], StripedClient::Start(std::move(options)));
    return absl::OkStatus();
  }

  void CutSlices() {
    double all = 0;
    for (uint32_t rank = 0; rank < peers_; ++rank) all += Weight(rank);
    double sum = 0;
    slices_.push_back(0);
    for (uint32_t rank = 0; rank < peers_; ++rank) {
      sum += Weight(rank);
      const double end = static_cast<double>(input_.size()) * sum / all;
      slices_.push_back(rank + 1 == peers_ ? input_.size() : static_cast<size_t>(end) / 64 * 64);
    }
  }
  double Weight(uint32_t rank) const { return o_.weights.empty() ? 1 : o_.weights[rank]; }

  size_t ChunkValues() const { return o_.chunk_bytes / sizeof(float); }
  uint32_t ChunksOf(uint32_t rank) const {
    const size_t values = slices_[rank + 1] - slices_[rank];
    const auto chunks = static_cast<uint32_t>((values + ChunkValues() - 1) / ChunkValues());
    return round_ == 0 ? std::min(1u, chunks) : chunks;
  }
  size_t ChunkBegin(uint32_t rank, uint32_t chunk) const {
    return slices_[rank] + chunk * ChunkValues();
  }
  size_t ChunkLength(uint32_t rank, uint32_t chunk) const {
    return std::min(ChunkValues(), slices_[rank + 1] - ChunkBegin(rank, chunk));
  }

  void Reset() {
    std::fill(next_put_.begin(), next_put_.end(), 0);
    std::fill(outstanding_.begin(), outstanding_.end(), 0);
    std::fill(received_.begin(), received_.end(), 0);
    sums_.clear();
    reduced_ = 0;
    if (peers_ == 1) return;
    for (uint32_t chunk = 0; chunk < ChunksOf(o_.rank); ++chunk) AddPart(chunk, nullptr);
  }

  bool Done() const {
    if (reduced_ < ChunksOf(o_.rank)) return false;
    for (uint32_t rank = 0; rank < peers_; ++rank) {
      if (rank != o_.rank && received_[rank] < ChunksOf(rank)) return false;
      if (!results_[rank].empty()) return false;
    }
    return true;
  }

  void Handle(Event&& event) {
    if (event.frames.empty()) return;
    Header header;
    if (event.frames[0].size() != sizeof header) return;
    std::memcpy(&header, event.frames[0].bytes().data(), sizeof header);
    if (header.kind == Kind::kHello) {
      if (header.rank < peers_) routes_[header.rank].push_back(event.route);
      return;
    }
    if (header.round > round_) {
      early_.push_back(std::move(event));
      return;
    }
    if (header.round < round_ || event.frames.size() != 2) return;
    progress_ = Clock::now();
    const ByteSpan payload = event.frames[1].bytes();
    if (header.kind == Kind::kPut && header.chunk < ChunksOf(o_.rank)) {
      AddPart(header.chunk, reinterpret_cast<const float*>(payload.data()));
    } else if (header.kind == Kind::kResult && header.chunk < ChunksOf(event.rank)) {
      TakeResult(event.rank, header.chunk, payload);
    }
  }

  void AddPart(uint32_t chunk, const float* part) {
    const size_t length = ChunkLength(o_.rank, chunk);
    Sum& sum = sums_[chunk];
    if (sum.values.empty()) sum.values.assign(length, 0.0f);
    if (part == nullptr) part = &input_[ChunkBegin(o_.rank, chunk)];
    for (size_t i = 0; i < length; ++i) sum.values[i] += part[i];
    if (++sum.parts < peers_) return;
    std::copy(sum.values.begin(), sum.values.end(), &output_[ChunkBegin(o_.rank, chunk)]);
    sums_.erase(chunk);
    ++reduced_;
    for (uint32_t rank = 0; rank < peers_; ++rank) {
      if (rank != o_.rank) results_[rank].push_back(chunk);
    }
  }

  void TakeResult(uint32_t rank, uint32_t chunk, ByteSpan payload) {
    std::memcpy(&output_[ChunkBegin(rank, chunk)], payload.data(),
                std::min(payload.size(), ChunkLength(rank, chunk) * sizeof(float)));
    ++received_[rank];
    outstanding_[rank] -= std::min<uint64_t>(outstanding_[rank], payload.size());
    estimate_.OnConsumed(Clock::now().time_since_epoch(), payload.size());
  }

  std::vector<Frame> Message(Kind kind, uint32_t chunk, const float* values, size_t length) const {
    std::vector<Frame> frames;
    frames.push_back(ToFrame({kind, round_, o_.rank, chunk}));
    frames.emplace_back(std::string(reinterpret_cast<const char*>(values), length * sizeof(float)));
    return frames;
  }

  static bool IsHeartbeat(const Inbound& in) {
    Header header;
    if (in.frames.size() != 1 || in.frames[0].size() != sizeof header) return false;
    std::memcpy(&header, in.frames[0].bytes().data(), sizeof header);
    return header.kind == Kind::kHeartbeat;
  }
  // At once, whatever else is going on. On the socket thread.
  void Answer(Inbound&& in) {
    if (RouterServer* server = answering_) server->Send(in.route, std::move(in.frames));
  }

  void Pump() {
    LookAtLinks();
    heartbeats_.Beat(round_, o_.rank);
    for (uint32_t rank = 0; rank < peers_; ++rank) SendResults(rank);
    const std::vector<uint64_t> credit = Credit();
    bool sent = true;
    while (sent) {
      sent = false;
      for (uint32_t rank = 0; rank < peers_; ++rank) {
        if (rank != o_.rank) sent = SendPut(rank, credit[rank]) || sent;
      }
    }
  }

  std::vector<uint64_t> Credit() const {
    std::vector<uint64_t> owed(peers_, 0);
    for (uint32_t rank = 0; rank < peers_; ++rank) {
      if (rank != o_.rank) owed[rank] = (ChunksOf(rank) - received_[rank]) * o_.chunk_bytes;
    }
    return ShareCredit(WindowBytes(), owed, 2 * o_.chunk_bytes);
  }
  uint64_t WindowBytes() const {
    return o_.window_bytes > 0 ? o_.window_bytes : estimate_.WindowBytes();
  }

  bool SendPut(uint32_t rank, uint64_t credit) {
    const uint32_t chunk = next_put_[rank];
    if (chunk >= ChunksOf(rank)) return false;
    const size_t length = ChunkLength(rank, chunk);
    const uint64_t bytes = length * sizeof(float);
    if (outstanding_[rank] + bytes > credit && outstanding_[rank] > 0) return false;
    if (!clients_[rank]->Send(
            Message(Kind::kPut, chunk, &input_[ChunkBegin(rank, chunk)], length))) {
      return false;
    }
    ++next_put_[rank];
    outstanding_[rank] += bytes;
    return true;
  }

  void SendResults(uint32_t rank) {
    while (!results_[rank].empty()) {
      const uint32_t chunk = results_[rank].front();
      const size_t length = ChunkLength(o_.rank, chunk);
      if (!server_->SendToAny(
              routes_[rank],
              Message(Kind::kResult, chunk, &output_[ChunkBegin(o_.rank, chunk)], length))) {
        return;
      }
      results_[rank].pop_front();
    }
  }

  void LookAtLinks() {
    const auto now = Clock::now();
    if (now < next_look_) return;
    next_look_ = now + kLookEvery;
    double loss = 0;
    for (const auto& client : clients_) {
      if (!client) continue;
      const LinkRow row = client->link();
      if (row.rtt_us == 0) continue;
      estimate_.OnRoundTrip(now.time_since_epoch(), std::chrono::microseconds(row.rtt_us),
                            std::chrono::microseconds(row.min_rtt_us));
      loss = std::max(loss, row.loss());
    }
    estimate_.OnLoss(loss);
  }

  bool Correct() const {
    for (size_t i = 0; i < output_.size(); i += 61) {
      float expected = 0;
      for (uint32_t rank = 0; rank < peers_; ++rank) expected += Value(rank, i);
      if (output_[i] != expected) return false;
    }
    return true;
  }

  void Describe(WanPeerRound* out) const {
    out->window_bytes = WindowBytes();
    for (const auto& client : clients_) {
      if (!client) continue;
      const LinkRow row = client->link();
      out->stripes = std::max(out->stripes, client->stripes());
      out->loss = std::max(out->loss, row.loss());
      out->congestion_control = row.congestion_control;
    }
  }

  const WanPeerOptions o_;
  const uint32_t peers_;
  uint32_t round_ = 0;
  std::vector<float> input_;
  std::vector<float> output_;
  std::vector<size_t> slices_;  // borders
  BoundedQueue<Event> events_{4096};
  KeyTable table_;
  std::vector<std::unique_ptr<StripedClient>> clients_;  // by rank
  std::vector<std::vector<std::string>> routes_;         // to each rank, at our server
  std::vector<std::deque<uint32_t>> results_;            // chunks to send, by rank
  std::vector<uint32_t> next_put_;
  std::vector<uint64_t> outstanding_;
  std::vector<uint32_t> received_;
  std::map<uint32_t, Sum> sums_;
  uint32_t reduced_ = 0;
  std::vector<Event> early_;  // of the next round
  LinkEstimate estimate_{{.least_window_bytes = std::max(kLeastWindow, 4 * o_.chunk_bytes)}};
  Clock::time_point progress_;
  Clock::time_point next_look_;
  Heartbeats heartbeats_;
  std::atomic<RouterServer*> answering_{nullptr};
  std::unique_ptr<RouterServer> server_;  // last: stops first
};

}  // namespace

absl::Status RunWanPeer(const WanPeerOptions& options,
                        const std::function<void(const WanPeerRound&)>& report) {
  if (options.rank >= options.hosts.size() || options.chunk_bytes > kMaxFrameBytes ||
      options.chunk_bytes % sizeof(float) != 0 || options.chunk_bytes == 0 ||
      (!options.weights.empty() && options.weights.size() != options.hosts.size())) {
    return absl::InvalidArgumentError("a peer with wrong options");
  }
  Peer peer(options);
  RETURN_IF_ERROR(peer.Start());
  for (uint32_t round = 0; round <= options.rounds; ++round) {
    ASSIGN_OR_RETURN(const WanPeerRound result, peer.Round(round));
    if (round > 0) report(result);
    if (options.idle_s > 0 && round < options.rounds) {
      std::this_thread::sleep_for(std::chrono::duration<double>(options.idle_s));
    }
  }
  peer.Finish();
  return absl::OkStatus();
}

}  // namespace longhaul
