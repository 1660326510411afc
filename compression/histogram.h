// How large the values of a section are: counts of float32 magnitudes in bins of 1/32 octave (the
// exponent and five bits below it), so that "how many reach x?" takes no second look at them.
//
// Plain values; one thread.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace longhaul {

inline constexpr int kBinShift = 18;
inline constexpr uint32_t kBinWidth = 1u << kBinShift;  // in float32 bit patterns
inline constexpr uint32_t kBins = 1u << (31 - kBinShift);

// Counts on their way; used for section after section.
class MagnitudeCounter {
 public:
  MagnitudeCounter() : counts_(kTables * kBins) {}
  void Add(std::span<const float> values);
  void AddOne(uint32_t magnitude_bits, uint32_t count);
  // What was added since the last Take, as a histogram.
  class Histogram Take();

 private:
  static constexpr size_t kTables = 2;
  std::vector<uint32_t> counts_;
};

class Histogram {
 public:
  uint64_t values() const { return reaching_.empty() ? 0 : reaching_[0]; }
  // Values of at least this magnitude; within a bin they count as spread evenly.
  uint64_t Reaching(uint32_t magnitude_bits) const;
  uint64_t InBin(uint32_t bin) const;
  // Above every magnitude; 0 when there are no values.
  uint32_t end_bits() const {
    return reaching_.empty() ? 0
                             : (first_ + static_cast<uint32_t>(reaching_.size()) - 1) << kBinShift;
  }

 private:
  friend class MagnitudeCounter;
  uint32_t first_ = 0;              // bin
  std::vector<uint32_t> reaching_;  // of each bin and all above; the last one is 0
};

}  // namespace longhaul
