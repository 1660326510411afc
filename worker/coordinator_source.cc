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
                                                 std::vector<Asked>& requests) {
  const auto [it, is_new] = parts_.try_emplace(key);
  Part& part = it->second;
  const bool more_urgent = urgent && !part.request.urgent && part.open();
  if (!is_new && !more_urgent) return part;
  if (is_new) {
    part.request = {.transfer = ++last_transfer_,
                    .blob_id = key.blob_id,
                    .offset = key.offset,
                    .bytes = static_cast<uint32_t>(key.bytes),
                    .urgent = urgent,
                    .direct = !ask_holder_ || wrong_.contains(key)};
    transfers_[last_transfer_] = key;
    // Silence counts from the first request.
    if (transfers_.size() == 1) last_chunk_ = Clock::now();
  }
  part.request.urgent = part.request.urgent || urgent;
  requests.push_back(AskedOf(part));
  return part;
}

void CoordinatorSource::SetUrgent(bool urgent) {
  urgent_ = urgent;
  if (urgent) changed_.notify_all();
}

void CoordinatorSource::Send(const std::vector<Asked>& requests) {
  for (const Asked& asked : requests)
    asked.holder ? ask_holder_(*asked.holder, asked.request) : ask_(asked.request);
}

absl::StatusOr<std::string> CoordinatorSource::Read(const Digest& blob_id, uint64_t offset,
                                                    uint64_t size) {
  const std::vector<BlobPart> parts = Split(blob_id, offset, size);
  std::vector<Asked> requests;
  {
    std::lock_guard lock(mutex_);
    last_read_.clear();
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
  std::vector<Asked> requests;
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
      last_read_[key] = done.from;
      wrong_.erase(key);
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
  std::vector<Asked> requests;
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

// ---- what comes ----

CoordinatorSource::Part* CoordinatorSource::OpenPart(uint64_t transfer) {
  const auto it = transfers_.find(transfer);
  return it == transfers_.end() ? nullptr : &parts_.at(it->second);
}

void CoordinatorSource::OnChunk(const WorkerKey& from, uint64_t transfer, ByteSpan payload) {
  std::lock_guard lock(mutex_);
  last_chunk_ = Clock::now();
  Part* part = OpenPart(transfer);
  if (!part || from != part->asked_of() || payload.size() != part->request.bytes) return;
  if (!part->holders.empty()) {
    if (heard_.size() >= kMaxPeers) heard_.clear();
    heard_[from] = last_chunk_;
    holder_bytes_ += payload.size();
  }
  part->answer.emplace(reinterpret_cast<const char*>(payload.data()), payload.size());
  part->from = from;
  transfers_.erase(transfer);
  changed_.notify_all();
}

void CoordinatorSource::OnRefused(const WorkerKey& from, uint64_t transfer,
                                  const std::string& reason) {
  std::vector<Asked> requests;
  {
    std::lock_guard lock(mutex_);
    last_chunk_ = Clock::now();
    Part* part = OpenPart(transfer);
    if (!part || from != part->asked_of()) return;
    if (part->holders.empty()) {
      part->refusal = reason;
      transfers_.erase(transfer);
      changed_.notify_all();
      return;
    }
    heard_[from] = last_chunk_;
    Turn(*part, /*next=*/true, requests);
  }
  Send(requests);
}

void CoordinatorSource::AskAgain(bool if_silent) {
  std::vector<Asked> requests;
  {
    std::lock_guard lock(mutex_);
    const auto now = Clock::now();
    const bool again = !if_silent || now - last_chunk_ >= kAskAgain;
    std::set<WorkerKey> silent;
    for (const auto& [transfer, key] : transfers_) {
      const Part& part = parts_.at(key);
      if (part.holders.empty() && again) requests.push_back(AskedOf(part));
      if (!part.holders.empty() &&
          now - std::max(part.asked, heard_[part.asked_of()]) > kHolderPatience)
        silent.insert(part.asked_of());
    }
    for (const WorkerKey& holder : silent) Leave(holder, requests);
  }
  Send(requests);
}

// ---- holders ----

CoordinatorSource::Asked CoordinatorSource::AskedOf(const Part& part) {
  if (part.holders.empty()) return {part.request, std::nullopt};
  return {part.request, part.holders.front()};
}

bool CoordinatorSource::Usable(const WorkerKey& holder) const {
  const auto avoided = avoid_until_.find(holder);
  return ask_holder_ && liars_.size() < kMaxLiars && !liars_.contains(holder) &&
         (avoided == avoid_until_.end() || avoided->second <= Clock::now());
}

void CoordinatorSource::Turn(Part& part, bool next, std::vector<Asked>& requests) {
  if (next) part.holders.erase(part.holders.begin());
  std::erase_if(part.holders, [&](const PeerView& holder) { return !Usable(holder.key); });
  part.request.direct = part.holders.empty();
  part.asked = Clock::now();
  requests.push_back(AskedOf(part));
}

void CoordinatorSource::OnElsewhere(const BlobElsewhere& elsewhere) {
  std::vector<Asked> requests;
  {
    std::lock_guard lock(mutex_);
    last_chunk_ = Clock::now();
    Part* part = OpenPart(elsewhere.transfer);
    if (!part || part->request.direct || !part->holders.empty()) return;
    part->holders = elsewhere.holders;
    Turn(*part, /*next=*/false, requests);
  }
  Send(requests);
}

void CoordinatorSource::Leave(const WorkerKey& holder, std::vector<Asked>& requests) {
  const auto now = Clock::now();
  std::erase_if(avoid_until_, [&](const auto& avoided) { return avoided.second <= now; });
  heard_.erase(holder);
  avoid_until_[holder] = now + kAvoid;
  for (const auto& [transfer, key] : transfers_) {
    Part& part = parts_.at(key);
    if (!part.holders.empty() && part.asked_of() == holder) Turn(part, /*next=*/true, requests);
  }
}

void CoordinatorSource::OnHolder(const WorkerKey& holder, bool up) {
  std::vector<Asked> requests;
  {
    std::lock_guard lock(mutex_);
    if (!up) Leave(holder, requests);
    for (const auto& [transfer, key] : transfers_) {
      const Part& part = parts_.at(key);
      if (up && !part.holders.empty() && part.asked_of() == holder)
        requests.push_back(AskedOf(part));
    }
  }
  Send(requests);
}

bool CoordinatorSource::Disown() {
  std::vector<Asked> requests;
  bool others = false;
  {
    std::lock_guard lock(mutex_);
    wrong_.clear();
    for (const auto& [key, from] : last_read_) {
      if (from == WorkerKey{}) continue;
      others = true;
      wrong_.insert(key);
      liars_.insert(from);
      Leave(from, requests);
    }
    last_read_.clear();
  }
  Send(requests);
  return others;
}

bool CoordinatorSource::ReadSole() {
  std::lock_guard lock(mutex_);
  return ask_holder_ && !last_read_.empty() &&
         std::all_of(last_read_.begin(), last_read_.end(),
                     [](const auto& read) { return read.second == WorkerKey{}; });
}

std::optional<std::string> CoordinatorSource::Peek(const BlobPart& key) {
  std::lock_guard lock(mutex_);
  const auto it = parts_.find(key);
  return it == parts_.end() ? std::nullopt : it->second.answer;
}

bool CoordinatorSource::Expects(const BlobPart& key) {
  std::lock_guard lock(mutex_);
  const auto it = parts_.find(key);
  return it != parts_.end() && it->second.open();
}

void CoordinatorSource::Close() {
  std::lock_guard lock(mutex_);
  closed_ = true;
  changed_.notify_all();
}

}  // namespace longhaul
