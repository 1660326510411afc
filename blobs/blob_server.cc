#include "blobs/blob_server.h"

#include <algorithm>

#include "common/hash.h"
#include "proto/chunk.h"

namespace longhaul {

BlobServer::BlobServer(Options options) : options_(std::move(options)) {
  thread_ = std::thread([this] { Run(); });
}

BlobServer::~BlobServer() { Stop(); }

void BlobServer::Stop() {
  {
    std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

bool BlobServer::Serve(const std::string& route, const FetchBlob& request) {
  {
    std::lock_guard lock(mutex_);
    size_t of_route = 0;
    for (Waiting& w : waiting_) {
      if (w.route != route) continue;
      ++of_route;
      if (w.request.transfer != request.transfer) continue;
      w.request.urgent = w.request.urgent || request.urgent;
      changed_.notify_all();
      return true;
    }
    if (of_route >= kMaxRequestsOfRoute || waiting_.size() >= kMaxRequests) return false;
    waiting_.push_back({route, request, Clock::now(), 0});
  }
  changed_.notify_all();
  return true;
}

void BlobServer::Room(const std::string& route) {
  std::lock_guard lock(mutex_);
  if (full_.erase(route) > 0) changed_.notify_all();
}

void BlobServer::NoteExchange() {
  std::lock_guard lock(mutex_);
  last_exchange_ = Clock::now();
}

void BlobServer::NoteNews() {
  {
    std::lock_guard lock(mutex_);
    ++news_;
  }
  changed_.notify_all();
}

std::list<BlobServer::Waiting>::iterator BlobServer::Next(Clock::time_point now) {
  waiting_.remove_if([&](const Waiting& w) { return now - w.since > kForget; });
  const auto may_go = [&](const Waiting& w) {
    return !full_.contains(w.route) && (w.tried != news_ || now - w.since >= options_.hold);
  };
  const auto urgent = std::find_if(waiting_.begin(), waiting_.end(),
                                   [&](const Waiting& w) { return w.request.urgent && may_go(w); });
  if (urgent != waiting_.end() || now - last_exchange_ < kYield) return urgent;
  return std::find_if(waiting_.begin(), waiting_.end(), may_go);
}

void BlobServer::Run() {
  std::unique_lock lock(mutex_);
  while (!stopped_) {
    const auto next = Next(Clock::now());
    if (next == waiting_.end()) {
      waiting_.empty() ? changed_.wait(lock) : (void)changed_.wait_for(lock, kYield);
      continue;
    }
    Waiting waiting = *next;
    const uint64_t news = news_;
    waiting_.erase(next);
    full_.insert(waiting.route);  // until it is sent; Room may come before Answer is back
    lock.unlock();
    const Answered answered = Answer(waiting);
    lock.lock();
    if (answered != Answered::kNoRoom) full_.erase(waiting.route);
    if (answered == Answered::kYes) continue;
    if (answered == Answered::kNotHere) waiting.tried = news;
    waiting_.push_front(std::move(waiting));
  }
}

BlobServer::Answered BlobServer::Answer(const Waiting& waiting) {
  const FetchBlob& request = waiting.request;
  absl::StatusOr<std::string> bytes = options_.read(request);
  if (absl::IsUnavailable(bytes.status()) && Clock::now() - waiting.since < options_.hold)
    return Answered::kNotHere;
  if (!bytes.ok()) {
    options_.send_control(waiting.route,
                          BlobRefused{request.transfer, std::string(bytes.status().message())});
    return Answered::kYes;
  }
  const ChunkHeader header{.kind = ObjectKind::kBlob,
                           .transfer = request.transfer,
                           .bytes = bytes->size(),
                           .checksum = Xxh3(AsBytes(*bytes))};
  const uint64_t size = bytes->size();
  std::vector<Frame> frames;
  frames.emplace_back(EncodeChunkHeader(header));
  frames.emplace_back(std::move(*bytes));
  if (!options_.send_bulk(waiting.route, std::move(frames))) return Answered::kNoRoom;
  sent_bytes_ += size;
  return Answered::kYes;
}

}  // namespace longhaul
