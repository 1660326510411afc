// The project's own random numbers: a counter-based hash, so that any draw can be made alone, on
// any machine, with the same result. splitmix64's finaliser over a chain of indices. No floats, no
// state, no platform code.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace longhaul {

constexpr uint64_t kGoldenGamma = 0x9E3779B97F4A7C15ull;

constexpr uint64_t Mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

// draw(seed, i1, i2, ...): equal arguments, equal value.
constexpr uint64_t Draw(uint64_t seed, std::initializer_list<uint64_t> indices = {}) {
  uint64_t k = Mix(seed + kGoldenGamma);
  for (uint64_t x : indices) k = Mix(k + (x + 1) * kGoldenGamma);
  return k;
}

// A sequence of draws; `Below(n)` is uniform in [0, n) without bias.
class Rng {
 public:
  explicit Rng(uint64_t seed) : seed_(seed) {}
  uint64_t Next() { return Draw(seed_, {counter_++}); }
  uint64_t Below(uint64_t n) {
    const uint64_t limit = n * (UINT64_MAX / n);
    uint64_t x = Next();
    while (x >= limit) x = Next();
    return x % n;
  }
  // True with probability numerator / denominator.
  bool Chance(uint64_t numerator, uint64_t denominator) { return Below(denominator) < numerator; }

 private:
  uint64_t seed_;
  uint64_t counter_ = 0;
};

}  // namespace longhaul
