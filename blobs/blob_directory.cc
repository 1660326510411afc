#include "blobs/blob_directory.h"

#include <algorithm>

namespace longhaul {

bool BlobDirectory::Offer(SessionId session, const WorkerKey& key, const std::string& address) {
  if (address.empty() || address.size() > kMaxAddress) return Withdraw(session);
  PeerView offer{session, key, address};
  const auto it = offers_.find(session);
  if (it == offers_.end() ? offers_.size() >= kMaxPeers : it->second == offer) return false;
  offers_[session] = std::move(offer);
  sessions_[key] = session;
  return true;
}

bool BlobDirectory::Withdraw(SessionId session) {
  const auto it = offers_.find(session);
  if (it == offers_.end()) return false;
  const auto of_key = sessions_.find(it->second.key);
  if (of_key != sessions_.end() && of_key->second == session) sessions_.erase(of_key);
  offers_.erase(it);
  return true;
}

std::vector<PeerView> BlobDirectory::Members() const {
  std::vector<PeerView> members;
  for (const auto& [session, offer] : offers_) members.push_back({session, offer.key, ""});
  return members;
}

std::vector<PeerView> BlobDirectory::Ask(const WorkerKey& key, const FetchBlob& request) {
  const auto asker = sessions_.find(key);
  if (asker == sessions_.end()) return {};
  const SessionId session = asker->second;
  const Part part{request.blob_id, request.offset};
  const auto [it, is_new] = holders_.try_emplace(part);
  if (is_new) in_order_.push_back(part);
  Holders& list = it->second;
  std::erase_if(list, [&](SessionId holder) { return !offers_.contains(holder); });
  auto own = std::find(list.begin(), list.end(), session);
  if (request.direct) {
    if (own != list.end()) list.erase(own);
    list.insert(list.begin(), session);
    own = list.begin();
  } else if (own == list.end() && list.size() < kMaxHoldersOfPart) {
    own = list.insert(list.end(), session);
  }
  if (list.size() > kMaxHoldersOfPart) list.pop_back();
  std::vector<PeerView> named;
  const auto before = static_cast<size_t>(own - list.begin());
  for (size_t i = 0; i < std::min<size_t>(before, kMaxBlobHolders); ++i)
    named.push_back(offers_.at(list[(turn_ + i) % before]));
  ++turn_;
  if (holders_.size() > max_parts_) {
    holders_.erase(in_order_.front());
    in_order_.pop_front();
  }
  return named;
}

}  // namespace longhaul
