#include "sharding/order/permutation.h"

#include <algorithm>
#include <bit>

#include "common/check.h"
#include "common/rng.h"

namespace longhaul {
namespace {

// Half of them for each half of a number. Halves of a few bits take many more until all orders are
// equally likely.
constexpr int kRounds = 6;
constexpr int kRoundsOfFew = 24;
constexpr uint64_t kFew = 1024;
constexpr uint64_t kMultiplier = 0xD6E8FEB86659FD93ull;

__extension__ typedef unsigned __int128 Wide;

// Both halves of one wide product: 64 well mixed bits from one multiplication.
uint64_t RoundBits(uint64_t key, uint64_t round, uint64_t half) {
  const Wide product = Wide{(half + key) ^ (round + 1) * kGoldenGamma} * kMultiplier;
  return static_cast<uint64_t>(product >> 64) ^ static_cast<uint64_t>(product);
}

// In [0, modulus): the high half of a product is uniform without a division.
uint64_t Scaled(uint64_t bits, uint64_t modulus) {
  return static_cast<uint64_t>(Wide{bits} * modulus >> 64);
}

}  // namespace

Permutation::Permutation(uint64_t n, uint64_t key)
    : n_(n), rounds_(n <= kFew ? kRoundsOfFew : kRounds), key_(Mix(key)) {
  LONGHAUL_CHECK(n > 0 && n < uint64_t{1} << 62, "a permutation of nothing or of too much");
  right_bits_ = std::max(1, static_cast<int>((std::bit_width(n - 1) + 1) / 2));
  left_ = std::max<uint64_t>(1, ((n - 1) >> right_bits_) + 1);
}

Permutation Permutation::WithKey(uint64_t key) const {
  Permutation other = *this;
  other.key_ = Mix(key);
  return other;
}

uint64_t Permutation::Forward(uint64_t x) const {
  const uint64_t mask = (uint64_t{1} << right_bits_) - 1;
  uint64_t left = x >> right_bits_, right = x & mask;
  for (int round = 0; round < rounds_; round += 2) {
    left += Scaled(RoundBits(key_, round, right), left_);
    left = std::min(left, left - left_);  // modulo left_: the difference wraps around when smaller
    right = (right + (RoundBits(key_, round + 1, left) >> 32)) & mask;
  }
  return left << right_bits_ | right;
}

uint64_t Permutation::Backward(uint64_t y) const {
  const uint64_t mask = (uint64_t{1} << right_bits_) - 1;
  uint64_t left = y >> right_bits_, right = y & mask;
  for (int round = rounds_ - 2; round >= 0; round -= 2) {
    right = (right - (RoundBits(key_, round + 1, left) >> 32)) & mask;
    left -= Scaled(RoundBits(key_, round, right), left_);
    left = std::min(left, left + left_);
  }
  return left << right_bits_ | right;
}

uint64_t Permutation::operator()(uint64_t x) const {
  do x = Forward(x);
  while (x >= n_);
  return x;
}

uint64_t Permutation::Inverse(uint64_t y) const {
  do y = Backward(y);
  while (y >= n_);
  return y;
}

}  // namespace longhaul
