// A keyed permutation of [0, n), with random access both ways and no table: an unbalanced Feistel
// network over [0, a) x [0, 2^k) with 2^k the power of two next to sqrt(n) and a = ceil(n / 2^k),
// whose rounds add modulo a or 2^k (Black and Rogaway 2002, "generalized Feistel"); the fewer than
// 2^k results outside are permuted again until one falls inside ("cycle walking").
//
// It shuffles; it keeps no secret. Plain value; any thread.
#pragma once

#include <cstdint>

namespace longhaul {

class Permutation {
 public:
  // 0 < n < 2^62. Equal (n, key): equal permutation.
  Permutation(uint64_t n, uint64_t key);

  uint64_t size() const { return n_; }
  // Of the same size; cheaper than a new one.
  Permutation WithKey(uint64_t key) const;
  uint64_t operator()(uint64_t x) const;  // x < n
  uint64_t Inverse(uint64_t y) const;     // y < n

 private:
  uint64_t Forward(uint64_t x) const;
  uint64_t Backward(uint64_t y) const;

  uint64_t n_;
  uint64_t left_;   // a
  int right_bits_;  // k
  int rounds_;
  uint64_t key_;
};

}  // namespace longhaul
