#include "transport/client.h"

#include <sodium.h>
#include <zmq.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <optional>
#include <thread>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/status_macros.h"
#include "transport/invitation.h"
#include "transport/outbox.h"
#include "transport/zmq_util.h"

namespace longhaul {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kReceiveBatch = 256;  // messages before the other sources get their turn
constexpr int kSampleEveryMs = 250;
// ZeroMQ stops reconnecting after a refusal or a protocol error, so we do it all by ourselves: its
// own next try is put off for an hour, and never comes because we disconnect first.
constexpr int kNeverMs = 3'600'000;
constexpr char kClosedInHandshake[] =
    "it closed the connection during the handshake: another coordinator key than expected, or no "
    "coordinator on that port";
const std::string kOnlyRoute;  // a client has one connection

int ToMs(Duration d) {
  return static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(d).count());
}

// Between half of `d` and all of it, so that a fleet does not come back in step.
Duration Jittered(Duration d) {
  const auto half_us = static_cast<uint32_t>(ToMs(d)) * 500;
  return std::chrono::microseconds(half_us + randombytes_uniform(half_us + 1));
}

class Client : public DealerClient {
 public:
  explicit Client(ClientOptions options)
      : options_(std::move(options)),
        outbox_(options_.max_queued_messages, options_.max_queued_bytes),
        back_off_(options_.reconnect_least) {}
  ~Client() override;

  absl::Status Begin();

  bool Send(std::vector<Frame>&& frames) override;
  bool connected() const override { return connected_; }
  ClientCounters counters() const override;
  SocketStats stats() const override;
  std::string congestion_control() const override;

 private:
  // The socket thread.
  void Run();
  int PollTimeoutMs() const;
  void Connect();
  void ReadEvents();
  void OnEvent(const MonitorEvent& event);
  void OnTcpConnected(int fd);
  void OnHandshakeDone();
  void OnTcpEnded();
  void OnAttemptFailed();
  void Failed(ConnectionChange change, const std::string& reason);
  void CheckTime();
  void ReadMessages();
  void Flush();
  void SampleLocked();

  const ClientOptions options_;
  Outbox outbox_;
  WakeUp wake_up_;
  std::atomic<bool> connected_{false};

  mutable std::mutex mutex_;  // the four below
  ClientCounters counters_;
  std::optional<TcpSocket> tcp_;  // from TCP's connect to its end
  SocketStats stats_;             // of tcp_
  std::string congestion_control_;

  // The socket thread's.
  enum class State { kConnecting, kUp, kWaiting };
  State state_ = State::kConnecting;
  Clock::time_point until_;  // kConnecting: give up then; kWaiting: try again then
  Duration back_off_;
  bool full_ = false;  // ZeroMQ's pipe: wait until it can be written

  // In this order, so that sockets go before their context.
  ZmqContext context_;
  ZmqSocket dealer_;
  ZmqSocket monitor_;
  std::thread thread_;
};

absl::Status Client::Begin() {
  RETURN_IF_ERROR(CheckAddress(options_.address));
  LONGHAUL_CHECK(options_.on_message != nullptr && options_.on_event != nullptr,
                 "a client needs receivers");
  context_.reset(zmq_ctx_new());
  if (!context_) return ZmqError("cannot start ZeroMQ");
  dealer_.reset(zmq_socket(context_.get(), ZMQ_DEALER));
  if (!dealer_) return ZmqError("cannot make a socket");
  SetCommonOptions(dealer_.get(), options_.high_water_messages, options_.handshake_timeout);
  SetCurveClient(dealer_.get(), options_.keys, options_.server_key);
  SetInt(dealer_.get(), ZMQ_IMMEDIATE, 1);
  SetInt(dealer_.get(), ZMQ_CONNECT_TIMEOUT, ToMs(options_.connect_timeout));
  SetInt(dealer_.get(), ZMQ_RECONNECT_IVL, kNeverMs);
  RETURN_IF_ERROR(StartMonitor(context_.get(), dealer_.get(), "client", &monitor_));
  thread_ = std::thread([this] { Run(); });
  return absl::OkStatus();
}

