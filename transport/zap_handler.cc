#include "transport/zap_handler.h"

#include <zmq.h>

#include <cstring>

namespace longhaul {

namespace {

constexpr char kZapEndpoint[] = "inproc://zeromq.zap.01";
// Frames of a request (RFC 27): version, request id, domain, address, identity, mechanism, key.
constexpr size_t kVersion = 0, kRequestId = 1, kDomain = 2, kMechanism = 5, kKey = 6;
constexpr size_t kRequestFrames = 7;

std::vector<Frame> Reply(const Frame& request_id, const char* code, const char* text,
                         std::string user) {
  std::vector<Frame> out;
  out.emplace_back("1.0");
  out.emplace_back(request_id.ToString());
  out.emplace_back(code);
  out.emplace_back(text);
  out.emplace_back(std::move(user));
  out.emplace_back();  // no metadata
  return out;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ZapHandler>> ZapHandler::Start(void* context,
                                                              const KeyTable* table) {
  ZmqSocket socket(zmq_socket(context, ZMQ_REP));
  if (!socket) return ZmqError("cannot make the ZAP socket");
  SetInt(socket.get(), ZMQ_LINGER, 0);
  if (zmq_bind(socket.get(), kZapEndpoint) != 0) return ZmqError("cannot bind the ZAP socket");
  return std::unique_ptr<ZapHandler>(new ZapHandler(std::move(socket), table));
}

ZapHandler::ZapHandler(ZmqSocket socket, const KeyTable* table)
    : socket_(std::move(socket)), table_(table) {
  thread_ = std::thread([this] { Run(); });
}

ZapHandler::~ZapHandler() { thread_.join(); }

void ZapHandler::Run() {
  zmq_pollitem_t item{socket_.get(), 0, ZMQ_POLLIN, 0};
  while (zmq_poll(&item, 1, -1) >= 0 || zmq_errno() == EINTR) {
    while (Answer()) {
    }
  }
  socket_.reset();  // the context is ending
}

// False when there is no question now.
bool ZapHandler::Answer() {
  std::vector<Frame> request;
  const ReceiveResult result = Receive(socket_.get(), kRequestFrames, &request);
  if (result == ReceiveResult::kNothing) return false;
  std::vector<Frame> reply;
  WorkerKey key;
  const bool asked_well =
      result == ReceiveResult::kMessage && request.size() == kRequestFrames &&
      request[kVersion].ToString() == "1.0" && request[kDomain].ToString() == kZapDomain &&
      request[kMechanism].ToString() == "CURVE" && request[kKey].size() == key.bytes.size();
  if (asked_well) std::memcpy(key.bytes.data(), request[kKey].bytes().data(), key.bytes.size());
  const Frame no_id;
  const Frame& id = request.size() > kRequestId ? request[kRequestId] : no_id;
  if (asked_well && table_->Find(key).has_value()) {
    reply = Reply(id, "200", "OK", ToHex(key));
  } else {
    ++refused_;
    reply = Reply(id, "400", "this key may not connect", "");
  }
  return SendWhole(socket_.get(), &reply) == SendResult::kSent;
}

}  // namespace longhaul
