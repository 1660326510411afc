// What our sockets cost beside ZeroMQ's own: messages of a chunk's size over the loopback
// interface, plain, with CURVE, and through RouterServer and DealerClient.
#include <sys/resource.h>
#include <zmq.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "absl/strings/str_format.h"
#include "bench/wan_experiment.h"
#include "common/bounded_queue.h"
#include "common/status_macros.h"
#include "transport/client.h"
#include "transport/server.h"
#include "transport/zmq_util.h"

namespace longhaul {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kMessageBytes = 256 * 1024;
constexpr int kHighWater = 32;
constexpr int kPatienceMs = 60'000;
constexpr int kRepeats = 5;

struct Speed {
  double bytes_per_s = 0;
  double cpu_s_per_gb = 0;  // both ends
};

double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// From the first message that came to the last one.
class Meter {
 public:
  void Begin() {
    begin_ = Clock::now();
    cpu_ = CpuSeconds();
  }
  Speed End(uint64_t bytes) const {
    const double seconds = std::chrono::duration<double>(Clock::now() - begin_).count();
    const auto b = static_cast<double>(bytes);
    return {b / seconds, (CpuSeconds() - cpu_) / (b * 1e-9)};
  }

 private:
  Clock::time_point begin_;
  double cpu_ = 0;
};

// libzmq's own way, as its local_thr and remote_thr: PUSH to PULL, a thread each.
absl::StatusOr<Speed> RawSpeed(uint64_t messages, bool curve) {
  ZmqContext context(zmq_ctx_new());
  ZmqSocket pull(zmq_socket(context.get(), ZMQ_PULL)), push(zmq_socket(context.get(), ZMQ_PUSH));
  if (!pull || !push) return ZmqError("cannot make sockets");
  const CurveKeyPair server = CurveKeyPair::Generate(), client = CurveKeyPair::Generate();
  for (void* socket : {pull.get(), push.get()}) {
    SetInt(socket, ZMQ_LINGER, 0);
    SetInt(socket, ZMQ_SNDHWM, kHighWater);
    SetInt(socket, ZMQ_RCVHWM, kHighWater);
    SetInt(socket, ZMQ_SNDTIMEO, kPatienceMs);
    SetInt(socket, ZMQ_RCVTIMEO, kPatienceMs);
  }
  if (curve) {  // without a handler for keys, everybody may come
    SetInt(pull.get(), ZMQ_CURVE_SERVER, 1);
    SetBytes(pull.get(), ZMQ_CURVE_SECRETKEY, server.secret.data(), server.secret.size());
    SetCurveClient(push.get(), client, server.public_key);
  }
  char endpoint[256];
  size_t size = sizeof endpoint;
  if (zmq_bind(pull.get(), "tcp://127.0.0.1:*") != 0 ||
      zmq_getsockopt(pull.get(), ZMQ_LAST_ENDPOINT, endpoint, &size) != 0 ||
      zmq_connect(push.get(), endpoint) != 0) {
    return ZmqError("cannot connect over loopback");
  }
  std::thread sender([&] {
    for (uint64_t i = 0; i <= messages; ++i) {
      zmq_msg_t message;
      zmq_msg_init_size(&message, kMessageBytes);
      if (zmq_msg_send(&message, push.get(), 0) >= 0) continue;
      zmq_msg_close(&message);
      return;
    }
  });
  Meter meter;
  bool all = true;
  for (uint64_t i = 0; all && i <= messages; ++i) {
    Frame frame;
    all = zmq_msg_recv(static_cast<zmq_msg_t*>(frame.zmq_message()), pull.get(), 0) >= 0;
    if (i == 0) meter.Begin();
  }
  const Speed speed = meter.End(messages * kMessageBytes);
  sender.join();
  if (!all) return absl::DeadlineExceededError("a message did not come");
  return speed;
}

// Ours: a client that sends as fast as it may, and a server that hands over.
absl::StatusOr<Speed> OurSpeed(uint64_t messages) {
  BoundedQueue<int> done(1), room(1);
  KeyTable table;
  Meter meter;
  uint64_t arrived = 0;  // the server's thread
  Speed speed;           // written before `done`
  ServerOptions server_options;
  server_options.listen = "127.0.0.1:0";
  server_options.keys = CurveKeyPair::Generate();
  server_options.key_table = &table;
  server_options.on_message = [&](Inbound&&) {
    if (arrived == 0) meter.Begin();
    if (arrived++ == messages) {
      speed = meter.End(messages * kMessageBytes);
      done.TryPush(1);
    }
  };
  ClientOptions client_options;
  client_options.server_key = server_options.keys.public_key;
  client_options.keys = CurveKeyPair::Generate();
  table.Add(client_options.keys.public_key, Role::kWorker);
  ASSIGN_OR_RETURN(const auto server, RouterServer::Start(std::move(server_options)));
  client_options.address = server->address();
  client_options.on_message = [](std::vector<Frame>&&) {};
  client_options.on_event = [&](const ConnectionEvent&) { room.TryPush(1); };
  client_options.on_room = [&] { room.TryPush(1); };
  ASSIGN_OR_RETURN(const auto client, DealerClient::Start(std::move(client_options)));
  const auto until = Clock::now() + std::chrono::milliseconds(kPatienceMs);
  for (uint64_t sent = 0; sent <= messages && Clock::now() < until;) {
    std::vector<Frame> message;
    message.emplace_back(std::string(kMessageBytes, 'x'));
    if (client->Send(std::move(message))) {
      ++sent;
    } else {
      room.PopFor(Milliseconds(10));
    }
  }
  if (!done.PopFor(Milliseconds(kPatienceMs))) {
    return absl::DeadlineExceededError("a message did not come");
  }
  return speed;
}

}  // namespace

Experiment ZmqTax(uint64_t mib) {
  Experiment out;
  out.in_lab = false;
  out.measure = [=](const Place&) -> absl::StatusOr<Numbers> {
    const uint64_t messages = mib * 1024 * 1024 / kMessageBytes;
    std::vector<double> plain, curve, ours, cpu;
    for (int i = 0; i < kRepeats; ++i) {
      ASSIGN_OR_RETURN(const Speed p, RawSpeed(messages, false));
      ASSIGN_OR_RETURN(const Speed c, RawSpeed(messages, true));
      ASSIGN_OR_RETURN(const Speed o, OurSpeed(messages));
      plain.push_back(p.bytes_per_s);
      curve.push_back(c.bytes_per_s);
      ours.push_back(o.bytes_per_s);
      cpu.push_back(o.cpu_s_per_gb);
    }
    Numbers n;
    n.values["curve"] = Median(ours) / Median(curve);
    n.values["plain"] = Median(ours) / Median(plain);
    n.values["cpu"] = Median(cpu);
    n.note = absl::StrFormat("MB/s: ours %.0f, libzmq with CURVE %.0f, plain %.0f; %d KiB",
                             Median(ours) / 1e6, Median(curve) / 1e6, Median(plain) / 1e6,
                             kMessageBytes / 1024);
    return n;
  };
  out.rows = {
      {"zmq_tax", "curve", "ours/libzmq", 0.8},
      {"zmq_tax_plain", "plain", "ours/libzmq", 0, Relation::kAtLeast, ResultKind::kMeasure},
      {"zmq_tax_cpu", "cpu", "CPU-s/GB", 0, Relation::kAtMost, ResultKind::kMeasure}};
  return out;
}

}  // namespace longhaul
