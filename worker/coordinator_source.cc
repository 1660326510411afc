#include "worker/coordinator_source.h"

#include <algorithm>
#include <set>
#include <vector>

#include "common/status_macros.h"

namespace longhaul {
namespace {

// Pieces that travel as one chunk each.
std::vector<BlobPart> Split(const Digest& blob_id, uint64_t offset, uint64_t size) {
  std::vector<BlobPart> parts;
  for (uint64_t at = 0; at < size; at += kMaxBlobPartBytes) {
    parts.push_back({blob_id, offset + at, std::min<uint64_t>(kMaxBlobPartBytes, size - at)});
  }
  return parts;
}

}  // namespace

CoordinatorSource::Part& CoordinatorSource::Want(const BlobPart& key, bool urgent,
                                                 std::vector<FetchBlob>& requests) {
  const auto [it, is_new] = parts_.try_emplace(key);
  Part& part = it->second;
  const bool more_urgent = urgent && !part.request.urgent && part.open();
  if (!is_new && !more_urgent) return part;
  if (is_new) {
    part.request = {++last_transfer_, key.blob_id, key.offset, static_cast<uint32_t>(key.bytes),
                    urgent};
    transfers_[last_transfer_] = key;
    // Silence counts from the first request.
    if (transfers_.size() == 1) last_chunk_ = Clock::now();
  }
  part.request.urgent = part.request.urgent || urgent;
  requests.push_back(part.request);
  return part;
}

void CoordinatorSource::SetUrgent(bool urgent) {
  urgent_ = urgent;
  if (urgent) changed_.notify_all();
}

void CoordinatorSource::Send(const std::vector<FetchBlob>& requests) {
  for (const FetchBlob& request : requests) ask_(request);
}

absl::StatusOr<std::string> CoordinatorSource::Read(const Digest& blob_id, uint64_t offset,
                                                    uint64_t size) {
  const std::vector<BlobPart> parts = Split(blob_id, offset, size);
  std::vector<FetchBlob> requests;
  {
    std::lock_guard lock(mutex_);
    for (const BlobPart& key : parts) Want(key, urgent_, requests);
  }
  Send(requests);
  std::string bytes;
  for (const BlobPart& key : parts) {
    ASSIGN_OR_RETURN(const std::string part, ReadPart(key));
    bytes += part;
  }
  return bytes;
}

absl::StatusOr<std::string> CoordinatorSource::ReadPart(const BlobPart& key) {
  std::unique_lock lock(mutex_);
  std::vector<FetchBlob> requests;
  while (true) {
    if (closed_) return absl::CancelledError("this worker is ending");
    Part& part = Want(key, urgent_, requests);
    if (!requests.empty()) {  // a new announcement had forgotten it
      lock.unlock();
      Send(std::exchange(requests, {}));
      lock.lock();
      continue;
    }
    if (!part.open()) {
      const Part done = std::move(part);
      parts_.erase(key);
      if (done.refusal) return absl::NotFoundError(*done.refusal);
      return *done.answer;
    }
    if (Clock::now() - last_chunk_ > kGiveUp) {
      transfers_.erase(part.request.transfer);
      parts_.erase(key);
      return absl::DeadlineExceededError("the coordinator sends nothing");
    }
    changed_.wait_for(lock, kAskAgain);
  }
}

void CoordinatorSource::Announce(std::span<const BlobPart> parts) {
  std::vector<FetchBlob> requests;
  {
    std::lock_guard lock(mutex_);
    std::set<BlobPart> keys;
    for (const BlobPart& whole : parts) {
      for (const BlobPart& key : Split(whole.blob_id, whole.offset, whole.bytes)) {
        if (keys.size() < kMaxParts) keys.insert(key);
      }
    }
    std::erase_if(parts_, [&](const auto& part) {
      if (keys.contains(part.first)) return false;
      transfers_.erase(part.second.request.transfer);
      return true;
    });
    for (const BlobPart& whole : parts) {
      for (const BlobPart& key : Split(whole.blob_id, whole.offset, whole.bytes)) {
        if (keys.contains(key)) Want(key, false, requests);
      }
    }
  }
  Send(requests);
}

void CoordinatorSource::OnChunk(uint64_t transfer, ByteSpan payload) {
  std::lock_guard lock(mutex_);
  last_chunk_ = Clock::now();
  const auto it = transfers_.find(transfer);
  if (it == transfers_.end() || payload.size() != it->second.bytes) return;
  parts_.at(it->second)
      .answer.emplace(reinterpret_cast<const char*>(payload.data()), payload.size());
  transfers_.erase(it);
  changed_.notify_all();
}

void CoordinatorSource::OnRefused(uint64_t transfer, const std::string& reason) {
  std::lock_guard lock(mutex_);
  last_chunk_ = Clock::now();
  const auto it = transfers_.find(transfer);
  if (it == transfers_.end()) return;
  parts_.at(it->second).refusal = reason;
  transfers_.erase(it);
  changed_.notify_all();
}

void CoordinatorSource::AskAgain(bool if_silent) {
  std::vector<FetchBlob> requests;
  {
    std::lock_guard lock(mutex_);
    if (if_silent && Clock::now() - last_chunk_ < kAskAgain) return;
    for (const auto& [transfer, key] : transfers_) requests.push_back(parts_.at(key).request);
  }
  Send(requests);
}

void CoordinatorSource::Close() {
  std::lock_guard lock(mutex_);
  closed_ = true;
  changed_.notify_all();
}

}  // namespace longhaul
