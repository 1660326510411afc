// The coordinator's second, read-only port:
//   GET /            a built-in page that polls /api/status
//   GET /api/status  the status board's JSON
//   GET /metrics     Prometheus text
//   GET /healthz     "ok"
// Anything else is 404, any other method 405. Each connection serves one request and is cut after
// kMaxRequestBytes received or kMaxConnectionTime altogether; kThreads connections are served at a
// time, kMaxWaiting wait, further ones stay in the kernel's backlog. No authentication: keep it on
// loopback, or behind a proxy that has some.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/time.h"
#include "coordinator/http_metrics.h"
#include "coordinator/http_status.h"

namespace longhaul {

class HttpServer {
 public:
  static constexpr size_t kThreads = 4;
  static constexpr size_t kMaxWaiting = 32;
  static constexpr size_t kMaxRequestBytes = 16 * 1024;
  static constexpr Duration kMaxConnectionTime = Seconds(10);

  // Binds host:port (port 0 = any free one) and serves on threads of its own until destroyed.
  // `board` and `metrics` must outlive the server. Unavailable when the address cannot be bound;
  // the message says why.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const std::string& host, uint16_t port,
                                                           const StatusBoard* board,
                                                           const Metrics* metrics);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  uint16_t port() const;

 private:
  struct Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// The built-in page: one HTML document that loads nothing from elsewhere.
extern const char kStatusPage[];

}  // namespace longhaul
