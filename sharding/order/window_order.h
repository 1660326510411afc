// The order of one domain: its samples in pieces (a piece is what one block of a shard holds), the
// pieces shuffled over the whole domain, then the samples shuffled inside windows of consecutive
// pieces. So a run of positions touches few blocks, and the blocks come from everywhere.
//
//   data epoch e, place p in it --> window w = p / (window_pieces * piece_samples)
//     slot s = permutation[e, w](place in the window) --> piece = permutation[e](s's piece), sample
//
// The last piece of a domain may be shorter; it always comes in the last window, so that every
// other window has the same size. A pure function of (seed, domain, sizes): independent of workers,
// batch and sequence length. O(1) memory and time, both ways.
//
// Immutable; any thread.
#pragma once

#include <cstdint>

#include "sharding/order/permutation.h"

namespace longhaul {

struct WindowSizes {
  uint64_t samples = 0;         // of the domain, below 2^48
  uint64_t piece_samples = 0;   // below 2^32
  uint64_t window_pieces = 16;  // pieces in a window, below 2^24
};

class WindowOrder {
 public:
  // All sizes above 0.
  WindowOrder(uint64_t seed, uint64_t domain, const WindowSizes& sizes);

  uint64_t samples() const { return samples_; }
  // The sample at a place of a data epoch; place < samples().
  uint64_t Sample(uint64_t epoch, uint64_t place) const;
  // Where in the data epoch a sample comes; sample < samples().
  uint64_t Place(uint64_t epoch, uint64_t sample) const;

 private:
  uint64_t EpochKey(uint64_t epoch) const;
  Permutation Shuffle(uint64_t epoch_key, uint64_t window) const;

  uint64_t key_;
  uint64_t samples_;
  uint64_t piece_samples_;
  uint64_t full_pieces_;     // all but a shorter last one
  uint64_t window_samples_;  // of every window but the last
  Permutation pieces_;       // of the full pieces; WithKey(epoch)
  Permutation window_;       // of a full window; WithKey(epoch, window)
};

}  // namespace longhaul
