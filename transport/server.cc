#include "transport/server.h"

#include <sys/resource.h>
#include <zmq.h>

#include <algorithm>
#include <mutex>
#include <numeric>
#include <thread>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/log.h"
#include "common/status_macros.h"
#include "transport/connections.h"
#include "transport/invitation.h"
#include "transport/link_probe.h"
#include "transport/outbox.h"
#include "transport/self_test.h"
#include "transport/zap_handler.h"
#include "transport/zmq_util.h"

namespace longhaul {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kReceiveBatch = 256;   // messages before the other sources get their turn
constexpr int kEventBatch = 32;      // news of connections before messages get their turn
constexpr size_t kSampleBatch = 32;  // connections that are looked at between messages
constexpr Duration kSampleEvery = Milliseconds(250);
constexpr int kBacklog = 1024;  // a fleet that reconnects at once, before accept
constexpr int kRetryMs = 5;     // a connection whose pipe was full is tried again
constexpr rlim_t kOtherDescriptors = 128;
constexpr uint64_t kSelfTestConnections = 1;  // the stranger of the self-test is not counted
// ZeroMQ names connections with a zero byte and a counter. A client cannot choose such a name.
constexpr size_t kRouteBytes = 5;

int ToMs(Duration d) {
  return static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(d).count());
}

// Connections that the descriptor limit allows, at most `wanted`.
size_t AllowedConnections(size_t wanted) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return wanted;
  const rlim_t free = limit.rlim_cur > kOtherDescriptors ? limit.rlim_cur - kOtherDescriptors : 1;
  if (free >= wanted) return wanted;
  LogWarning(absl::StrCat("only ", free, " connections instead of ", wanted,
                          ": raise the limit of open files (ulimit -n)"));
  return free;
}

int SourceDescriptor(Frame& frame) {
  return zmq_msg_get(static_cast<zmq_msg_t*>(frame.zmq_message()), ZMQ_SRCFD);
}

bool UserOf(Frame& frame, WorkerKey* out) {
  const char* user = zmq_msg_gets(static_cast<zmq_msg_t*>(frame.zmq_message()), "User-Id");
  return user != nullptr && FromHex(user, out->bytes);
}

class Server : public RouterServer {
 public:
  explicit Server(ServerOptions options)
      : options_(std::move(options)),
        outbox_(options_.max_queued_messages_per_route, options_.max_queued_bytes),
        connections_({AllowedConnections(options_.max_connections), options_.max_silent_connections,
                      options_.max_unfinished_bytes}),
        probe_budget_(options_.max_probe_bytes) {}
  ~Server() override;

  absl::Status Begin();

  bool Send(const std::string& route, std::vector<Frame>&& frames) override;
  bool SendToAny(const std::vector<std::string>& routes, std::vector<Frame>&& frames) override;
  void Cut(const WorkerKey& user, CutReason reason) override;
  std::string address() const override { return address_; }
  uint16_t port() const override { return port_; }
  ServerCounters counters() const override;
  std::optional<SocketStats> Stats(const std::string& route) const override;
  std::optional<LinkRow> Link(const WorkerKey& user) const override;
  std::vector<LinkRow> Links() const override;

 private:
  LinkRow LinkLocked(const WorkerKey& user, const std::vector<std::string>& routes) const;
  absl::Status Bind();
  absl::Status SelfTest();

  // The socket thread.
  void Run();
  int PollTimeoutMs(Clock::time_point next_sample) const;
  void ReadEvents();
  void ReadMessages();
  bool ReadMessage();
  void Deliver(std::vector<Frame> parts);
  void Answer(const Inbound& probe);
  void DoCuts();
  void Flush();
  void FlushRoute(const std::string& route);
  void PublishSample();
  void CountDroppedIn();

  const ServerOptions options_;
  std::string address_;
  uint16_t port_ = 0;
  Outbox outbox_;
  WakeUp wake_up_;

