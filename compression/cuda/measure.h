// Kernels of the rate search (compression/rate_control.h): histograms of magnitudes stay on the
// device, only sums over all sections come back.
#pragma once

#include <cstdint>

#include "compression/cuda/grid.h"
#include "compression/cuda/input.h"
#include "compression/histogram.h"
#include "compression/rate_control.h"
#include "compression/section_cost.h"

namespace longhaul::cuda {

// Suffix sums of a histogram: [b] values lie in bin b or above.
inline constexpr uint32_t kReachingSize = kBins + 1;

// As Histogram (compression/histogram.h) answers.
struct DeviceHistogram {
  const uint32_t* reaching;

  LONGHAUL_SHARED uint64_t values() const { return reaching[0]; }
  LONGHAUL_SHARED uint64_t Reaching(uint32_t magnitude_bits) const {
    const uint32_t bin = magnitude_bits >> kBinShift;
    const uint64_t share = kBinWidth - (magnitude_bits & (kBinWidth - 1));
    return reaching[bin + 1] + ((InBin(bin) * share) >> kBinShift);
  }
  LONGHAUL_SHARED uint64_t InBin(uint32_t bin) const { return reaching[bin] - reaching[bin + 1]; }
};

// Histograms of a section's values and, where it has rows, of its rows' largest magnitudes.
struct MeasureKernel {
  static constexpr uint32_t kThreads = 256;
  static constexpr uint32_t kBinsPerThread = kBins / kThreads;
  struct Shared {
    uint32_t bins[kBins];
    uint32_t part[kThreads];
    uint32_t largest;
  };
  Input input;
  const SectionPlace* places;
  const Piece* pieces;
  const Row* rows;
  uint32_t* reaching;      // kReachingSize for each section
  uint32_t* row_reaching;  // the same for each section with rows
  uint32_t* end_bin;       // one above the highest bin with a value; [1]: of vectors, [0]: the rest

  template <class Block>
  LONGHAUL_SHARED void operator()(Block& block, Shared& shared, uint32_t index) const {
    const SectionPlace place = places[index];
    Clear(block, shared);
    block.Each([&](uint32_t t) {
      ForValues(place, pieces, t, kThreads, [&](uint32_t, uint64_t i) {
        AtomicAdd(&shared.bins[MagnitudeBits(input.At(i)) >> kBinShift], 1u);
      });
    });
    Store(block, shared, reaching + uint64_t{index} * kReachingSize);
    block.Each([&](uint32_t t) {
      for (uint32_t b = (t + 1) * kBinsPerThread; b-- > t * kBinsPerThread;) {
        if (shared.bins[b] == 0) continue;
        AtomicMax(end_bin + (place.tensor_class == static_cast<uint8_t>(TensorClass::kVector)),
                  b + 1);
        break;
      }
    });
    if (place.rows == 0) return;
    Clear(block, shared);
    for (uint32_t r = 0; r < place.rows; ++r) AddRow(block, shared, place, r);
    Store(block, shared, row_reaching + uint64_t{place.row_histogram} * kReachingSize);
  }

 private:
  template <class Block>
  LONGHAUL_SHARED void Clear(Block& block, Shared& shared) const {
    block.Each([&](uint32_t t) {
      for (uint32_t b = t; b < kBins; b += kThreads) shared.bins[b] = 0;
      if (t == 0) shared.largest = 0;
    });
  }

  template <class Block>
  LONGHAUL_SHARED void AddRow(Block& block, Shared& shared, const SectionPlace& place,
                              uint32_t r) const {
    const Row row = rows[place.row + r];
    block.Each([&](uint32_t t) {
      uint32_t most = 0;
      for (uint32_t i = t; i < row.count; i += kThreads) {
        most = Most(most, MagnitudeBits(input.At(place.first + row.begin + i)));
      }
      AtomicMax(&shared.largest, most);
    });
    block.Each([&](uint32_t t) {
      if (t != 0) return;
      shared.bins[shared.largest >> kBinShift] += row.count;
      shared.largest = 0;
    });
  }

  template <class Block>
  LONGHAUL_SHARED void Store(Block& block, Shared& shared, uint32_t* out) const {
    block.Each([&](uint32_t t) {
      uint32_t sum = 0;
      for (uint32_t b = 0; b < kBinsPerThread; ++b) sum += shared.bins[t * kBinsPerThread + b];
      shared.part[t] = sum;
    });
    block.Each([&](uint32_t t) {
      uint32_t sum = 0;
      for (uint32_t p = t + 1; p < kThreads; ++p) sum += shared.part[p];
      for (uint32_t b = (t + 1) * kBinsPerThread; b-- > t * kBinsPerThread;) {
        sum += shared.bins[b];
        out[b] = sum;
      }
      if (t == 0) out[kBins] = 0;
    });
  }
};

// What MagnitudeCounts asks for, added up over the sections that are quantised.
struct CountKernel {
  static constexpr uint32_t kThreads = 64;
  struct Shared {};
  struct Sums {
    uint64_t cost, reaching, in_bin;
  };
  const SectionPlace* places;
  uint32_t sections;
  bool vectors_too;
  const uint32_t* reaching;
  const uint32_t* row_reaching;
  uint32_t threshold_bits;
  uint32_t bin;
  const uint32_t* edges;  // of TokenEdges; null: no cost
  uint32_t edge_count;
  Sums* sums;

