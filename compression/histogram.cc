#include "compression/histogram.h"

#include <algorithm>
#include <bit>

#include "compression/bf16.h"

namespace longhaul {

void MagnitudeCounter::Add(std::span<const float> values) {
  // Several tables, so that equal neighbours need not wait for each other.
  uint32_t* const tables[kTables] = {&counts_[0], &counts_[kBins]};
  auto bin = [&](size_t i) {
    return (std::bit_cast<uint32_t>(values[i]) & kFloatMagnitudeMask) >> kBinShift;
  };
  constexpr size_t kLine = 16, kAhead = 32 * kLine;  // so far that memory keeps up
  size_t i = 0;
  for (; i + kLine <= values.size(); i += kLine) {
    __builtin_prefetch(&values[std::min(i + kAhead, values.size() - 1)]);
    for (size_t j = i; j < i + kLine; j += kTables) {
      for (size_t t = 0; t < kTables; ++t) ++tables[t][bin(j + t)];
    }
  }
  for (; i < values.size(); ++i) ++tables[0][bin(i)];
}

void MagnitudeCounter::AddOne(uint32_t magnitude_bits, uint32_t count) {
  counts_[magnitude_bits >> kBinShift] += count;
}

Histogram MagnitudeCounter::Take() {
  for (size_t b = 0; b < kBins; ++b) {
    counts_[b] += counts_[kBins + b];
  }
  Histogram histogram;
  const auto begin = counts_.begin(), end = begin + kBins;
  const auto first = std::find_if(begin, end, [](uint32_t c) { return c != 0; });
  if (first != end) {
    auto last = end - 1;
    while (*last == 0) --last;
    histogram.first_ = static_cast<uint32_t>(first - begin);
    histogram.reaching_.assign(first, last + 1);
    histogram.reaching_.push_back(0);
    for (size_t b = histogram.reaching_.size() - 1; b-- > 0;) {
      histogram.reaching_[b] += histogram.reaching_[b + 1];
    }
  }
  std::fill(counts_.begin(), counts_.end(), 0);
  return histogram;
}

uint64_t Histogram::Reaching(uint32_t magnitude_bits) const {
  const uint32_t bin = magnitude_bits >> kBinShift;
  if (bin < first_) return values();
  const size_t at = bin - first_;
  if (at + 1 >= reaching_.size()) return 0;
  const uint64_t in_bin = reaching_[at] - reaching_[at + 1];
  const uint64_t share = kBinWidth - (magnitude_bits & (kBinWidth - 1));
  return reaching_[at + 1] + ((in_bin * share) >> kBinShift);
}

uint64_t Histogram::InBin(uint32_t bin) const {
  if (bin < first_ || bin - first_ + 1 >= reaching_.size()) return 0;
  return reaching_[bin - first_] - reaching_[bin - first_ + 1];
}

}  // namespace longhaul
