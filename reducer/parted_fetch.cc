#include "reducer/parted_fetch.h"

#include <algorithm>

#include "common/hash.h"
#include "common/status_macros.h"

namespace longhaul {

absl::StatusOr<PartedFetch> PartedFetch::Create(Options options) {
  PartedFetch fetch(std::move(options));
  std::vector<Part>& parts = fetch.options_.parts;
  const ObjectInfo& whole = fetch.options_.whole;
  if (parts.empty()) parts.push_back({whole, WorkerKey{}});
  size_t chunks = 0;
  uint64_t bytes = 0;
  for (const Part& part : parts) {
    ASSIGN_OR_RETURN(ChunkReceiver receiver,
                     ChunkReceiver::Create({part.object.chunks, part.object.bytes, part.object.root,
                                            kFetchWindowBytes}));
    fetch.receiving_.push_back({std::move(receiver), chunks});
    chunks += part.object.chunks;
    bytes += part.object.bytes;
  }
  if (fetch.options_.check_whole && (chunks != whole.chunks || bytes != whole.bytes)) {
    return absl::InvalidArgumentError("the parts do not make up the whole");
  }
  fetch.chunks_ = std::make_shared<std::vector<std::string>>(chunks);
  return fetch;
}

void PartedFetch::Start(Timestamp now) {
  for (size_t i = 0; i < receiving_.size(); ++i) {
    if (!receiving_[i].receiver.complete()) Ask(i, /*new_attempt=*/true, now);
  }
  Check(now);
}

void PartedFetch::SetWindow(size_t i) {
  if (!options_.window) return;
  const WorkerKey& holder = options_.parts[i].holder;
  size_t transfers = 0;
  uint64_t taken = 0;
  for (size_t j = 0; j < receiving_.size(); ++j) {
    const ChunkReceiver& receiver = receiving_[j].receiver;
    if (receiver.complete()) continue;
    if (options_.parts[j].holder == holder) ++transfers;
    taken += std::max(receiver.window_bytes(), kFetchWindowBytes) - kFetchWindowBytes;
  }
  receiving_[i].receiver.SetWindow(options_.window(holder, transfers, taken, kFetchSharedBytes));
}

void PartedFetch::Ask(size_t i, bool new_attempt, Timestamp now) {
  Receiving& part = receiving_[i];
  Fetch fetch{.object = options_.parts[i].object.id};
  SetWindow(i);
  if (new_attempt) {
    part.receiver.StartAttempt();
    part.transfer = options_.next_transfer();
    part.last_chunk = now;
    for (const ChunkSpan& s : part.receiver.MissingRuns(kMaxMissingRuns))
      fetch.missing.push_back({s.first, s.count});
  }
  fetch.attempt = part.transfer;
  fetch.granted_bytes = part.receiver.GrantedBytes();
  if (options_.ask(options_.parts[i].holder, fetch)) part.receiver.NoteGrantSent();
}

void PartedFetch::FallBack(size_t i, Timestamp now) {
  if (options_.fall_back) options_.parts[i].holder = WorkerKey{};
  Ask(i, /*new_attempt=*/true, now);
}

void PartedFetch::OnChunk(const WorkerKey& from, const ChunkHeader& header, ByteSpan payload,
                          Timestamp now) {
  if (complete_ || header.bytes != payload.size()) return;
  for (size_t i = 0; i < receiving_.size(); ++i) {
    Receiving& part = receiving_[i];
    if (part.transfer != header.transfer || options_.parts[i].holder != from ||
        part.receiver.complete() || header.kind != options_.whole.id.kind ||
        Xxh3(payload) != header.checksum) {
      continue;
    }
    if (part.receiver.Accept(part.receiver.attempt(), header.chunk, payload) ==
        ChunkReceiver::Verdict::kNew) {
      (*chunks_)[part.first + header.chunk] =
          std::string(reinterpret_cast<const char*>(payload.data()), payload.size());
      part.last_chunk = now;
    }
    if (!part.receiver.complete()) {
      if (part.receiver.GrantDue()) Ask(i, /*new_attempt=*/false, now);
    } else if (!part.receiver.Verified()) {
      part.receiver.Reset();  // not what was announced
      FallBack(i, now);
    } else {
      Check(now);
    }
    return;
  }
}

void PartedFetch::Fill(size_t i, uint32_t chunk, std::string payload) {
  Receiving& part = receiving_.at(i);
  if (part.receiver.Accept(0, chunk, AsBytes(payload)) == ChunkReceiver::Verdict::kNew)
    (*chunks_)[part.first + chunk] = std::move(payload);
}

void PartedFetch::Check(Timestamp now) {
  const bool all = std::all_of(receiving_.begin(), receiving_.end(),
                               [](const Receiving& r) { return r.receiver.Verified(); });
  if (!all) return;
  std::vector<Digest> digests;
  for (const Receiving& r : receiving_) {
    const std::vector<Digest>& part = r.receiver.chunk_digests();
    digests.insert(digests.end(), part.begin(), part.end());
  }
  complete_ = !options_.check_whole || RootDigest(digests) == options_.whole.root;
  if (complete_) return;
  // Parts of something else: what the coordinator has decides.
  for (size_t i = 0; i < receiving_.size(); ++i) {
    receiving_[i].receiver.Reset();
    FallBack(i, now);
  }
}

bool PartedFetch::OnRefused(const WorkerKey& from, const ObjectId& object, Timestamp now) {
  for (size_t i = 0; i < receiving_.size(); ++i) {
    const Part& part = options_.parts[i];
    if (part.object.id != object || part.holder != from || receiving_[i].receiver.complete())
      continue;
    if (from == WorkerKey{}) return false;
    FallBack(i, now);
  }
  return true;
}

void PartedFetch::OnConnected(const WorkerKey& holder, Timestamp now) {
  for (size_t i = 0; i < receiving_.size(); ++i) {
    if (options_.parts[i].holder == holder && !receiving_[i].receiver.complete())
      Ask(i, /*new_attempt=*/true, now);
  }
}

void PartedFetch::Tick(Timestamp now) {
  for (size_t i = 0; i < receiving_.size(); ++i) {
    if (!receiving_[i].receiver.complete() && now - receiving_[i].last_chunk > kFetchStall)
      FallBack(i, now);
  }
}

}  // namespace longhaul