Client::~Client() {
  if (context_) zmq_ctx_shutdown(context_.get());
  if (thread_.joinable()) thread_.join();
}

bool Client::Send(std::vector<Frame>&& frames) {
  LONGHAUL_CHECK(!frames.empty() && frames.size() <= kMaxFrames, "a message of 1 to 3 frames");
  for (const Frame& frame : frames) {
    LONGHAUL_CHECK(frame.size() <= kMaxFrameBytes, "a frame is too long");
  }
  if (!connected_ || !outbox_.Push(kOnlyRoute, std::move(frames))) return false;
  wake_up_.Notify();
  return true;
}

ClientCounters Client::counters() const {
  std::lock_guard lock(mutex_);
  ClientCounters out = counters_;
  out.socket_bytes_in = std::max(out.socket_bytes_in, out.payload_bytes_in);
  out.socket_bytes_out = std::max(out.socket_bytes_out, out.payload_bytes_out);
  return out;
}

SocketStats Client::stats() const {
  std::lock_guard lock(mutex_);
  return stats_;
}

std::string Client::congestion_control() const {
  std::lock_guard lock(mutex_);
  return congestion_control_;
}

void Client::Run() {
  zmq_pollitem_t items[] = {{dealer_.get(), 0, ZMQ_POLLIN, 0},
                            {monitor_.get(), 0, ZMQ_POLLIN, 0},
                            {nullptr, wake_up_.fd(), ZMQ_POLLIN, 0}};
  Connect();
  while (zmq_poll(items, 3, PollTimeoutMs()) >= 0 || zmq_errno() == EINTR) {
    if (items[2].revents != 0) wake_up_.Clear();
    ReadEvents();
    CheckTime();
    ReadMessages();
    Flush();
    {
      std::lock_guard lock(mutex_);
      SampleLocked();
    }
    items[0].events = static_cast<short>(full_ ? ZMQ_POLLIN | ZMQ_POLLOUT : ZMQ_POLLIN);
  }
  monitor_.reset();  // the context is ending: zmq_poll said ETERM
  dealer_.reset();
}

int Client::PollTimeoutMs() const {
  if (state_ == State::kUp) return kSampleEveryMs;
  const Duration left = std::max(Duration(0), Duration(until_ - Clock::now()));
  return std::min(kSampleEveryMs, ToMs(left) + 1);
}

void Client::Connect() {
  const std::string endpoint = "tcp://" + options_.address;
  zmq_disconnect(dealer_.get(), endpoint.c_str());  // what is left of the last attempt
  state_ = State::kConnecting;
  until_ = Clock::now() + options_.connect_timeout + options_.handshake_timeout + Seconds(1);
  if (zmq_connect(dealer_.get(), endpoint.c_str()) != 0) {
    Failed(ConnectionChange::kUnreachable,
           absl::StrCat("cannot connect to ", options_.address, ": ", zmq_strerror(zmq_errno())));
  }
}

void Client::ReadEvents() {
  while (auto event = NextEvent(monitor_.get())) OnEvent(*event);
}

void Client::OnEvent(const MonitorEvent& event) {
  if (state_ == State::kWaiting) return;  // the last of a connection that we have given up
  switch (event.event) {
    case ZMQ_EVENT_CONNECTED:
      return OnTcpConnected(event.value);
    case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
      return OnHandshakeDone();
    case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
      return Failed(ConnectionChange::kNotAllowed,
                    absl::StrCat(options_.address, ": the coordinator does not know our key"));
    case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
    case ZMQ_EVENT_DISCONNECTED:
      return OnTcpEnded();
    case ZMQ_EVENT_CLOSED:
    case ZMQ_EVENT_CONNECT_RETRIED:  // also when the host's name was not found
      return OnAttemptFailed();
    default:
      return;
  }
}

void Client::OnTcpConnected(int fd) {
  std::lock_guard lock(mutex_);
  tcp_.emplace(fd);
  stats_ = {};
  TcpTuning tuning;
  tuning.pacing_bytes_per_s = options_.uplink_bytes_per_s;
  congestion_control_ = tcp_->Tune(tuning);
}

