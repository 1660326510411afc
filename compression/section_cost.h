// What it costs to code a section (compression/section.h): the rate search and the encoder decide
// by the same functions, on the processor and in kernels (compression/cuda).
//
// Pure; any thread.
#pragma once

#include <array>
#include <cstdint>

#include "compression/golomb_code.h"
#include "compression/host_device.h"
#include "compression/integer_log.h"
#include "compression/quantiser.h"
#include "compression/rans.h"

namespace longhaul {

enum class SectionMode : uint8_t { kEmpty = 0, kSparse = 1, kDense = 2, kBf16 = 3, kInt8 = 4 };

// In sparse mode a level is told by layers up to here, and by a number above.
inline constexpr uint32_t kLayers = 8;

// How many values have each token or a larger one.
struct TokenCounts {
  std::array<uint64_t, kTokens + 1> from{};  // [0]: all values
  uint32_t used = 0;                         // the largest token there is

  LONGHAUL_SHARED uint64_t values() const { return from[0]; }
  LONGHAUL_SHARED uint64_t nonzero() const { return from[1]; }
};

LONGHAUL_SHARED inline TokenCounts CountTokens(const std::array<uint32_t, kSymbols>& symbols) {
  TokenCounts counts;
  for (uint32_t t = kTokens; t-- > 0;) {
    const uint64_t own =
        t == 0 ? symbols[0] : uint64_t{symbols[2 * t - 1]} + uint64_t{symbols[2 * t]};
    counts.from[t] = counts.from[t + 1] + own;
    if (own != 0) counts.used = Most(counts.used, t);
  }
  return counts;
}

// The i-th centroid as it travels: the mean of the distances in `sum`, rounded down (a rule, not a
// loss).
LONGHAUL_SHARED inline uint8_t CentroidByte(int64_t sum, const TokenCounts& counts, uint32_t i) {
  const uint64_t from = counts.from[i + 1];
  const auto n = static_cast<int64_t>(i + 1 < kCentroids ? from - counts.from[i + 2] : from);
  const int64_t mean = n == 0 ? 0 : (sum - (sum < 0 ? n - 1 : 0)) / n;
  const int64_t centroid = Least<int64_t>(Most<int64_t>(mean, kLeastCentroid), kMostCentroid);
  return static_cast<uint8_t>(centroid - kLeastCentroid);
}

struct SectionCost {
  SectionMode mode = SectionMode::kEmpty;
  uint64_t cost = 0;  // of head and body in units of 2^-16 bit, nearly
};

inline constexpr uint64_t kByteCost = 8 * kOneBit;

LONGHAUL_SHARED inline uint64_t NumberCost(uint64_t n) { return (2 * Log2(n + 1)) + kOneBit; }

LONGHAUL_SHARED inline uint64_t DenseCost(const TokenCounts& c) {
  const uint64_t n = c.values();
  uint64_t cost = NLogN(n) + c.nonzero() * kOneBit;  // signs
  for (uint32_t t = 0; t <= c.used; ++t) {
    const uint64_t count = c.from[t] - c.from[t + 1];
    cost += count * RawBitsOf(t) * kOneBit;
    cost -= NLogN(count);
  }
  // A lane's state is 32 bits, about half of which are news.
  return cost + LanesFor(n) * 17 * kOneBit + (3 + c.used + Least(c.used, kCentroids)) * kByteCost;
}

LONGHAUL_SHARED inline uint64_t SparseCost(const TokenCounts& c) {
  uint64_t cost = NumberCost(c.nonzero()) + c.nonzero() * kOneBit;
  for (uint32_t layer = 1; layer <= kLayers && c.from[layer] > 0; ++layer) {
    cost += PositionsCost(c.from[layer], c.from[layer - 1]) + NumberCost(c.from[layer]) +
            (layer <= kCentroids ? kByteCost : 0);
  }
  for (uint32_t t = kLayers; t <= c.used; ++t) {
    cost += (c.from[t] - c.from[t + 1]) * NumberCost(FirstLevelOf(t) - kLayers);
  }
  return cost;
}

// The cheapest way to code symbols with these counts, nearly.
LONGHAUL_SHARED inline SectionCost CheapestMode(const TokenCounts& counts) {
  if (counts.nonzero() == 0) return {SectionMode::kEmpty, kByteCost};
  const uint64_t sparse = SparseCost(counts), dense = DenseCost(counts);
  // Dense is several times as fast: it wins unless it is longer by 1/128.
  return sparse + sparse / 128 <= dense ? SectionCost{SectionMode::kSparse, sparse + kByteCost}
                                        : SectionCost{SectionMode::kDense, dense + kByteCost};
}

// What the flags of rows cost.
LONGHAUL_SHARED inline uint64_t RowsCost(uint64_t active, uint64_t rows) {
  return PositionsCost(active, rows) + NumberCost(active);
}

// How many of the values of a histogram have each token or a larger one, where those of token t
// begin at edges[t - 1].
template <class Histogram>
LONGHAUL_SHARED TokenCounts CountsAt(const Histogram& histogram, const uint32_t* edges,
                                     uint32_t edge_count) {
  TokenCounts counts;
  counts.from[0] = histogram.values();
  for (uint32_t t = 1; t <= edge_count; ++t) {
    counts.from[t] = histogram.Reaching(edges[t - 1]);
    if (counts.from[t] == 0) break;
    counts.used = t;
  }
  return counts;
}

// What a section costs under a threshold, from its histograms; `row_maxima` holds each row's
// largest magnitude as often as the row has values.
template <class Histogram>
LONGHAUL_SHARED uint64_t SectionCostAt(const Histogram& values, const Histogram& row_maxima,
                                       uint32_t rows, uint32_t threshold_bits,
                                       const uint32_t* edges, uint32_t edge_count) {
  TokenCounts counts = CountsAt(values, edges, edge_count);
  uint64_t best = CheapestMode(counts).cost;
  if (rows != 0 && counts.nonzero() != 0) {
    const uint64_t left = row_maxima.Reaching(threshold_bits);
    counts.from[0] = Most(left, counts.nonzero());
    best = Least(best, CheapestMode(counts).cost + RowsCost(rows * left / values.values(), rows));
  }
  return best + kOneBit * 4;  // a section ends with a whole byte
}

}  // namespace longhaul
