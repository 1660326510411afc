// Answers ZeroMQ's question "may this key connect?" (ZAP, RFC 27) from a KeyTable, on a thread of
// its own. Must be started before any socket of the context is bound. The user id of an accepted
// connection is the hex of its CURVE public key; every message of it carries that.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>

#include "absl/status/statusor.h"
#include "transport/key_table.h"
#include "transport/zmq_util.h"

namespace longhaul {

class ZapHandler {
 public:
  // `context` and `table` must outlive it.
  static absl::StatusOr<std::unique_ptr<ZapHandler>> Start(void* context, const KeyTable* table);
  ~ZapHandler();  // after zmq_ctx_shutdown of the context

  uint64_t refused() const { return refused_; }

 private:
  ZapHandler(ZmqSocket socket, const KeyTable* table);
  void Run();
  bool Answer();

  ZmqSocket socket_;
  const KeyTable* table_;
  std::atomic<uint64_t> refused_{0};
  std::thread thread_;
};

}  // namespace longhaul
