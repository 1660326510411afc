#include "sharding/order/order.h"

#include <algorithm>
#include <bit>

#include "common/check.h"
#include "common/rng.h"

namespace longhaul {
namespace {
constexpr uint64_t kRounds = 6;
constexpr uint64_t kDomain = 0x6f72646572;  // "order": no other use of the seed draws these
}  // namespace

SampleOrder::SampleOrder(uint64_t seed, uint64_t samples_per_data_epoch)
    : seed_(seed),
      samples_(samples_per_data_epoch),
      half_bits_(std::max(1, (static_cast<int>(std::bit_width(samples_ - 1)) + 1) / 2)),
      half_mask_((uint64_t{1} << half_bits_) - 1) {
  LONGHAUL_CHECK(samples_ > 0, "an order of no samples");
}

uint64_t SampleOrder::Sample(uint64_t position) const {
  const uint64_t epoch = position / samples_;
  uint64_t x = Permute(epoch, position % samples_);
  while (x >= samples_) x = Permute(epoch, x);
  return x;
}

uint64_t SampleOrder::Position(uint64_t epoch, uint64_t sample) const {
  LONGHAUL_CHECK(sample < samples_, "no such sample");
  uint64_t x = Invert(epoch, sample);
  while (x >= samples_) x = Invert(epoch, x);
  return epoch * samples_ + x;
}

uint64_t SampleOrder::RoundKey(uint64_t epoch, uint64_t round, uint64_t half) const {
  return Draw(seed_, {kDomain, epoch, round, half}) & half_mask_;
}

uint64_t SampleOrder::Permute(uint64_t epoch, uint64_t x) const {
  uint64_t left = x >> half_bits_, right = x & half_mask_;
  for (uint64_t round = 0; round < kRounds; ++round) {
    const uint64_t next = left ^ RoundKey(epoch, round, right);
    left = right;
    right = next;
  }
  return left << half_bits_ | right;
}

uint64_t SampleOrder::Invert(uint64_t epoch, uint64_t x) const {
  uint64_t left = x >> half_bits_, right = x & half_mask_;
  for (uint64_t round = kRounds; round-- > 0;) {
    const uint64_t previous = right ^ RoundKey(epoch, round, left);
    right = left;
    left = previous;
  }
  return left << half_bits_ | right;
}

}  // namespace longhaul
