#include "worker/site/site_link.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/bytes.h"
#include "common/check.h"
#include "common/status_macros.h"

namespace longhaul {
namespace {

constexpr uint32_t kHelloMagic = 0x5348'4c31;
constexpr size_t kHelloBytes = 4 + 4 + 4 + 4 + kSiteKeyBytes;
constexpr Duration kHelloTimeout = Seconds(5);
constexpr int kRetryMs = 100;

int64_t NowNs() {
  return std::chrono::duration_cast<Duration>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// Until when to wait, in what poll wants.
int LeftMs(int64_t until_ns) {
  const int64_t left = (until_ns - NowNs()) / 1'000'000;
  return static_cast<int>(std::clamp<int64_t>(left, 0, 1'000'000'000));
}

absl::Status SystemError(const std::string& what) {
  return absl::UnavailableError(what + ": " + std::strerror(errno));
}

void Prepare(int socket) {
  const int on = 1;
  ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  ::fcntl(socket, F_SETFL, ::fcntl(socket, F_GETFL) | O_NONBLOCK);
  ::fcntl(socket, F_SETFD, FD_CLOEXEC);
}

bool MakeAddress(const std::string& text, uint16_t port, sockaddr_in& out) {
  out = {};
  out.sin_family = AF_INET;
  out.sin_port = htons(port);
  return ::inet_pton(AF_INET, text.c_str(), &out.sin_addr) == 1;
}

std::string Hello(const SitePlace& place, uint32_t channel) {
  ByteWriter out;
  out.U32(kHelloMagic);
  out.U32(place.rank);
  out.U32(place.size);
  out.U32(channel);
  out.Raw(place.key.data(), place.key.size());
  return out.Take();
}

bool SameKey(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  unsigned difference = 0;
  for (size_t i = 0; i < a.size(); ++i) difference |= static_cast<unsigned char>(a[i] ^ b[i]);
  return difference == 0;
}

// Reads a hello of `place`'s site from a fresh connection. InvalidArgument says what is wrong.
absl::StatusOr<std::pair<uint32_t, uint32_t>> ReadHello(int socket, const SitePlace& place,
                                                        uint32_t channels) {
  char bytes[kHelloBytes];
  const int64_t until = NowNs() + kHelloTimeout.count();
  for (size_t at = 0; at < sizeof bytes;) {
    pollfd one{socket, POLLIN, 0};
    if (::poll(&one, 1, LeftMs(until)) <= 0) return absl::InvalidArgumentError("silent stranger");
    const ssize_t n = ::recv(socket, bytes + at, sizeof bytes - at, 0);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
      return absl::InvalidArgumentError("connection lost");
    }
    at += static_cast<size_t>(std::max<ssize_t>(n, 0));
  }
  ByteReader in(std::string_view(bytes, sizeof bytes));
  const uint32_t magic = in.U32(), rank = in.U32(), size = in.U32(), channel = in.U32();
  const std::string_view key(bytes + kHelloBytes - kSiteKeyBytes, kSiteKeyBytes);
  if (magic != kHelloMagic || !SameKey(key, place.key)) {
    return absl::InvalidArgumentError("not of this site");
  }
  if (size != place.size || rank == 0 || rank >= place.size || channel >= channels) {
    return absl::InvalidArgumentError(
        absl::StrCat("rank ", rank, " of ", size, " in a site of ", place.size, " ranks"));
  }
  return std::pair(rank, channel);
}

absl::StatusOr<int> ConnectOnce(const sockaddr_in& address) {
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (socket < 0) return SystemError("socket");
  if (::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    absl::Status status = SystemError("connect");
    ::close(socket);
    return status;
  }
  Prepare(socket);
  return socket;
}

}  // namespace

SiteLink::SiteLink(uint32_t rank, uint32_t size) : rank_(rank), sockets_(size, -1) {
  LONGHAUL_CHECK(::pipe2(interrupt_, O_CLOEXEC) == 0, "no file descriptors left");
}

SiteLink::~SiteLink() {
  for (uint32_t peer = 0; peer < sockets_.size(); ++peer) Drop(peer);
  ::close(interrupt_[0]);
  ::close(interrupt_[1]);
}

std::vector<uint32_t> SiteLink::peers() const {
  std::vector<uint32_t> out;
  for (uint32_t peer = 0; peer < sockets_.size(); ++peer) {
    if (sockets_[peer] >= 0) out.push_back(peer);
  }
  return out;
}

void SiteLink::Drop(uint32_t peer) {
  if (sockets_[peer] >= 0) ::close(sockets_[peer]);
  sockets_[peer] = -1;
}

void SiteLink::Interrupt() {
  const char byte = 0;
  [[maybe_unused]] const ssize_t written = ::write(interrupt_[1], &byte, 1);
}

absl::Status SiteLink::Transfer(uint32_t peer, char* data, size_t size, bool out,
                                int64_t until_ns) {
  const short wanted = out ? POLLOUT : POLLIN;
  while (size > 0) {
    pollfd both[2] = {{sockets_[peer], wanted, 0}, {interrupt_[0], POLLIN, 0}};
    const int ready = ::poll(both, 2, LeftMs(until_ns));
    if (ready < 0 && errno == EINTR) continue;
    if (ready == 0) {
      return absl::DeadlineExceededError(absl::StrCat("rank ", peer, " is stuck"));
    }
    if (both[1].revents != 0) return absl::UnavailableError("aborted");
    const ssize_t n = out ? ::send(sockets_[peer], data, size, MSG_NOSIGNAL)
                          : ::recv(sockets_[peer], data, size, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (n <= 0) return absl::UnavailableError(absl::StrCat("rank ", peer, " is gone"));
    data += n;
    size -= static_cast<size_t>(n);
  }
  return absl::OkStatus();
}

absl::Status SiteLink::Send(uint32_t peer, std::string_view frame, Duration timeout) {
  if (sockets_[peer] < 0) return absl::UnavailableError(absl::StrCat("rank ", peer, " is gone"));
  LONGHAUL_CHECK(frame.size() <= kMaxSiteFrameBytes, "a frame beyond the limit");
  const int64_t until = NowNs() + timeout.count();
  auto size = static_cast<uint32_t>(frame.size());
  absl::Status status = Transfer(peer, reinterpret_cast<char*>(&size), sizeof size, true, until);
  if (status.ok()) {
    status = Transfer(peer, const_cast<char*>(frame.data()), frame.size(), true, until);
  }
  if (!status.ok()) Drop(peer);
  return status;
}

absl::StatusOr<std::string> SiteLink::Receive(uint32_t peer, Duration timeout) {
  if (sockets_[peer] < 0) return absl::UnavailableError(absl::StrCat("rank ", peer, " is gone"));
  const int64_t until = NowNs() + timeout.count();
  uint32_t size = 0;
  std::string frame;
  absl::Status status = Transfer(peer, reinterpret_cast<char*>(&size), sizeof size, false, until);
  if (status.ok() && size > kMaxSiteFrameBytes) {
    status = absl::UnavailableError(absl::StrCat("rank ", peer, " talks nonsense"));
  }
  if (status.ok()) {
    frame.resize(size);
    status = Transfer(peer, frame.data(), size, false, until);
  }
  if (!status.ok()) {
    Drop(peer);
    return status;
  }
  return frame;
}

absl::StatusOr<std::unique_ptr<SiteListener>> SiteListener::Listen(const std::string& address,
                                                                   uint16_t port) {
  sockaddr_in place;
  if (!MakeAddress(address, port, place)) {
    return absl::InvalidArgumentError("\"" + address + "\" is not a numeric IPv4 address");
  }
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (socket < 0) return SystemError("socket");
  const int on = 1;
  ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  socklen_t size = sizeof place;
  if (::bind(socket, reinterpret_cast<sockaddr*>(&place), sizeof place) != 0 ||
      ::listen(socket, static_cast<int>(kMaxSiteRanks)) != 0 ||
      ::getsockname(socket, reinterpret_cast<sockaddr*>(&place), &size) != 0) {
    absl::Status status = SystemError("cannot listen on " + address);
    ::close(socket);
    return status;
  }
  return std::unique_ptr<SiteListener>(new SiteListener(socket, ntohs(place.sin_port)));
}

SiteListener::~SiteListener() { ::close(socket_); }

absl::StatusOr<std::vector<std::unique_ptr<SiteLink>>> SiteListener::Accept(const SitePlace& place,
                                                                            uint32_t channels) {
  std::vector<std::unique_ptr<SiteLink>> links;
  for (uint32_t c = 0; c < channels; ++c) links.emplace_back(new SiteLink(0, place.size));
  const int64_t until = NowNs() + place.join_timeout.count();
  uint32_t missing = (place.size - 1) * channels;
  while (missing > 0) {
    pollfd one{socket_, POLLIN, 0};
    if (::poll(&one, 1, LeftMs(until)) < 0 && errno == EINTR) continue;
    if (one.revents == 0) break;
    const int socket = ::accept4(socket_, nullptr, nullptr, SOCK_CLOEXEC);
    if (socket < 0) continue;
    Prepare(socket);
    const auto hello = ReadHello(socket, place, channels);
    if (!hello.ok() || links[hello->second]->sockets_[hello->first] >= 0) {
      ::close(socket);  // a stranger, or one that came twice
      continue;
    }
    links[hello->second]->sockets_[hello->first] = socket;
    --missing;
  }
  if (missing == 0) return links;
  std::string names;
  for (uint32_t rank = 1; rank < place.size; ++rank) {
    for (const auto& link : links) {
      if (link->sockets_[rank] >= 0) continue;
      absl::StrAppend(&names, names.empty() ? "" : ", ", rank);
      break;
    }
  }
  return absl::DeadlineExceededError(
      absl::StrCat("of the site's ", place.size, " ranks these did not start in time: ", names));
}

absl::StatusOr<std::vector<std::unique_ptr<SiteLink>>> JoinSite(const SitePlace& place,
                                                                const std::string& address,
                                                                uint16_t port, uint32_t channels) {
  sockaddr_in to;
  if (!MakeAddress(address, port, to)) {
    return absl::InvalidArgumentError("\"" + address + "\" is not a numeric IPv4 address");
  }
  const int64_t until = NowNs() + place.join_timeout.count();
  std::vector<std::unique_ptr<SiteLink>> links;
  while (links.size() < channels) {
    const absl::StatusOr<int> socket = ConnectOnce(to);
    if (!socket.ok()) {
      if (NowNs() > until) return socket.status();
      ::poll(nullptr, 0, kRetryMs);
      continue;
    }
    std::unique_ptr<SiteLink> link(new SiteLink(place.rank, place.size));
    link->sockets_[0] = *socket;
    std::string hello = Hello(place, static_cast<uint32_t>(links.size()));
    RETURN_IF_ERROR(link->Transfer(0, hello.data(), hello.size(), true, until));
    links.push_back(std::move(link));
  }
  return links;
}

}  // namespace longhaul