  mutable std::mutex mutex_;  // the four below
  ServerCounters counters_;
  std::map<std::string, SocketStats> stats_;
  std::map<WorkerKey, std::vector<std::string>> routes_;  // by user
  std::vector<std::pair<WorkerKey, CutReason>> to_cut_;

  Connections connections_;   // the socket thread's
  ProbeBudget probe_budget_;  // the socket thread's
  bool retry_soon_ = false;   // the socket thread's

  // In this order, so that sockets go before their context.
  ZmqContext context_;
  std::unique_ptr<ZapHandler> zap_;
  ZmqSocket router_;
  ZmqSocket monitor_;
  std::thread thread_;
};

absl::Status Server::Begin() {
  RETURN_IF_ERROR(CheckAddress(options_.listen, /*any_port=*/true));
  LONGHAUL_CHECK(options_.key_table != nullptr && options_.on_message != nullptr,
                 "a server needs a key table and a receiver");
  LONGHAUL_CHECK(options_.note.size() <= kMaxFrameBytes, "a note is too long");
  LONGHAUL_CHECK(options_.high_water_messages >= 2, "a pipe of one message is mute");
  context_.reset(zmq_ctx_new());
  if (!context_) return ZmqError("cannot start ZeroMQ");
  ASSIGN_OR_RETURN(zap_, ZapHandler::Start(context_.get(), options_.key_table));
  RETURN_IF_ERROR(Bind());
  RETURN_IF_ERROR(SelfTest());
  thread_ = std::thread([this] { Run(); });
  return absl::OkStatus();
}

absl::Status Server::Bind() {
  router_.reset(zmq_socket(context_.get(), ZMQ_ROUTER));
  if (!router_) return ZmqError("cannot make the server's socket");
  SetCommonOptions(router_.get(), options_.high_water_messages, options_.handshake_timeout);
  SetCurveServer(router_.get(), options_.keys);
  SetInt(router_.get(), ZMQ_ROUTER_MANDATORY, 1);
  SetInt(router_.get(), ZMQ_ROUTER_HANDOVER, 0);
  SetInt(router_.get(), ZMQ_BACKLOG, kBacklog);
  RETURN_IF_ERROR(StartMonitor(context_.get(), router_.get(), "server", &monitor_));
  if (zmq_bind(router_.get(), ("tcp://" + options_.listen).c_str()) != 0) {
    return ZmqError(absl::StrCat("cannot listen on ", options_.listen));
  }
  char endpoint[256];
  size_t size = sizeof endpoint;
  if (zmq_getsockopt(router_.get(), ZMQ_LAST_ENDPOINT, endpoint, &size) != 0) {
    return ZmqError("cannot learn the port");
  }
  address_ = std::string(endpoint).substr(std::string("tcp://").size());
  port_ = static_cast<uint16_t>(std::stoi(address_.substr(address_.rfind(':') + 1)));
  return absl::OkStatus();
}

absl::Status Server::SelfTest() {
  std::string host = address_.substr(0, address_.rfind(':'));
  if (host == "0.0.0.0") host = "127.0.0.1";
  return CheckStrangerIsRefused(absl::StrCat(host, ":", port_), options_.keys.public_key,
                                options_.self_test_timeout);
}

Server::~Server() {
  if (context_) zmq_ctx_shutdown(context_.get());
  if (thread_.joinable()) thread_.join();
}

bool Server::Send(const std::string& route, std::vector<Frame>&& frames) {
  LONGHAUL_CHECK(!frames.empty() && frames.size() <= kMaxFrames, "a message of 1 to 3 frames");
  for (const Frame& frame : frames) {
    LONGHAUL_CHECK(frame.size() <= kMaxFrameBytes, "a frame is too long");
  }
  if (!outbox_.Push(route, std::move(frames))) return false;
  wake_up_.Notify();
  return true;
}

bool Server::SendToAny(const std::vector<std::string>& routes, std::vector<Frame>&& frames) {
  const std::string* shortest = nullptr;
  size_t least = SIZE_MAX;
  for (const std::string& route : routes) {
    const size_t queued = outbox_.Queued(route);
    if (queued < least) shortest = &route;
    least = std::min(least, queued);
  }
  return shortest != nullptr && Send(*shortest, std::move(frames));
}

