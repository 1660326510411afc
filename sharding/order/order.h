// From a global position to a sample: a different shuffle of all samples in every data epoch, as a
// pure function of (seed, number of samples), with random access both ways and no table.
//
// A keyed Feistel network permutes the smallest range of 2^(2h) numbers that holds all samples;
// results outside are permuted again until one falls inside ("cycle walking", Black and Rogaway
// 2002), at most four times on average.
//
// Immutable; safe from any thread.
#pragma once

#include <cstdint>

namespace longhaul {

class SampleOrder {
 public:
  // samples_per_data_epoch > 0.
  SampleOrder(uint64_t seed, uint64_t samples_per_data_epoch);

  uint64_t samples_per_data_epoch() const { return samples_; }
  // In [0, samples_per_data_epoch).
  uint64_t Sample(uint64_t position) const;
  // The position in data epoch `epoch` whose sample this is; sample < samples_per_data_epoch.
  uint64_t Position(uint64_t epoch, uint64_t sample) const;

 private:
  uint64_t RoundKey(uint64_t epoch, uint64_t round, uint64_t half) const;
  uint64_t Permute(uint64_t epoch, uint64_t x) const;
  uint64_t Invert(uint64_t epoch, uint64_t x) const;

  uint64_t seed_;
  uint64_t samples_;
  int half_bits_;
  uint64_t half_mask_;
};

}  // namespace longhaul
