#include "wan/emulate/relay.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <thread>

#include "absl/strings/str_cat.h"

namespace longhaul::wan {
namespace {

constexpr size_t kReadBytes = 16 * 1024;  // one parcel
constexpr uint32_t kSegmentPayload = 1448;
constexpr uint32_t kSegmentHeaders = 52;
constexpr size_t kMaxWaitingBytes = 1 << 20;  // of a stream, for a receiver that does not read
constexpr size_t kMaxParcels = 64 * 1024;     // in the network: a gigabyte
constexpr size_t kMaxStreams = 4096;
constexpr Duration kLongestWait = Milliseconds(100);
constexpr Duration kHeldWait = Milliseconds(5);  // a link in front is full or down: look again
constexpr Duration kReportEvery = Milliseconds(100);

Duration Now() {
  return std::chrono::duration_cast<Duration>(std::chrono::steady_clock::now().time_since_epoch());
}

class Fd {
 public:
  explicit Fd(int fd = -1) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

sockaddr_in Loopback(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  return address;
}

// One end of a stream: what is read here goes into the network, what comes out of it is written.
struct End {
  Fd fd;
  bool read_all = false;                     // the other side has closed
  bool close_after = false;                  // everything that will come is in `waiting`
  std::deque<std::vector<uint8_t>> waiting;  // came out of the network
  size_t offset = 0;                         // written of the first one
  size_t waiting_bytes = 0;
};

struct Stream {
  uint32_t host = 0;
  End client;  // on the host
  End server;  // at the target
  End& end(bool at_target) { return at_target ? server : client; }
};

// A parcel's content: the stream, the direction, the bytes; no bytes: the end.
constexpr size_t kTagBytes = 9;

class TcpRelay : public Relay {
 public:
  TcpRelay(const std::vector<HostShape>& hosts, const std::vector<BottleneckShape>& bottlenecks,
           uint64_t seed, uint32_t target_host, uint16_t target_port)
      : network_(hosts, bottlenecks, seed, Network::Overload::kWait),
        target_host_(target_host),
        target_port_(target_port) {}
  ~TcpRelay() override;

  absl::Status Begin();
  uint16_t port(uint32_t host) const override { return ports_[host]; }
  void Change(std::function<void(Network&)> change) override;
  EmulatorReport report() const override;
  void ResetLateness() override { reset_lateness_ = true; }

 private:
  void Run();
  void Wait();
  void Accept(uint32_t host);
  void ReadAll();
  void Read(uint64_t id, Stream& stream, bool at_target);
  void SendParcel(uint64_t id, const Stream& stream, bool from_target, size_t bytes);
  bool MayRead(const Stream& stream, bool at_target);
  void DeliverDue();
  void Deliver(const Parcel& parcel);
  void Write(End& end);
  void DropEnded();
  void ApplyChanges();
  void Publish(Duration now);
  void Wake();

