// Which workers have which part of the training data, or will soon: whoever asked for it. So the
// coordinator sends each part about once and names earlier askers to the later ones.
//
// It is a hint and nothing else: a holder may have lost the part, cannot be reached, or lies; then
// the reader asks for the bytes themselves (FetchBlob.direct), and whoever gets them from the
// coordinator comes first in the list from then on. A worker is only sent to those before it in the
// list of a part, so that workers never wait for each other in a circle.
//
// Owned by one thread; no clock, no I/O.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <utility>
#include <vector>

#include "proto/messages.h"

namespace longhaul {

class BlobDirectory {
 public:
  // Parts that are remembered, the newest: 512 KiB each, 32 GiB.
  static constexpr size_t kMaxParts = 65'536;
  static constexpr size_t kMaxHoldersOfPart = 16;
  static constexpr size_t kMaxAddress = 256;

  explicit BlobDirectory(size_t max_parts = kMaxParts) : max_parts_(max_parts) {}

  // A live session that serves what it has at `address`; "": it does not. True: news.
  bool Offer(SessionId session, const WorkerKey& key, const std::string& address);
  bool Withdraw(SessionId session);
  bool Offers(SessionId session) const { return offers_.contains(session); }
  // The keys of all that share, without addresses: whom each of them lets in. At most kMaxPeers.
  std::vector<PeerView> Members() const;

  // `key` asks for a part and will have it. Who shall be asked instead of the coordinator: at most
  // kMaxBlobHolders; empty: nobody.
  std::vector<PeerView> Ask(const WorkerKey& key, const FetchBlob& request);

  size_t parts() const { return holders_.size(); }

 private:
  using Part = std::pair<Digest, uint64_t>;  // blob, offset
  using Holders = std::vector<SessionId>;    // the first got it from the coordinator

  const size_t max_parts_;
  std::map<SessionId, PeerView> offers_;
  std::map<WorkerKey, SessionId> sessions_;  // of the offers
  std::map<Part, Holders> holders_;
  std::deque<Part> in_order_;  // of their first request
  uint64_t turn_ = 0;          // spreads readers over holders
};

}  // namespace longhaul
