#include "cli/reach.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>

namespace longhaul {
namespace {

using Clock = std::chrono::steady_clock;

// 0, or the errno of the attempt; ETIMEDOUT when the time is over.
int Connect(const addrinfo& address, Clock::time_point end) {
  const int fd = ::socket(address.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return errno;
  const struct Closer {
    int fd;
    ~Closer() { ::close(fd); }
  } closer{fd};
  if (::connect(fd, address.ai_addr, address.ai_addrlen) == 0) return 0;
  if (errno != EINPROGRESS) return errno;
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now());
    if (left.count() <= 0) return ETIMEDOUT;
    pollfd entry{fd, POLLOUT, 0};
    if (::poll(&entry, 1, static_cast<int>(std::min<int64_t>(left.count(), 60'000))) > 0) break;
  }
  int error = 0;
  socklen_t size = sizeof error;
  ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
  return error;
}

std::string Numeric(const addrinfo& address) {
  char host[NI_MAXHOST] = "";
  ::getnameinfo(address.ai_addr, address.ai_addrlen, host, sizeof host, nullptr, 0, NI_NUMERICHOST);
  return host;
}

}  // namespace

absl::StatusOr<std::string> TryConnect(const HostPort& target, Duration timeout) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  const int failed =
      ::getaddrinfo(target.host.c_str(), std::to_string(target.port).c_str(), &hints, &list);
  if (failed != 0) {
    return absl::NotFoundError(std::string("the name does not resolve: ") + ::gai_strerror(failed));
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(list, &::freeaddrinfo);
  const auto end = Clock::now() + timeout;
  int error = 0;
  for (const addrinfo* a = list; a; a = a->ai_next) {
    error = Connect(*a, end);
    if (error == 0) return Numeric(*a);
  }
  if (error == ETIMEDOUT) return absl::DeadlineExceededError("no answer in time");
  return absl::UnavailableError(strerror(error));
}

}  // namespace longhaul
