// The wires of one site: TCP from rank 0 to each other rank. They carry commands (site_trainer.h),
// and sums where there is no NCCL (loopback_group.h).
//
// The network of a site is trusted, as NCCL's is: a key keeps strangers and other sites out,
// nothing is encrypted. Whoever listens beyond loopback does so on the site's own network.
//
// Thread rule: one thread at a time for each peer. Every wait has a deadline; a peer that misses
// it, or whose connection fails, is dropped and stays dropped.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/time.h"

namespace longhaul {

inline constexpr uint32_t kMaxSiteRanks = 1024;
inline constexpr uint32_t kMaxSiteFrameBytes = 1u << 30;
inline constexpr size_t kSiteKeyBytes = 32;

struct SitePlace {
  uint32_t rank = 0;
  uint32_t size = 1;  // ranks of the site
  std::string key;    // kSiteKeyBytes, the same for all ranks
  Duration join_timeout = Seconds(60);
};

class SiteLink {
 public:
  ~SiteLink();
  SiteLink(const SiteLink&) = delete;
  SiteLink& operator=(const SiteLink&) = delete;

  uint32_t rank() const { return rank_; }
  uint32_t size() const { return static_cast<uint32_t>(sockets_.size()); }
  // Peers that are not dropped: of rank 0 the others, of the others rank 0.
  std::vector<uint32_t> peers() const;

  // Unavailable when the peer is, or becomes, dropped.
  absl::Status Send(uint32_t peer, std::string_view frame, Duration timeout);
  // The next frame. DeadlineExceeded or Unavailable; the peer is then dropped.
  absl::StatusOr<std::string> Receive(uint32_t peer, Duration timeout);
  void Drop(uint32_t peer);
  // Ends every wait, now and later, without closing anything; any thread.
  void Interrupt();

 private:
  friend class SiteListener;
  friend absl::StatusOr<std::vector<std::unique_ptr<SiteLink>>> JoinSite(const SitePlace&,
                                                                         const std::string&,
                                                                         uint16_t, uint32_t);
  SiteLink(uint32_t rank, uint32_t size);
  absl::Status Transfer(uint32_t peer, char* data, size_t size, bool out, int64_t until_ns);

  const uint32_t rank_;
  std::vector<int> sockets_;  // by rank; -1: dropped, or this rank
  int interrupt_[2];          // a pipe
};

// Rank 0's side of joining.
class SiteListener {
 public:
  // `address`: numeric; "127.0.0.1" for ranks of this machine only. `port` 0: any.
  static absl::StatusOr<std::unique_ptr<SiteListener>> Listen(const std::string& address,
                                                              uint16_t port);
  ~SiteListener();
  uint16_t port() const { return port_; }
  // Waits until every other rank has joined with all its `channels`. DeadlineExceeded names the
  // ranks that did not come.
  absl::StatusOr<std::vector<std::unique_ptr<SiteLink>>> Accept(const SitePlace& place,
                                                                uint32_t channels);

 private:
  SiteListener(int socket, uint16_t port) : socket_(socket), port_(port) {}
  const int socket_;
  const uint16_t port_;
};

// The other ranks' side: as many links to rank 0 as it wants channels. Tries again until the
// timeout, because rank 0 may start later.
absl::StatusOr<std::vector<std::unique_ptr<SiteLink>>> JoinSite(const SitePlace& place,
                                                                const std::string& address,
                                                                uint16_t port, uint32_t channels);

}  // namespace longhaul