  Network network_;
  const uint32_t target_host_;
  const uint16_t target_port_;
  std::vector<Fd> listeners_;
  std::vector<uint16_t> ports_;
  std::map<uint64_t, Stream> streams_;
  uint64_t next_stream_ = 1;
  Fd wake_;
  std::vector<uint8_t> buffer_ = std::vector<uint8_t>(kTagBytes + kReadBytes);
  bool held_ = false;  // something could be read that the network does not take now
  std::atomic<bool> stop_{false};
  std::atomic<bool> reset_lateness_{false};
  Lateness lateness_;
  EmulatorReport live_;
  Duration next_report_{0};
  mutable std::mutex mutex_;  // the two below
  EmulatorReport report_;
  std::vector<std::function<void(Network&)>> changes_;
  std::thread thread_;
};

TcpRelay::~TcpRelay() {
  stop_ = true;
  Wake();
  if (thread_.joinable()) thread_.join();
}

absl::Status TcpRelay::Begin() {
  wake_ = Fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  for (uint32_t host = 0; host < network_.hosts(); ++host) {
    if (host == target_host_) {
      listeners_.emplace_back();
      ports_.push_back(0);
      continue;
    }
    Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    sockaddr_in address = Loopback(0);
    socklen_t size = sizeof address;
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    if (fd.get() < 0 || ::bind(fd.get(), generic, size) != 0 || ::listen(fd.get(), 64) != 0 ||
        ::getsockname(fd.get(), generic, &size) != 0) {
      return absl::ResourceExhaustedError(absl::StrCat("cannot listen: ", std::strerror(errno)));
    }
    ports_.push_back(ntohs(address.sin_port));
    listeners_.push_back(std::move(fd));
  }
  thread_ = std::thread([this] { Run(); });
  return absl::OkStatus();
}

void TcpRelay::Wake() {
  const uint64_t one = 1;
  (void)!::write(wake_.get(), &one, sizeof one);
}

void TcpRelay::Change(std::function<void(Network&)> change) {
  {
    std::lock_guard lock(mutex_);
    changes_.push_back(std::move(change));
  }
  Wake();
}

EmulatorReport TcpRelay::report() const {
  std::lock_guard lock(mutex_);
  return report_;
}

void TcpRelay::Run() {
  ::prctl(PR_SET_TIMERSLACK, 1);
  while (!stop_) {
    Wait();
    const Duration begin = Now();
    if (reset_lateness_.exchange(false)) lateness_.Forget();
    ApplyChanges();
    ReadAll();
    DeliverDue();
    DropEnded();
    const Duration end = Now();
    lateness_.NoteTurn(end - begin);
    if (end >= next_report_) Publish(end);
  }
}

void TcpRelay::Wait() {
  std::vector<pollfd> items{{wake_.get(), POLLIN, 0}};
  for (const Fd& fd : listeners_) items.push_back({fd.get(), POLLIN, 0});
  for (auto& [id, stream] : streams_) {
    for (bool at_target : {false, true}) {
      const End& end = stream.end(at_target);
      short events = end.waiting.empty() ? 0 : POLLOUT;
      if (!end.read_all && MayRead(stream, at_target)) events |= POLLIN;
      items.push_back({events == 0 ? -1 : end.fd.get(), events, 0});
    }
  }
  const std::optional<Duration> due = network_.NextDue();
  Duration left = due ? std::clamp(*due - Now(), Duration(0), kLongestWait) : kLongestWait;
  if (held_) left = std::min(left, kHeldWait);
  timespec timeout{0, static_cast<long>(left.count())};
  ::ppoll(items.data(), items.size(), &timeout, nullptr);
  if (items[0].revents != 0) {
    uint64_t count;
    (void)!::read(wake_.get(), &count, sizeof count);
  }
  for (uint32_t host = 0; host < listeners_.size(); ++host) {
    if (items[1 + host].revents != 0) Accept(host);
  }
}

void TcpRelay::Accept(uint32_t host) {
  Fd client(::accept4(listeners_[host].get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (client.get() < 0 || streams_.size() >= kMaxStreams) return;
  Fd server(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in address = Loopback(target_port_);
  if (server.get() < 0 ||
      ::connect(server.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return;  // nobody there: the client sees its connection end
  }
  const int one = 1;
  for (int fd : {client.get(), server.get()}) {
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    ::ioctl(fd, FIONBIO, &one);
  }
  Stream& stream = streams_[next_stream_++];
  stream.host = host;
  stream.client.fd = std::move(client);
  stream.server.fd = std::move(server);
}

// No link on the way is down, and the first one is not full; the receiver keeps up.
bool TcpRelay::MayRead(const Stream& stream, bool at_target) {
  const uint32_t from = at_target ? target_host_ : stream.host;
  const uint32_t to = at_target ? stream.host : target_host_;
  for (uint32_t link : network_.WayOf(from, to)) {
    if (network_.links()[link].down()) return false;
  }
  const End& other = const_cast<Stream&>(stream).end(!at_target);
  Link& first = network_.up(from);
  return first.Waiting(Now()) <= first.shape().queue / 2 &&
         other.waiting_bytes <= kMaxWaitingBytes && network_.parcels() < kMaxParcels;
}

void TcpRelay::ReadAll() {
  held_ = false;
  for (auto& [id, stream] : streams_) {
    for (bool at_target : {false, true}) {
      if (stream.end(at_target).read_all) continue;
      if (MayRead(stream, at_target)) {
        Read(id, stream, at_target);
      } else {
        held_ = true;
      }
    }
  }
}

void TcpRelay::Read(uint64_t id, Stream& stream, bool at_target) {
  End& end = stream.end(at_target);
  const ssize_t n = ::recv(end.fd.get(), &buffer_[kTagBytes], kReadBytes, 0);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  end.read_all = n <= 0;
  SendParcel(id, stream, at_target, static_cast<size_t>(std::max<ssize_t>(n, 0)));
}

void TcpRelay::SendParcel(uint64_t id, const Stream& stream, bool from_target, size_t bytes) {
  std::memcpy(buffer_.data(), &id, sizeof id);
  buffer_[sizeof id] = from_target ? 1 : 0;
  Parcel parcel;
  parcel.from = from_target ? target_host_ : stream.host;
  parcel.to = from_target ? stream.host : target_host_;
  parcel.segments =
      static_cast<uint32_t>(std::max<size_t>(1, (bytes + kSegmentPayload - 1) / kSegmentPayload));
  parcel.wire_bytes = static_cast<uint32_t>(bytes) + parcel.segments * kSegmentHeaders;
  parcel.segment_bytes = std::min(parcel.wire_bytes, kSegmentPayload + kSegmentHeaders);
  parcel.bytes.assign(buffer_.begin(), buffer_.begin() + static_cast<ptrdiff_t>(kTagBytes + bytes));
  network_.Send(Now(), std::move(parcel));
}

void TcpRelay::DeliverDue() {
  Duration now = Now();
  while (auto delivery = network_.Receive(now)) {
    lateness_.NoteDelivery(now - delivery->due);
    Deliver(delivery->parcel);
    now = Now();
  }
  for (auto& [id, stream] : streams_) {
    Write(stream.client);
    Write(stream.server);
  }
}

void TcpRelay::Deliver(const Parcel& parcel) {
  uint64_t id;
  std::memcpy(&id, parcel.bytes.data(), sizeof id);
  const bool from_target = parcel.bytes[sizeof id] != 0;
  const auto it = streams_.find(id);
  if (it == streams_.end()) return;
  End& end = it->second.end(!from_target);
  if (parcel.bytes.size() == kTagBytes) {
    end.close_after = true;
    return;
  }
  end.waiting.emplace_back(parcel.bytes.begin() + kTagBytes, parcel.bytes.end());
  end.waiting_bytes += parcel.bytes.size() - kTagBytes;
}

void TcpRelay::Write(End& end) {
  while (!end.waiting.empty()) {
    const std::vector<uint8_t>& first = end.waiting.front();
    const ssize_t n = ::send(end.fd.get(), &first[end.offset], first.size() - end.offset,
                             MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n < 0) {
      end.waiting.clear();
      end.waiting_bytes = 0;
      end.close_after = true;
      return;
    }
    end.offset += static_cast<size_t>(n);
    end.waiting_bytes -= static_cast<size_t>(n);
    if (end.offset < first.size()) return;
    end.waiting.pop_front();
    end.offset = 0;
  }
}

// A stream ends when either end has got everything; ZeroMQ never half-closes.
void TcpRelay::DropEnded() {
  for (auto it = streams_.begin(); it != streams_.end();) {
    const auto ended = [](const End& end) { return end.close_after && end.waiting.empty(); };
    const bool over = ended(it->second.client) || ended(it->second.server);
    it = over ? streams_.erase(it) : std::next(it);
  }
}

void TcpRelay::ApplyChanges() {
  std::vector<std::function<void(Network&)>> changes;
  {
    std::lock_guard lock(mutex_);
    changes.swap(changes_);
  }
  for (auto& change : changes) change(network_);
}

void TcpRelay::Publish(Duration now) {
  next_report_ = now + kReportEvery;
  live_.Take(lateness_);
  live_.links.clear();
  for (const Link& link : network_.links()) live_.links.push_back(link.counters());
  std::lock_guard lock(mutex_);
  report_ = live_;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Relay>> Relay::Start(std::vector<HostShape> hosts,
                                                    std::vector<BottleneckShape> bottlenecks,
                                                    uint64_t seed, uint32_t target_host,
                                                    uint16_t target_port) {
  const auto lossless = [](LinkShape* link) { link->loss = 0; };
  for (HostShape& host : hosts) {
    lossless(&host.up);
    lossless(&host.down);
  }
  for (BottleneckShape& b : bottlenecks) lossless(&b.link);
  auto relay = std::make_unique<TcpRelay>(hosts, bottlenecks, seed, target_host, target_port);
  if (absl::Status status = relay->Begin(); !status.ok()) return status;
  return std::unique_ptr<Relay>(std::move(relay));
}

}  // namespace longhaul::wan
