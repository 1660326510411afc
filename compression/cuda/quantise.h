// The dead-zone quantiser (compression/quantiser.h) of the bit-budget codec as a kernel: symbols of
// a section, which of its rows are left out, how it will be coded, and where the symbols are that
// its writer must look at one by one.
#pragma once

#include <array>
#include <cstdint>

#include "compression/codec.h"
#include "compression/cuda/grid.h"
#include "compression/cuda/input.h"
#include "compression/quantiser.h"
#include "compression/rate_control.h"
#include "compression/section_cost.h"

namespace longhaul::cuda {

// A plan (CodecPlan) with what follows from its step.
struct DevicePlan {
  CodecPlan plan;
  float step = 0, per_step = 0;
  float most = 0;  // of scaled magnitudes

  LONGHAUL_SHARED static DevicePlan Of(const CodecPlan& plan) {
    DevicePlan out;
    out.plan = plan;
    out.step = FromBf16(plan.step);
    out.per_step = 1.0f / out.step;
    out.most = Least(static_cast<float>(kMaxLevel), kSaturation * out.per_step);
    return out;
  }
  LONGHAUL_SHARED float Scaled(uint32_t magnitude_bits) const {
    const float scaled = std::bit_cast<float>(magnitude_bits) * per_step;
    return scaled < most ? scaled : most;
  }
  // Of a value that is not zero.
  LONGHAUL_SHARED uint32_t LevelOf(float value) const {
    return Most(1u, static_cast<uint32_t>(Scaled(MagnitudeBits(value)) + 1.0f / 3));
  }
  LONGHAUL_SHARED bool Passes(uint32_t magnitude_bits, uint64_t index) const {
    return magnitude_bits >= (index < plan.tie_end ? plan.tie_threshold_bits : plan.threshold_bits);
  }
};

// What is known of a section between its kernels.
struct SectionState {
  std::array<uint32_t, kSymbols> counts;  // of symbols
  std::array<int64_t, kCentroids> sums;   // of distances (CentroidSums)
  SectionMode mode;
  uint32_t symbols;      // how many are coded
  uint32_t active_rows;  // rows that are not left out; 0: all are coded
  uint32_t picked;       // positions
};

// How one section's values travel: quantised, or as they are.
LONGHAUL_SHARED inline SectionMode PlainModeOf(const SectionPlace& place, const CodecPlan& plan) {
  if (place.tensor_class != static_cast<uint8_t>(TensorClass::kVector)) return SectionMode::kEmpty;
  switch (static_cast<VectorMode>(plan.vectors)) {
    case VectorMode::kBf16:
      return SectionMode::kBf16;
    case VectorMode::kInt8:
      return SectionMode::kInt8;
    case VectorMode::kCoded:
      break;
  }
  return SectionMode::kEmpty;
}

struct QuantiseKernel {
  static constexpr uint32_t kThreads = 256;
  struct Shared {
    uint32_t counts[kSymbols];
    uint64_t sums[kCentroids];
    uint32_t active, left;  // rows with something in them, and their values
    uint32_t part[kThreads];
    SectionState state;
  };
  Input input;
  DevicePlan plan;
  const SectionPlace* places;
  const Piece* pieces;
  const Row* rows;
  uint8_t* symbols;     // of the batch: from SectionPlace::symbols on
  uint8_t* compact;     // the same without the rows that are left out
  uint32_t* row_to;     // where a row's values are in `compact`; kLeftOut
  uint16_t* positions;  // picked ones, from SectionPlace::symbols on
  SectionState* states;

  static constexpr uint32_t kLeftOut = UINT32_MAX;

  template <class Block>
  LONGHAUL_SHARED void operator()(Block& block, Shared& shared, uint32_t index) const {
    const SectionPlace place = places[index];
    const SectionMode plain = PlainModeOf(place, plan.plan);
    if (plain != SectionMode::kEmpty) {
      block.Each([&](uint32_t t) {
        if (t == 0) states[index].mode = plain;
      });
      return;
    }
    Quantise(block, shared, place);
    if (place.rows != 0) LookAtRows(block, shared, place);
    block.Each([&](uint32_t t) {
      if (t == 0) Decide(shared, place);
    });
    if (shared.state.active_rows != 0) LeaveOut(block, shared, place);
    Pick(block, shared, place);
    block.Each([&](uint32_t t) {
      if (t == 0) states[index] = shared.state;
    });
  }

