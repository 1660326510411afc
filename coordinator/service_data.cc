// The part of the coordinator's shell that hands out training data: who sends which part to whom.
#include <algorithm>

#include "coordinator/service.h"

namespace longhaul {

void CoordinatorService::StartBlobs() {
  BlobServer::Options o;
  o.read = [data = options_.data](const FetchBlob& request) { return data->Read(request); };
  o.send_control = [this](const std::string& route, const Message& message) {
    SendTo(route, message);
  };
  o.send_bulk = [this](const std::string& route, std::vector<Frame>&& frames) {
    return server_->Send(route, std::move(frames));
  };
  blobs_ = std::make_unique<BlobServer>(std::move(o));
}

void CoordinatorService::HandleFetchBlob(const Inbound& inbound, const FetchBlob& fetch) {
  if (!blobs_) return;
  // The manifest and the indexes of shards, which are small, come from here: who has them cannot
  // be told from a part's name, and nobody keeps them as a block.
  const bool block = fetch.offset > 0 && fetch.blob_id != options_.data->manifest_id();
  std::vector<PeerView> holders;
  if (block) holders = directory_.Ask(inbound.user, fetch);
  if (!holders.empty())
    return SendTo(inbound.route, BlobElsewhere{fetch.transfer, std::move(holders)});
  blobs_->Serve(inbound.route, fetch);
}

// The others let a newcomer in before it is sent to them.
void CoordinatorService::NoteOffer(const WorkerKey& key, const std::string& address) {
  if (!blobs_ || failure_) return;
  const auto worker = core_->state().workers.find(key);
  if (worker == core_->state().workers.end() || worker->second.session.value == 0) return;
  if (!directory_.Offer(worker->second.session, key, address)) return;
  for (const PeerView& member : directory_.Members()) SendAssignment(member.session);
}

void CoordinatorService::AddReaders(std::vector<PeerView>& peers) const {
  for (PeerView& member : directory_.Members()) {
    const bool known = std::any_of(peers.begin(), peers.end(),
                                   [&](const PeerView& peer) { return peer.key == member.key; });
    if (!known && peers.size() < kMaxPeers) peers.push_back(std::move(member));
  }
}

}  // namespace longhaul
