// The part of a worker's shell that has to do with training data from a manifest: where it is asked
// for, and the blocks that other workers ask of this one.
#include "common/log.h"
#include "common/status_macros.h"
#include "proto/codec.h"
#include "worker/describe.h"
#include "worker/service.h"

namespace longhaul {

absl::Status WorkerService::OpenFeed(const LoadData& load) {
  // What does not fit is asked for again.
  const auto ask = [this](const FetchBlob& request) { events_.TryPush(ShellEvent(request)); };
  CoordinatorSource::AskHolder ask_holder;
  if (Shares()) {
    ask_holder = [this](const PeerView& holder, const FetchBlob& request) {
      events_.TryPush(ShellEvent(HolderRequest{holder, request}));
    };
  }
  coordinator_blobs_ = std::make_shared<CoordinatorSource>(ask, std::move(ask_holder));
  BlockFeed::Options o;
  o.manifest_id = manifest_id_;
  o.manifest_bytes = manifest_bytes_;
  o.sources = options_.sources;
  o.sources.push_back(coordinator_blobs_);
  o.coordinator = coordinator_blobs_;
  ASSIGN_OR_RETURN(o.cache, OpenFileStorage(options_.blocks_folder));
  o.cache_bytes = options_.blocks_bytes;
  o.make_order = [this, load](const Manifest& manifest) -> absl::StatusOr<MixedOrder> {
    if (manifest.Identity() != load.identity) {
      return absl::InvalidArgumentError("the manifest is of data " + ToHex(manifest.Identity()) +
                                        ", but this run trains on " + ToHex(load.identity));
    }
    return options_.make_order(load.config, manifest);
  };
  o.on_ready = [this](absl::Status status) {
    events_.Push(ShellEvent(FeedReady{std::move(status)}));
  };
  o.say = [](const std::string& text) { LogWarning(text); };
  if (Shares()) o.on_kept = [this] { events_.TryPush(ShellEvent(BlockKept{})); };
  loading_ = load;
  feed_ = std::make_unique<BlockFeed>(std::move(o));
  return absl::OkStatus();
}

void WorkerService::OnFeedReady(const absl::Status& status) {
  if (!status.ok()) return Fail(status);
  const LoadData load = *std::exchange(loading_, std::nullopt);
  const DataLoaded loaded{load.identity, "manifest " + ShortHex(manifest_id_)};
  samples_ = SamplesOf(std::move(feed_), load.config.model.vocab_size);
  if (Shares()) StartSharing();
  StartTraining(load, loaded);
}

// ---- sharing ----

void WorkerService::StartSharing() {
  sources_ = std::make_unique<SourceLinks>(
      SourceLinks::Options{.keys = options_.keys,
                           .on_message =
                               [this](const WorkerKey& from, std::vector<Frame>&& frames) {
                                 events_.TryPush(ShellEvent(PeerInbox{from, std::move(frames)}));
                               },
                           .on_change =
                               [this](const WorkerKey& holder, bool up) {
                                 events_.Push(ShellEvent(HolderChange{holder, up}));
                               }});
  BlobServer::Options o;
  o.read = [samples = samples_](const FetchBlob& request) { return samples->Stored(request); };
  o.send_control = [this](const std::string& route, const Message& message) {
    events_.TryPush(ShellEvent(DataAnswer{route, message}));
  };
  o.send_bulk = [this](const std::string& route, std::vector<Frame>&& frames) {
    return peers_->SendTo(route, std::move(frames));
  };
  o.hold = kHoldRequest;
  sharing_ = std::make_unique<BlobServer>(std::move(o));
}

bool WorkerService::HandleData(ShellEvent& event) {
  if (auto* request = std::get_if<FetchBlob>(&event)) {
    Send(bulk_.get(), *request);
  } else if (auto* asked = std::get_if<HolderRequest>(&event)) {
    std::optional<std::vector<Frame>> frames = Encode(asked->fetch);
    if (!sources_ || !frames ||
        !sources_->Send(asked->holder, Peers::AsDataRequest(std::move(frames->front()))))
      coordinator_blobs_->OnHolder(asked->holder.key, false);
  } else if (auto* change = std::get_if<HolderChange>(&event)) {
    if (!change->up) sources_->Drop(change->holder);
    coordinator_blobs_->OnHolder(change->holder, change->up);
  } else if (auto* request = std::get_if<DataRequest>(&event)) {
    OnDataRequest(std::move(*request));
  } else if (auto* answer = std::get_if<DataAnswer>(&event)) {
    if (auto frames = Encode(answer->message)) peers_->SendTo(answer->route, std::move(*frames));
  } else if (auto* room = std::get_if<RouteRoom>(&event)) {
    if (sharing_) sharing_->Room(room->route);
  } else if (std::holds_alternative<BlockKept>(event)) {
    if (sharing_) sharing_->NoteNews();
  } else {
    return false;
  }
  return true;
}

// Its sender was let in by its key. What we do not answer is asked for elsewhere.
void WorkerService::OnDataRequest(DataRequest&& request) {
  const absl::StatusOr<Envelope> envelope = DecodeEnvelope(request.envelope.bytes());
  if (!envelope.ok() || envelope->run != options_.invitation.run_id()) return;
  const auto* fetch = std::get_if<FetchBlob>(&envelope->body);
  if (!fetch || (sharing_ && sharing_->Serve(request.route, *fetch))) return;
  if (auto frames = Encode(BlobRefused{fetch->transfer, "not now"}))
    peers_->SendTo(request.route, std::move(*frames));
}

bool WorkerService::OnBlobMessage(const WorkerKey& from, const Message& message) {
  const auto* refused = std::get_if<BlobRefused>(&message);
  const auto* elsewhere = std::get_if<BlobElsewhere>(&message);
  if (refused && coordinator_blobs_)
    coordinator_blobs_->OnRefused(from, refused->transfer, refused->reason);
  if (elsewhere && coordinator_blobs_ && from == WorkerKey{})
    coordinator_blobs_->OnElsewhere(*elsewhere);
  return refused || elsewhere;
}

}  // namespace longhaul