void Client::OnHandshakeDone() {
  state_ = State::kUp;
  back_off_ = options_.reconnect_least;
  // A Send that was under way while the last connection ended may have left something behind.
  const size_t lost = outbox_.Forget(kOnlyRoute);
  {
    std::lock_guard lock(mutex_);
    counters_.dropped_out += lost;
    ++counters_.connects;
  }
  connected_ = true;
  options_.on_event(
      {ConnectionChange::kConnected, absl::StrCat("connected to ", options_.address)});
}

void Client::OnTcpEnded() {
  if (state_ == State::kUp) {
    return Failed(ConnectionChange::kDisconnected,
                  absl::StrCat("lost the connection to ", options_.address));
  }
  Failed(ConnectionChange::kWrongServer,
         absl::StrCat(options_.address,
                      ": it closed the connection during the handshake: another coordinator key "
                      "than expected, or no coordinator on that port"));
}

void Client::OnAttemptFailed() {
  if (tcp_) return OnTcpEnded();
  Failed(ConnectionChange::kUnreachable, absl::StrCat("cannot reach ", options_.address));
}

// The end of a connection, or of an attempt to make one; the next follows after a while.
void Client::Failed(ConnectionChange change, const std::string& reason) {
  connected_ = false;
  {
    std::lock_guard lock(mutex_);
    counters_.dropped_out += outbox_.Forget(kOnlyRoute);
    tcp_.reset();
    stats_ = {};
  }
  full_ = false;
  state_ = State::kWaiting;
  until_ = Clock::now() + Jittered(back_off_);
  back_off_ = std::min(2 * back_off_, options_.reconnect_most);
  options_.on_event({change, reason});
}

void Client::CheckTime() {
  if (state_ == State::kUp || Clock::now() < until_) return;
  if (state_ == State::kWaiting) return Connect();
  Failed(ConnectionChange::kUnreachable,
         absl::StrCat("no answer from ", options_.address, " in time"));
}

void Client::ReadMessages() {
  std::vector<Frame> frames;
  for (int i = 0; i < kReceiveBatch; ++i) {
    const ReceiveResult result = Receive(dealer_.get(), kMaxFrames, &frames);
    if (result == ReceiveResult::kNothing) return;
    {
      std::lock_guard lock(mutex_);
      if (result == ReceiveResult::kTooManyFrames) {
        ++counters_.dropped_in;
        continue;
      }
      ++counters_.messages_in;
      counters_.payload_bytes_in += TotalBytes(frames);
    }
    options_.on_message(std::move(frames));
  }
}

void Client::Flush() {
  full_ = false;
  std::vector<Frame> message;
  while (!full_ && outbox_.Take(kOnlyRoute, &message)) {
    const uint64_t bytes = TotalBytes(message);
    if (SendWhole(dealer_.get(), &message) == SendResult::kSent) {
      std::lock_guard lock(mutex_);
      ++counters_.messages_out;
      counters_.payload_bytes_out += bytes;
    } else {
      outbox_.PutBack(kOnlyRoute, std::move(message));
      full_ = true;
    }
  }
  if (options_.on_room && !outbox_.TakeRoutesWithRoom().empty()) options_.on_room();
}

void Client::SampleLocked() {
  if (!tcp_) return;
  const std::optional<SocketStats> now = tcp_->Stats();
  if (!now) return;
  counters_.socket_bytes_in += now->bytes_received - stats_.bytes_received;
  counters_.socket_bytes_out += now->bytes_sent - stats_.bytes_sent;
  stats_ = *now;
}

}  // namespace

absl::StatusOr<std::unique_ptr<DealerClient>> DealerClient::Start(ClientOptions options) {
  auto client = std::make_unique<Client>(std::move(options));
  RETURN_IF_ERROR(client->Begin());
  return std::unique_ptr<DealerClient>(std::move(client));
}

}  // namespace longhaul
