#include "sharding/order/permutation.h"

#include <cmath>

#include "common/check.h"
#include "common/rng.h"

namespace longhaul {
namespace {

constexpr int kRounds = 8;  // four for each half

__extension__ typedef unsigned __int128 Wide;

// IEEE square roots are correctly rounded, so this is the same everywhere; off by one at most.
uint64_t CeilSqrt(uint64_t n) {
  auto root = static_cast<uint64_t>(std::sqrt(static_cast<double>(n)));
  while (root * root >= n && root > 1) --root;
  while (root * root < n) ++root;
  return root;
}

// A round's number in [0, modulus): the high half of a product is uniform without a division.
uint64_t RoundValue(uint64_t key, int round, uint64_t half, uint64_t modulus) {
  const uint64_t mixed = Mix(half + key + static_cast<uint64_t>(round) * kGoldenGamma);
  return static_cast<uint64_t>(Wide{mixed} * modulus >> 64);
}

}  // namespace

Permutation::Permutation(uint64_t n, uint64_t key) : n_(n), key_(Mix(key)) {
  LONGHAUL_CHECK(n > 0 && n < uint64_t{1} << 62, "a permutation of nothing or of too much");
  a_ = CeilSqrt(n);
  b_ = (n + a_ - 1) / a_;
}

Permutation Permutation::WithKey(uint64_t key) const {
  Permutation other = *this;
  other.key_ = Mix(key);
  return other;
}

uint64_t Permutation::Forward(uint64_t x) const {
  uint64_t left = x / b_, right = x % b_;  // left < a
  for (int round = 0; round < kRounds; round += 2) {
    left += RoundValue(key_, round, right, a_);
    if (left >= a_) left -= a_;
    right += RoundValue(key_, round + 1, left, b_);
    if (right >= b_) right -= b_;
  }
  return left * b_ + right;
}

uint64_t Permutation::Backward(uint64_t y) const {
  uint64_t left = y / b_, right = y % b_;
  for (int round = kRounds - 2; round >= 0; round -= 2) {
    const uint64_t of_right = RoundValue(key_, round + 1, left, b_);
    right = right >= of_right ? right - of_right : right + b_ - of_right;
    const uint64_t of_left = RoundValue(key_, round, right, a_);
    left = left >= of_left ? left - of_left : left + a_ - of_left;
  }
  return left * b_ + right;
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
