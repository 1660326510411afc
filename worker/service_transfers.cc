// The part of a worker's shell that moves large objects: what comes from the coordinator and from
// reducers, what goes to them, and the slices that this worker reduces itself.
#include <algorithm>

#include "common/hash.h"
#include "common/log.h"
#include "compression/codec.h"
#include "proto/chunk.h"
#include "proto/codec.h"
#include "worker/describe.h"
#include "worker/service.h"

namespace longhaul {
namespace {

std::vector<PartedFetch::Part> PartsOf(const FetchObject& fetch) {
  std::vector<PartedFetch::Part> parts;
  ObjectId id = fetch.object.id;
  for (const SliceSource& source : fetch.slices) {
    parts.push_back(
        {{id, source.part.chunks, source.part.bytes, source.part.root}, source.reducer});
    id.first_chunk += source.part.chunks;
  }
  return parts;
}

}  // namespace

// ---- objects that come ----

void WorkerService::StartDownload(const FetchObject& request) {
  PartedFetch::Options o;
  o.whole = request.object;
  o.parts = PartsOf(request);
  o.next_transfer = [this] { return ++transfers_; };
  o.ask = [this](const WorkerKey& holder, const Fetch& fetch) { return SendPeer(holder, fetch); };
  o.window = [this](const WorkerKey& holder, size_t transfers, uint64_t taken, uint64_t shared) {
    credit_.OnLink(holder, Now(), peers_->LinkTo(holder));
    return credit_.Window(holder, transfers, taken, shared);
  };
  absl::StatusOr<PartedFetch> fetch = PartedFetch::Create(o);
  if (!fetch.ok() && !o.parts.empty()) {
    o.parts.clear();
    fetch = PartedFetch::Create(std::move(o));
  }
  if (!fetch.ok()) return Fail(fetch.status());
  download_ = std::move(*fetch);
  download_->Start(Now());
}

void WorkerService::OnChunk(const WorkerKey& from, const std::vector<Frame>& frames) {
  const absl::StatusOr<ChunkHeader> header = DecodeChunkHeader(frames[0].bytes());
  if (!header.ok()) return;
  if (header->kind == ObjectKind::kBlob) {
    if (coordinator_blobs_ && header->bytes == frames[1].size())
      coordinator_blobs_->OnChunk(from, header->transfer, frames[1].bytes());
    if (sharing_) sharing_->NoteNews();
    return;
  }
  if (samples_) samples_->NoteExchange();
  if (sharing_) sharing_->NoteExchange();
  if (!download_) return;
  credit_.OnConsumed(from, Now(), frames[1].size());
  download_->OnChunk(from, *header, frames[1].bytes(), Now());
  CheckDownload();
}

void WorkerService::OnRefused(const WorkerKey& from, const ObjectId& object) {
  if (!download_ || download_->OnRefused(from, object, Now())) return;
  const ObjectId whole = download_->whole().id;
  download_.reset();
  Step(ObjectGone{whole});
}

void WorkerService::CheckDownload() {
  if (!download_ || !download_->complete()) return;
  const ObjectId id = download_->whole().id;
  fetched_[id.fragment] = download_->Take();
  download_.reset();
  Step(ObjectFetched{id});
}

// ---- contributions that go ----

bool WorkerService::IsReducer(const WorkerKey& key) const {
  return std::any_of(known_peers_.begin(), known_peers_.end(), [&](const PeerView& peer) {
    return peer.key == key && !peer.address.empty();
  });
}

void WorkerService::OnFetch(const WorkerKey& from, const Fetch& fetch) {
  if (fetch.object.kind == ObjectKind::kAggregate) {
    if (reducing_) reducing_->Serve(from, fetch);
    return;
  }
  ObjectId whole = fetch.object;
  whole.first_chunk = 0;
  auto it = uploads_.find(whole.contribution);
  const bool may = from == WorkerKey{} || IsReducer(from);
  if (!may || it == uploads_.end() || it->second.object != whole ||
      fetch.object.first_chunk >= it->second.chunks->size())
    return;
  const SendingId id{from, fetch.object};
  auto sending = sendings_.find(id);
  if (sending == sendings_.end()) {
    auto sizes = std::make_shared<std::vector<uint32_t>>();
    for (size_t i = fetch.object.first_chunk; i < it->second.chunks->size(); ++i)
      sizes->push_back(static_cast<uint32_t>((*it->second.chunks)[i].size()));
    sending = sendings_.emplace(id, Sending{sizes, Outgoing(sizes), std::nullopt}).first;
  }
  if (from == WorkerKey{} && !bulk_up_) {
    sending->second.waiting = fetch;
    return;
  }
  std::vector<ChunkSpan> missing;
  for (const ChunkRun& run : fetch.missing) missing.push_back({run.first, run.count});
  if (!sending->second.outgoing.OnFetch(fetch.attempt, missing, fetch.granted_bytes).ok()) return;
  LogDebug("sends contribution " + Describe(it->first));
  Pump(id, sending->second);
}

void WorkerService::Pump(const SendingId& id, Sending& sending) {
  const auto& [to, object] = id;
  auto upload = uploads_.find(object.contribution);
  if (upload == uploads_.end()) return;
  const uint64_t elements = layout_.at(object.fragment.value).elements;
  while (std::optional<uint32_t> chunk = sending.outgoing.Next()) {
    const uint64_t index = uint64_t{object.first_chunk} + *chunk;
    const std::string& payload = (*upload->second.chunks)[index];
    ChunkHeader header{
        .kind = ObjectKind::kContribution, .transfer = sending.outgoing.attempt(), .chunk = *chunk};
    header.codec = codec_up_;
    header.elements = std::min(kChunkElements, elements - index * kChunkElements);
    header.bytes = payload.size();
    header.checksum = Xxh3(AsBytes(payload));
    std::vector<Frame> frames;
    frames.emplace_back(EncodeChunkHeader(header));
    frames.emplace_back(std::string(payload));
    if (!peers_->Send(to, std::move(frames))) return;  // Room, or the next attempt, goes on
    if (sharing_) sharing_->NoteExchange();
    sending.outgoing.MarkSent();
    if (sending.outgoing.finished())
      LogDebug("has sent contribution " + Describe(object.contribution));
  }
}

// ---- other workers ----

bool WorkerService::SendPeer(const WorkerKey& to, const Message& message) {
  // Over bulk, because the chunks that answer it come where it came from.
  if (to == WorkerKey{}) return Send(bulk_.get(), message);
  std::optional<std::vector<Frame>> frames = Encode(message);
  return frames && peers_->Send(to, std::move(*frames));
}

void WorkerService::OnPeer(const WorkerKey& from, std::vector<Frame>&& frames) {
  if (frames.size() == 2) {
    const absl::StatusOr<ChunkHeader> header = DecodeChunkHeader(frames[0].bytes());
    if (!header.ok()) return;
    if (header->kind == ObjectKind::kAggregate || header->kind == ObjectKind::kBlob)
      return OnChunk(from, frames);
    if (reducing_) reducing_->Chunk(from, std::move(frames));
    return;
  }
  if (frames.size() != 1) return;
  const absl::StatusOr<Envelope> envelope = DecodeEnvelope(frames[0].bytes());
  if (!envelope.ok() || envelope->run != options_.invitation.run_id()) return;
  if (const auto* fetch = std::get_if<Fetch>(&envelope->body)) return OnFetch(from, *fetch);
  if (const auto* gone = std::get_if<FetchRefused>(&envelope->body))
    return OnRefused(from, gone->object);
  OnBlobMessage(from, envelope->body);
}

void WorkerService::FollowOrders() {
  if (!core_->assignment()) return;
  const Assignment& a = *core_->assignment();
  if (a.peers != known_peers_) {
    known_peers_ = a.peers;
    peers_->Update(a.peers);
  }
  if (!reducing_) return;
  std::map<SessionId, WorkerKey> keys;
  for (const PeerView& peer : a.peers) keys[peer.session] = peer.key;
  reducing_->SetOrders(core_->generation(), a.orders, std::move(keys));
}

void WorkerService::StartReducing(const LoadData& load) {
  const SyncSection& sync = load.config.sync;
  auto storage = OpenFileStorage(options_.snapshot_folder);
  if (!storage.ok()) return Fail(storage.status());
  storage_ = std::move(*storage);
  const std::string folder = "reducing";
  if (absl::Status status = storage_->Remove(folder); !status.ok()) return Fail(status);
  ReducingThread::Options o;
  o.host.storage = storage_.get();
  o.host.folder = folder;
  const std::vector<std::vector<TensorSpan>> tensors = options_.make_tensors(load.config);
  for (size_t i = 0; i < layout_.size(); ++i)
    o.host.fragments.push_back({layout_[i].elements, tensors.at(i)});
  o.host.codec_up = *CodecSpecByName(sync.codec, sync.bits);
  o.host.codec_down = *CodecSpecByName(sync.codec_down, BitsDown(load.config));
  o.host.beta_down = static_cast<float>(sync.error_feedback);
  o.host.rules = RulesOf(sync);
  o.host.first_attempt = static_cast<uint64_t>(Now().since_epoch.count());
  o.host.send_chunk = [this](const WorkerKey& to, const ChunkHeader& header,
                             std::string&& payload) {
    std::vector<Frame> frames;
    frames.emplace_back(EncodeChunkHeader(header));
    frames.emplace_back(std::move(payload));
    if (sharing_) sharing_->NoteExchange();
    return peers_->Send(to, std::move(frames));
  };
  o.host.overrun = [this](const WorkerKey& from) { peers_->Cut(from); };
  o.send = [this](const WorkerKey& to, const Message& message) {
    events_.TryPush(ShellEvent(PeerMessage{to, message}));
  };
  o.report = [this](std::vector<SliceReport> reports) {
    events_.Push(ShellEvent(Reports(std::move(reports))));
  };
  reducing_ = std::make_unique<ReducingThread>(std::move(o));
}

void WorkerService::OnReports(Reports reports) {
  reports_ = std::move(reports);
  if (core_->session().value == 0 || enrolling_) return;
  for (const SliceReport& report : reports_) {
    if (report.attempt > 0)
      LogDebug("has slice " + std::to_string(report.slice) + " of round " +
               std::to_string(report.round.value) + " ready");
    Send(control_.get(), report);
  }
}

}  // namespace longhaul