void Server::Cut(const WorkerKey& user, CutReason reason) {
  {
    std::lock_guard lock(mutex_);
    if (to_cut_.size() >= options_.max_connections) return;  // whoever asks will ask again
    to_cut_.emplace_back(user, reason);
  }
  wake_up_.Notify();
}

LinkRow Server::LinkLocked(const WorkerKey& user, const std::vector<std::string>& routes) const {
  std::vector<SocketStats> stats;
  for (const std::string& route : routes) {
    const auto it = stats_.find(route);
    if (it != stats_.end()) stats.push_back(it->second);
  }
  return SumLinks(ToHex(user.bytes), stats);
}

std::optional<LinkRow> Server::Link(const WorkerKey& user) const {
  std::lock_guard lock(mutex_);
  const auto it = routes_.find(user);
  if (it == routes_.end()) return std::nullopt;
  return LinkLocked(user, it->second);
}

std::vector<LinkRow> Server::Links() const {
  std::lock_guard lock(mutex_);
  std::vector<LinkRow> out;
  for (const auto& [user, routes] : routes_) out.push_back(LinkLocked(user, routes));
  return out;
}

ServerCounters Server::counters() const {
  std::lock_guard lock(mutex_);
  ServerCounters out = counters_;
  out.refused_keys = zap_->refused() - kSelfTestConnections;
  return out;
}

std::optional<SocketStats> Server::Stats(const std::string& route) const {
  std::lock_guard lock(mutex_);
  const auto it = stats_.find(route);
  if (it == stats_.end()) return std::nullopt;
  return it->second;
}

void Server::Run() {
  zmq_pollitem_t items[] = {{router_.get(), 0, ZMQ_POLLIN, 0},
                            {monitor_.get(), 0, ZMQ_POLLIN, 0},
                            {nullptr, wake_up_.fd(), ZMQ_POLLIN, 0}};
  Clock::time_point next_sample = Clock::now();  // that begins, or goes on
  while (zmq_poll(items, 3, PollTimeoutMs(next_sample)) >= 0 || zmq_errno() == EINTR) {
    if (items[2].revents != 0) wake_up_.Clear();
    ReadEvents();
    ReadMessages();
    DoCuts();
    Flush();
    if (Clock::now() >= next_sample && connections_.SampleSome(kSampleBatch)) {
      PublishSample();
      next_sample = Clock::now() + kSampleEvery;
    }
  }
  monitor_.reset();  // the context is ending: zmq_poll said ETERM
  router_.reset();
}

int Server::PollTimeoutMs(Clock::time_point next_sample) const {
  const Duration left = std::max(Duration(0), Duration(next_sample - Clock::now()));
  const int until_sample = ToMs(left) + 1;
  return retry_soon_ ? std::min(kRetryMs, until_sample) : until_sample;
}

// Some at a time: a flood of connections must not keep members' messages waiting. A message that
// overtakes the news of its own connection is accounted for with the next one.
void Server::ReadEvents() {
  for (int i = 0; i < kEventBatch; ++i) {
    const auto event = NextEvent(monitor_.get());
    if (!event) return;
    switch (event->event) {
      case ZMQ_EVENT_ACCEPTED:
        connections_.OnAccepted(event->value);
        break;
      case ZMQ_EVENT_CLOSED:
      case ZMQ_EVENT_DISCONNECTED:
        connections_.OnClosed(event->value);
        break;
      default:
        break;
    }
  }
}

void Server::ReadMessages() {
  for (int i = 0; i < kReceiveBatch; ++i) {
    if (!ReadMessage()) return;
  }
}

// False when there is none now.
bool Server::ReadMessage() {
  std::vector<Frame> parts;  // the route, then the application's frames
  switch (Receive(router_.get(), 1 + kMaxFrames, &parts)) {
    case ReceiveResult::kNothing:
      return false;
    case ReceiveResult::kTooManyFrames:
      CountDroppedIn();
      return true;
    case ReceiveResult::kMessage:
      Deliver(std::move(parts));
      return true;
  }
  return false;
}

