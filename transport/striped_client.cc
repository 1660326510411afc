#include "transport/striped_client.h"

#include <atomic>
#include <chrono>
#include <mutex>

#include "common/log.h"
#include "common/status_macros.h"

namespace longhaul {

namespace {

using Clock = std::chrono::steady_clock;

constexpr Duration kLookEvery = Milliseconds(250);
// Short, so that chunks wait where any connection can take them.
constexpr size_t kQueuedMessages = 2;
constexpr int kHighWater = 2;

class Striped : public StripedClient {
 public:
  explicit Striped(StripedOptions options) : options_(std::move(options)) {
    options_.client.max_queued_messages = kQueuedMessages;
    options_.client.high_water_messages = kHighWater;
    // The cap is of one connection; a line that needs one is filled by one.
    if (options_.client.uplink_bytes_per_s > 0) options_.most_stripes = 1;
  }

  absl::Status Begin() {
    wanted_ = std::max(1u, std::min(options_.stripes, options_.most_stripes));
    return OpenMissing();
  }
  bool Send(std::vector<Frame>&& frames) override;
  void Grow(uint32_t stripes) override;
  uint32_t stripes() const override { return wanted_; }
  uint32_t connected() const override { return open_; }
  ClientCounters counters() const override;
  LinkRow link() const override;

 private:
  absl::Status OpenMissing();
  void OnEvent(size_t number, const ConnectionEvent& event);
  void SayHello(size_t number);
  void LookIfDue();
  void Look();

  StripedOptions options_;
  std::atomic<uint32_t> wanted_{1};
  std::atomic<uint32_t> open_{0};
  std::atomic<uint32_t> next_{0};
  std::atomic<bool> backlog_{false};
  std::atomic<bool> advised_{false};
  std::atomic<int64_t> next_look_ns_{0};
  uint64_t busy_us_ = 0;      // at the last look
  uint64_t limited_us_ = 0;   // at the last look
  mutable std::mutex mutex_;  // clients_: grows only; the four above it belong to Look
  std::vector<std::unique_ptr<DealerClient>> clients_;
};

absl::Status Striped::OpenMissing() {
  std::lock_guard lock(mutex_);
  while (clients_.size() < wanted_) {
    const size_t number = clients_.size();
    ClientOptions options = options_.client;
    options.on_event = [this, number](const ConnectionEvent& event) { OnEvent(number, event); };
    ASSIGN_OR_RETURN(std::unique_ptr<DealerClient> client, DealerClient::Start(std::move(options)));
    clients_.push_back(std::move(client));
  }
  return absl::OkStatus();
}

// On the socket thread of one connection.
void Striped::OnEvent(size_t number, const ConnectionEvent& event) {
  if (event.change == ConnectionChange::kConnected) {
    SayHello(number);
    if (++open_ == 1) options_.client.on_event(event);
    return;
  }
  if (event.change != ConnectionChange::kDisconnected) {
    if (number == 0) options_.client.on_event(event);
    return;
  }
  if (--open_ == 0) {
    options_.client.on_event(event);
  } else if (options_.on_stripe_lost) {
    options_.on_stripe_lost();
  }
}

void Striped::SayHello(size_t number) {
  if (!options_.hello) return;
  std::lock_guard lock(mutex_);
  if (number < clients_.size()) clients_[number]->Send(options_.hello());
}

bool Striped::Send(std::vector<Frame>&& frames) {
  bool taken = false;
  {
    std::lock_guard lock(mutex_);
    for (size_t i = 0; i < clients_.size() && !taken; ++i) {
      taken = clients_[next_++ % clients_.size()]->Send(std::move(frames));
    }
  }
  if (!taken) backlog_ = true;
  LookIfDue();
  return taken;
}

void Striped::Grow(uint32_t stripes) {
  wanted_ = std::max<uint32_t>(wanted_, std::min(stripes, options_.most_stripes));
  if (absl::Status status = OpenMissing(); !status.ok()) {
    LogWarning(std::string(status.message()));
  }
}

void Striped::LookIfDue() {
  const int64_t now = Clock::now().time_since_epoch().count();
  int64_t due = next_look_ns_;
  if (now < due || !next_look_ns_.compare_exchange_strong(due, now + kLookEvery.count())) return;
  if (due != 0) Look();
}

// Opens more connections when those there are cannot take what comes and something other than the
// path holds them back.
void Striped::Look() {
  std::vector<SocketStats> stats;
  uint64_t busy_us = 0, limited_us = 0;
  {
    std::lock_guard lock(mutex_);
    for (const auto& client : clients_) {
      stats.push_back(client->stats());
      busy_us += stats.back().busy_us;
      limited_us += stats.back().window_limited_us;
    }
  }
  const std::string& control = stats[0].congestion_control;
  StripeSample sample;
  sample.stripes = wanted_;
  sample.backlog = backlog_.exchange(false);
  sample.bbr = control.empty() || control == "bbr";
  if (busy_us > busy_us_ && limited_us >= limited_us_) {
    sample.window_limited =
        static_cast<double>(limited_us - limited_us_) / static_cast<double>(busy_us - busy_us_);
  }
  busy_us_ = busy_us;
  limited_us_ = limited_us;
  if (!sample.bbr && !advised_.exchange(true)) {
    LogWarning(CongestionAdvice(control, SlowStartAfterIdle()));
  }
  const uint32_t wanted = NextStripes(sample);
  if (wanted > sample.stripes) Grow(wanted);
}

ClientCounters Striped::counters() const {
  std::lock_guard lock(mutex_);
  ClientCounters sum;
  for (const auto& client : clients_) {
    const ClientCounters c = client->counters();
    sum.messages_in += c.messages_in;
    sum.messages_out += c.messages_out;
    sum.payload_bytes_in += c.payload_bytes_in;
    sum.payload_bytes_out += c.payload_bytes_out;
    sum.socket_bytes_in += c.socket_bytes_in;
    sum.socket_bytes_out += c.socket_bytes_out;
    sum.dropped_in += c.dropped_in;
    sum.dropped_out += c.dropped_out;
    sum.connects += c.connects;
  }
  return sum;
}

LinkRow Striped::link() const {
  std::lock_guard lock(mutex_);
  std::vector<SocketStats> stats;
  for (const auto& client : clients_) {
    if (client->connected()) stats.push_back(client->stats());
  }
  return SumLinks(options_.client.address, stats);
}

}  // namespace

absl::StatusOr<std::unique_ptr<StripedClient>> StripedClient::Start(StripedOptions options) {
  auto client = std::make_unique<Striped>(std::move(options));
  RETURN_IF_ERROR(client->Begin());
  return std::unique_ptr<StripedClient>(std::move(client));
}

}  // namespace longhaul
