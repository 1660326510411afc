// Images to train on when no others are there: handwritten-looking digits from our own draws, and
// what all image sets look like.
//
// Plain values; free functions; any thread.
#pragma once

#include <cstdint>
#include <vector>

namespace longhaul::pcn {

struct ImageSet {
  int64_t pixels = 0;  // per image
  int64_t classes = 0;
  std::vector<float> values;  // image after image, in [-1, 1]
  std::vector<int64_t> labels;
  int64_t size() const { return static_cast<int64_t>(labels.size()); }
};

inline constexpr int64_t kDigitSide = 28;

// `count` digits of kDigitSide x kDigitSide, strokes on black, shifted, turned, slanted, of varying
// thickness, with noise. Image i is a function of (seed, i) alone.
ImageSet GeneratedDigits(int64_t count, uint64_t seed);

}  // namespace longhaul::pcn