void Server::Deliver(std::vector<Frame> parts) {
  Inbound in;
  in.route = parts[0].ToString();
  parts.erase(parts.begin());
  if (parts.empty() || in.route.size() != kRouteBytes || in.route[0] != 0 ||
      !UserOf(parts[0], &in.user)) {
    return CountDroppedIn();
  }
  connections_.OnMessage(SourceDescriptor(parts[0]), in.route, in.user);
  const std::optional<Role> role = options_.key_table->Find(in.user);
  if (!role) return CountDroppedIn();
  in.role = *role;
  in.frames = std::move(parts);
  {
    std::lock_guard lock(mutex_);
    ++counters_.messages_in;
    counters_.payload_bytes_in += TotalBytes(in.frames);
  }
  if (options_.max_probe_bytes > 0 && IsProbe(in.frames)) return Answer(in);
  options_.on_message(std::move(in));
}

// A full queue swallows the answer: whoever measures us measures that.
void Server::Answer(const Inbound& probe) {
  std::vector<Frame> answer = AnswerProbe(probe.frames, probe.user, options_.note,
                                          Clock::now().time_since_epoch(), probe_budget_);
  if (!answer.empty()) outbox_.Push(probe.route, std::move(answer));
}

void Server::CountDroppedIn() {
  std::lock_guard lock(mutex_);
  ++counters_.dropped_in;
}

void Server::DoCuts() {
  std::vector<std::pair<WorkerKey, CutReason>> cuts;
  {
    std::lock_guard lock(mutex_);
    cuts.swap(to_cut_);
  }
  for (const auto& [user, reason] : cuts) connections_.CutUser(user, reason);
}

void Server::Flush() {
  retry_soon_ = false;
  for (const std::string& route : outbox_.Routes()) FlushRoute(route);
  if (!options_.on_room) return;
  for (const std::string& route : outbox_.TakeRoutesWithRoom()) options_.on_room(route);
}

void Server::FlushRoute(const std::string& route) {
  std::vector<Frame> message;
  while (outbox_.Take(route, &message)) {
    const uint64_t bytes = TotalBytes(message);
    message.insert(message.begin(), Frame(route));
    const SendResult result = SendWhole(router_.get(), &message);
    if (result == SendResult::kFull) {
      message.erase(message.begin());
      outbox_.PutBack(route, std::move(message));
      retry_soon_ = true;
      return;
    }
    const size_t lost = result == SendResult::kGone ? 1 + outbox_.Forget(route) : 0;
    std::lock_guard lock(mutex_);
    counters_.dropped_out += lost;
    if (result == SendResult::kSent) {
      ++counters_.messages_out;
      counters_.payload_bytes_out += bytes;
    }
  }
}

void Server::PublishSample() {
  std::map<std::string, SocketStats> stats = connections_.StatsByRoute();
  auto routes = connections_.RoutesByUser();
  std::lock_guard lock(mutex_);
  stats_ = std::move(stats);
  routes_ = std::move(routes);
  counters_.connections = connections_.size();
  counters_.refused_connections =
      std::max(connections_.ended_silent(), kSelfTestConnections) - kSelfTestConnections;
  counters_.cut_by_reason = connections_.cuts();
  counters_.cut_connections =
      std::accumulate(counters_.cut_by_reason.begin(), counters_.cut_by_reason.end(), uint64_t{0});
  counters_.socket_bytes_in = connections_.socket_bytes_in();
  counters_.socket_bytes_out = connections_.socket_bytes_out();
}

}  // namespace

absl::StatusOr<std::unique_ptr<RouterServer>> RouterServer::Start(ServerOptions options) {
  auto server = std::make_unique<Server>(std::move(options));
  RETURN_IF_ERROR(server->Begin());
  return std::unique_ptr<RouterServer>(std::move(server));
}

}  // namespace longhaul
