// One machine of a direct, sharded all-reduce over the transport: every peer reduces a slice of the
// vector, contributions and results travel as chunks over striped CURVE connections. What a data
// plane with reducers on workers can reach on a path; reference for the suite `wan`.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace longhaul {

struct WanPeerOptions {
  uint32_t rank = 0;
  std::vector<std::string> hosts;  // addresses by rank
  std::vector<double> weights;     // sizes of the slices; empty: equal
  uint64_t bytes = 1 << 20;        // of the vector
  uint32_t rounds = 3;             // after one that opens connections
  double idle_s = 0;               // between rounds
  uint64_t chunk_bytes = 256 * 1024;
  uint64_t window_bytes = 0;  // of credit; 0: as measured
  uint32_t stripes = 0;       // per peer; 0: on demand
  bool heartbeats = false;    // small messages to the next peer on a connection of their own
};

struct WanPeerRound {
  double seconds = 0;
  double cpu_seconds = 0;  // of this process
  bool correct = false;
  uint32_t stripes = 0;  // the most to one peer
  uint64_t window_bytes = 0;
  double loss = 0;  // retransmitted share
  std::string congestion_control;
  std::vector<double> heartbeat_ms;  // there and back
};

// Blocks until the rounds are over; `report` gets each one.
absl::Status RunWanPeer(const WanPeerOptions& options,
                        const std::function<void(const WanPeerRound&)>& report);

}  // namespace longhaul
