#include "worker/reducing.h"

#include <memory>

#include "common/log.h"
#include "proto/chunk.h"

namespace longhaul {
namespace {

SliceHost::Options WithSend(SliceHost::Options host,
                            std::function<void(const WorkerKey&, const Message&)> send) {
  host.send = std::move(send);
  return host;
}

}  // namespace

ReducingThread::ReducingThread(Options options)
    : report_(std::move(options.report)),
      host_(WithSend(std::move(options.host), std::move(options.send))) {
  thread_ = std::thread([this] { Run(); });
}

ReducingThread::~ReducingThread() {
  commands_.Close();
  thread_.join();
}

// A disk that fails takes our slices away, not the worker.
void ReducingThread::Run() {
  while (auto command = commands_.Pop()) {
    if (absl::Status status = (*command)(); !status.ok()) {
      LogWarning("cannot reduce: " + std::string(status.message()));
      host_.FailAll();
    }
    if (host_.TakeChanged()) report_(host_.Reports());
  }
}

void ReducingThread::Post(std::function<absl::Status()> command) {
  commands_.TryPush(std::move(command));
}

void ReducingThread::SetOrders(const Generation& generation, std::vector<SliceOrder> orders,
                               std::map<SessionId, WorkerKey> keys) {
  Post([=, this] { return host_.SetOrders(generation, orders, keys); });
}

void ReducingThread::Chunk(const WorkerKey& from, std::vector<Frame>&& frames) {
  // std::function must be copyable.
  auto shared = std::make_shared<std::vector<Frame>>(std::move(frames));
  Post([this, from, shared] {
    absl::StatusOr<ChunkHeader> header = DecodeChunkHeader((*shared)[0].bytes());
    if (!header.ok() || header->bytes != (*shared)[1].size()) return absl::OkStatus();
    return host_.OnChunk(from, *header, (*shared)[1].bytes());
  });
}

void ReducingThread::Serve(const WorkerKey& from, const Fetch& fetch) {
  Post([=, this] {
    host_.OnFetch(from, fetch);
    return absl::OkStatus();
  });
}

void ReducingThread::Connected(const WorkerKey& peer) {
  Post([=, this] {
    host_.OnConnected(peer);
    return absl::OkStatus();
  });
}

void ReducingThread::Room() {
  Post([this] {
    host_.OnRoom();
    return absl::OkStatus();
  });
}

void ReducingThread::Tick(Timestamp now) {
  Post([=, this] { return host_.Tick(now); });
}

}  // namespace longhaul
