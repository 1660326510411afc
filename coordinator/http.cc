#include "coordinator/http.h"

#include <httplib.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

#include "common/bounded_queue.h"

namespace longhaul {
namespace {

using Clock = std::chrono::steady_clock;

// A fixed number of threads and a queue with a limit: when it is full, accepting waits.
class BoundedPool : public httplib::TaskQueue {
 public:
  BoundedPool() : jobs_(HttpServer::kMaxWaiting) {
    for (size_t i = 0; i < HttpServer::kThreads; ++i) {
      threads_.emplace_back([this] {
        while (auto job = jobs_.Pop()) (*job)();
      });
    }
  }
  // Returns nothing in Debian 12's httplib, whether it was taken in Debian 13's.
  using Enqueued = decltype(std::declval<httplib::TaskQueue&>().enqueue(nullptr));
  Enqueued enqueue(std::function<void()> job) override {
    if (!jobs_.Push(std::move(job))) job();  // closed: the job still owns its socket
    return static_cast<Enqueued>(true);
  }
  void shutdown() override {
    jobs_.Close();
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  BoundedQueue<std::function<void()>> jobs_;
  std::vector<std::thread> threads_;
};

// A connection with a budget of received bytes and of time. httplib bounds neither the number of
// header lines nor the time that a trickle of bytes may take.
class BudgetStream : public httplib::Stream {
 public:
  explicit BudgetStream(int socket)
      : socket_(socket), end_(Clock::now() + HttpServer::kMaxConnectionTime) {}

  bool is_readable() const override { return left_ > 0 && Wait(POLLIN); }
  bool is_writable() const override { return Wait(POLLOUT); }
  ssize_t read(char* data, size_t size) override {
    if (!is_readable()) return -1;
    const ssize_t got = ::recv(socket_, data, std::min(size, left_), MSG_DONTWAIT);
    if (got > 0) left_ -= static_cast<size_t>(got);
    return got;
  }
  ssize_t write(const char* data, size_t size) override {
    if (!is_writable()) return -1;
    return ::send(socket_, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
  }
  void get_remote_ip_and_port(std::string& ip, int& port) const override { ip.clear(), port = 0; }
  void get_local_ip_and_port(std::string& ip, int& port) const override { ip.clear(), port = 0; }
  socket_t socket() const override { return socket_; }

 private:
  bool Wait(short events) const {
    pollfd descriptor{socket_, events, 0};
    for (;;) {
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end_ - Clock::now());
      if (left.count() <= 0) return false;
      const int ready = ::poll(&descriptor, 1, static_cast<int>(left.count()));
      if (ready >= 0 || errno != EINTR) return ready > 0;
    }
  }

  const int socket_;
  const Clock::time_point end_;
  size_t left_ = HttpServer::kMaxRequestBytes;
};

class BudgetServer : public httplib::Server {
 private:
  bool process_and_close_socket(socket_t socket) override {
    BudgetStream stream(socket);
    bool closed = false;
    const bool served = Process(*this, stream, closed);
    ::shutdown(socket, SHUT_RDWR);
    ::close(socket);
    return served;
  }
  // The signature grew between the httplib versions of Debian 12 and 13.
  template <class Self>
  static bool Process(Self& self, httplib::Stream& stream, bool& closed) {
    if constexpr (requires { self.process_request(stream, true, closed, nullptr); }) {
      return self.process_request(stream, true, closed, nullptr);
    } else {
      return self.process_request(stream, "", 0, "", 0, true, closed, nullptr);
    }
  }
};

void SetHeaders(httplib::Response& response) {
  response.set_header("Cache-Control", "no-store");
  response.set_header("X-Content-Type-Options", "nosniff");
  response.set_header("Content-Security-Policy",
                      "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
                      "connect-src 'self'; base-uri 'none'; frame-ancestors 'none'");
}

void Answer(const StatusBoard& board, const Metrics& metrics, const httplib::Request& request,
            httplib::Response& response) {
  SetHeaders(response);
  if (request.method != "GET") {
    response.status = 405;
    response.set_header("Allow", "GET");
    response.set_content("only GET\n", "text/plain");
  } else if (request.path == "/") {
    response.set_content(kStatusPage, "text/html; charset=utf-8");
  } else if (request.path == "/api/status") {
    response.set_content(*board.Get(), "application/json");
  } else if (request.path == "/metrics") {
    response.set_content(metrics.Text(), "text/plain; version=0.0.4");
  } else if (request.path == "/healthz") {
    response.set_content("ok\n", "text/plain");
  } else {
    response.status = 404;
    response.set_content("no such page\n", "text/plain");
  }
}

void Configure(httplib::Server& server, const StatusBoard* board, const Metrics* metrics) {
  // httplib's own default adds SO_REUSEPORT, with which two servers share a port unnoticed.
  server.set_socket_options([](int socket) {
    const int yes = 1;
    ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  });
  server.new_task_queue = [] { return new BoundedPool; };
  server.set_payload_max_length(HttpServer::kMaxRequestBytes);
  // All routing happens here: paths are compared, not matched against regular expressions.
  server.set_pre_routing_handler(
      [board, metrics](const httplib::Request& request, httplib::Response& response) {
        Answer(*board, *metrics, request, response);
        return httplib::Server::HandlerResponse::Handled;
      });
}

}  // namespace

struct HttpServer::Impl {
  BudgetServer server;
  std::thread thread;
  std::atomic<bool> ended{false};
  uint16_t port = 0;
};

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const std::string& host,
                                                              uint16_t port,
                                                              const StatusBoard* board,
                                                              const Metrics* metrics) {
  auto impl = std::make_unique<Impl>();
  Configure(impl->server, board, metrics);
  errno = 0;
  const int bound = port == 0                               ? impl->server.bind_to_any_port(host)
                    : impl->server.bind_to_port(host, port) ? port
                                                            : -1;
  if (bound <= 0) {
    const std::string why = errno == 0 ? "the address is not one of this machine" : strerror(errno);
    return absl::UnavailableError(
        "cannot serve the status page on " + host + ":" + std::to_string(port) + ": " + why +
        "; set network.http to another address:port, or to \"\" for none");
  }
  impl->port = static_cast<uint16_t>(bound);
  impl->thread = std::thread([raw = impl.get()] {
    raw->server.listen_after_bind();
    raw->ended = true;
  });
  // stop() is heard only by a server that runs.
  while (!impl->server.is_running() && !impl->ended) std::this_thread::yield();
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

HttpServer::~HttpServer() {
  impl_->server.stop();
  impl_->thread.join();
}

uint16_t HttpServer::port() const { return impl_->port; }

}  // namespace longhaul