  template <class Block>
  LONGHAUL_SHARED void operator()(Block& block, Shared&, uint32_t index) const {
    block.Each([&](uint32_t t) {
      const uint32_t s = index * kThreads + t;
      if (s >= sections) return;
      const SectionPlace& place = places[s];
      const bool vector = place.tensor_class == static_cast<uint8_t>(TensorClass::kVector);
      if (vector && !vectors_too) return;
      const DeviceHistogram values{reaching + uint64_t{s} * kReachingSize};
      if (edges == nullptr) {
        AtomicAdd(&sums->reaching, values.Reaching(threshold_bits));
        AtomicAdd(&sums->in_bin, values.InBin(bin));
        return;
      }
      const DeviceHistogram row_maxima{
          place.rows == 0 ? nullptr : row_reaching + uint64_t{place.row_histogram} * kReachingSize};
      AtomicAdd(&sums->cost,
                SectionCostAt(values, row_maxima, place.rows, threshold_bits, edges, edge_count));
    });
  }
};

// Counts the values of one bin in finer ones.
struct InsideKernel {
  static constexpr uint32_t kThreads = 256;
  struct Shared {
    uint32_t bins[kInsideBins];
  };
  Input input;
  const SectionPlace* places;
  const Piece* pieces;
  bool vectors_too;
  uint32_t bin;
  uint64_t* inside;  // kInsideBins

  template <class Block>
  LONGHAUL_SHARED void operator()(Block& block, Shared& shared, uint32_t index) const {
    const SectionPlace place = places[index];
    if (place.tensor_class == static_cast<uint8_t>(TensorClass::kVector) && !vectors_too) return;
    block.Each([&](uint32_t t) {
      for (uint32_t b = t; b < kInsideBins; b += kThreads) shared.bins[b] = 0;
    });
    block.Each([&](uint32_t t) {
      ForValues(place, pieces, t, kThreads, [&](uint32_t, uint64_t i) {
        const uint32_t bits = MagnitudeBits(input.At(i));
        if (bits >> kBinShift != bin) return;
        AtomicAdd(&shared.bins[(bits & (kBinWidth - 1)) >> kInsideShift], 1u);
      });
    });
    block.Each([&](uint32_t t) {
      for (uint32_t b = t; b < kInsideBins; b += kThreads) {
        if (shared.bins[b] != 0) AtomicAdd(&inside[b], uint64_t{shared.bins[b]});
      }
    });
  }
};

// How many values of each section lie between the two thresholds.
struct TieCountKernel {
  static constexpr uint32_t kThreads = 256;
  struct Shared {
    uint32_t count;
  };
  Input input;
  const SectionPlace* places;
  const Piece* pieces;
  uint32_t from_bits, to_bits;
  uint32_t* counts;  // of each section

  template <class Block>
  LONGHAUL_SHARED void operator()(Block& block, Shared& shared, uint32_t index) const {
    const SectionPlace place = places[index];
    block.Each([&](uint32_t t) {
      if (t == 0) shared.count = 0;
    });
    block.Each([&](uint32_t t) {
      uint32_t count = 0;
      ForValues(place, pieces, t, kThreads, [&](uint32_t, uint64_t i) {
        const uint32_t bits = MagnitudeBits(input.At(i));
        count += bits >= from_bits && bits < to_bits ? 1 : 0;
      });
      AtomicAdd(&shared.count, count);
    });
    block.Each([&](uint32_t t) {
      if (t == 0) counts[index] = shared.count;
    });
  }
};

// The index after the `wanted`-th such value of one section, which has as many. One block.
struct TieEndKernel {
  static constexpr uint32_t kThreads = 32;
  struct Shared {};
  Input input;
  const SectionPlace* place;
  const Piece* pieces;
  uint32_t from_bits, to_bits;
  uint32_t wanted;
  uint64_t* end;

  template <class Block>
  LONGHAUL_SHARED void operator()(Block& block, Shared&, uint32_t) const {
    block.Each([&](uint32_t t) {
      if (t != 0) return;
      uint32_t left = wanted;
      ForValues(*place, pieces, 0, 1, [&](uint32_t, uint64_t i) {
        const uint32_t bits = MagnitudeBits(input.At(i));
        if (bits < from_bits || bits >= to_bits || left == 0) return;
        if (--left == 0) *end = i + 1;
      });
    });
  }
};

}  // namespace longhaul::cuda