 private:
  template <class Block>
  LONGHAUL_SHARED void Quantise(Block& block, Shared& shared, const SectionPlace& place) const {
    block.Each([&](uint32_t t) {
      for (uint32_t s = t; s < kSymbols; s += kThreads) shared.counts[s] = 0;
      if (t < kCentroids) shared.sums[t] = 0;
      if (t == 0) shared.active = shared.left = 0;
    });
    block.Each([&](uint32_t t) {
      int64_t sums[kCentroids] = {};
      ForValues(place, pieces, t, kThreads, [&](uint32_t at, uint64_t i) {
        const float v = input.At(i);
        uint32_t symbol = 0;
        if (plan.Passes(MagnitudeBits(v), i)) {
          const uint32_t level = plan.LevelOf(v);
          const auto above = static_cast<int32_t>(plan.Scaled(MagnitudeBits(v)) * 256.0f) -
                             256 * static_cast<int32_t>(level);
          sums[Least(level, kCentroids) - 1] += above;
          symbol = 2 * TokenOf(level) - (std::bit_cast<uint32_t>(v) >> 31);
        }
        symbols[place.symbols + at] = static_cast<uint8_t>(symbol);
        AtomicAdd(&shared.counts[symbol], 1u);
      });
      for (uint32_t c = 0; c < kCentroids; ++c) {
        AtomicAdd(&shared.sums[c], static_cast<uint64_t>(sums[c]));
      }
    });
  }

  template <class Block>
  LONGHAUL_SHARED void LookAtRows(Block& block, Shared& shared, const SectionPlace& place) const {
    block.Each([&](uint32_t t) {
      for (uint32_t r = t; r < place.rows; r += kThreads) {
        const Row row = rows[place.row + r];
        const uint8_t* own = symbols + place.symbols + row.at;
        uint32_t any = 0;
        for (uint32_t i = 0; i < row.count; ++i) any |= own[i];
        row_to[place.row + r] = any == 0 ? kLeftOut : 0;
        if (any == 0) continue;
        AtomicAdd(&shared.active, 1u);
        AtomicAdd(&shared.left, row.count);
      }
    });
  }

  // As SectionEncoder::LeaveOutRows and EncodeSection do.
  LONGHAUL_SHARED void Decide(Shared& shared, const SectionPlace& place) const {
    SectionState& state = shared.state;
    for (uint32_t s = 0; s < kSymbols; ++s) state.counts[s] = shared.counts[s];
    for (uint32_t c = 0; c < kCentroids; ++c) state.sums[c] = static_cast<int64_t>(shared.sums[c]);
    state.symbols = place.count;
    state.active_rows = 0;
    const TokenCounts all = CountTokens(state.counts);
    TokenCounts coded = all;
    if (place.rows != 0 && shared.active != 0 && shared.active != place.rows) {
      TokenCounts some = all;
      some.from[0] = shared.left;
      if (CheapestMode(some).cost + RowsCost(shared.active, place.rows) < CheapestMode(all).cost) {
        coded = some;
        state.symbols = shared.left;
        state.active_rows = shared.active;
        state.counts[0] -= place.count - shared.left;
      }
    }
    state.mode = CheapestMode(coded).mode;
  }

  template <class Block>
  LONGHAUL_SHARED void LeaveOut(Block& block, Shared&, const SectionPlace& place) const {
    block.Each([&](uint32_t t) {
      if (t != 0) return;
      uint32_t to = 0;
      for (uint32_t r = 0; r < place.rows; ++r) {
        if (row_to[place.row + r] == kLeftOut) continue;
        row_to[place.row + r] = to;
        to += rows[place.row + r].count;
      }
    });
    block.Each([&](uint32_t t) {
      for (uint32_t r = t; r < place.rows; r += kThreads) {
        const Row row = rows[place.row + r];
        if (row_to[place.row + r] == kLeftOut) continue;
        uint8_t* to = compact + place.symbols + row_to[place.row + r];
        for (uint32_t i = 0; i < row.count; ++i) to[i] = symbols[place.symbols + row.at + i];
      }
    });
  }

  // Positions, in order, of what is not zero (sparse) or has raw bits (dense).
  template <class Block>
  LONGHAUL_SHARED void Pick(Block& block, Shared& shared, const SectionPlace& place) const {
    const uint8_t least = shared.state.mode == SectionMode::kSparse ? 1 : kFirstLargeSymbol;
    const uint8_t* from = (shared.state.active_rows != 0 ? compact : symbols) + place.symbols;
    const uint32_t n = shared.state.symbols;
    const uint32_t each = (n + kThreads - 1) / kThreads;
    block.Each([&](uint32_t t) {
      uint32_t count = 0;
      for (uint32_t i = t * each; i < Least(n, (t + 1) * each); ++i) count += from[i] >= least;
      shared.part[t] = count;
    });
    block.Each([&](uint32_t t) {
      uint32_t at = 0;
      for (uint32_t p = 0; p < t; ++p) at += shared.part[p];
      for (uint32_t i = t * each; i < Least(n, (t + 1) * each); ++i) {
        if (from[i] >= least) positions[place.symbols + at++] = static_cast<uint16_t>(i);
      }
      if (t == kThreads - 1) shared.state.picked = at;
    });
  }
};

}  // namespace longhaul::cuda
