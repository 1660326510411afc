// What kernels read: the values to code, and where the sections of a fragment's chunks lie.
//
// Plain values.
#pragma once

#include <bit>
#include <cstdint>

#include "compression/bf16.h"
#include "compression/host_device.h"
#include "compression/layout.h"

namespace longhaul::cuda {

// The values of a fragment: e' = decay · residual + (base − local), computed where it is read, in
// the operations and the order of sync/error_feedback.h, so that it need not be stored. Without
// `base`: local itself. Without residual: decay < 0.
struct Input {
  const float* local = nullptr;
  const float* base = nullptr;
  const float* residual = nullptr;
  float decay = -1;

  LONGHAUL_SHARED float At(uint64_t i) const {
    if (base == nullptr) return local[i];
    const float delta = base[i] - local[i];
    return decay < 0 ? delta : decay * residual[i] + delta;
  }
};

LONGHAUL_SHARED inline uint32_t MagnitudeBits(float v) {
  return std::bit_cast<uint32_t>(v) & kFloatMagnitudeMask;
}

// Consecutive values of a chunk, the first of which is value `at` of their section.
struct Row {
  uint32_t begin = 0, count = 0, at = 0;
};

// The values of one tensor class in one chunk (compression/layout.h, ChunkSection); pieces and rows
// are those of the lists from `piece` and `row` on, relative to the chunk.
struct SectionPlace {
  uint64_t first = 0;    // the chunk's, in the fragment
  uint64_t symbols = 0;  // values of the sections before, in its batch
  uint32_t chunk = 0;    // in its batch
  uint32_t count = 0;
  uint32_t piece = 0, pieces = 0;
  uint32_t row = 0, rows = 0;
  uint32_t row_histogram = 0;  // the how manieth section with rows; only with rows
  uint8_t tensor_class = 0;
};

// Calls use(thread's value in the section, its index in the fragment) for all values of a section,
// `threads` apart.
template <class Use>
LONGHAUL_SHARED void ForValues(const SectionPlace& place, const Piece* pieces, uint32_t thread,
                               uint32_t threads, Use&& use) {
  uint32_t before = 0;
  for (uint32_t p = 0; p < place.pieces; ++p) {
    const Piece piece = pieces[place.piece + p];
    for (uint32_t i = thread; i < piece.count; i += threads) {
      use(before + i, place.first + piece.begin + i);
    }
    before += piece.count;
  }
}

// The index in the fragment of value `at` of a section.
LONGHAUL_SHARED inline uint64_t IndexOf(const SectionPlace& place, const Piece* pieces,
                                        uint32_t at) {
  uint32_t p = place.piece;
  while (at >= pieces[p].count) at -= pieces[p++].count;
  return place.first + pieces[p].begin + at;
}

}  // namespace longhaul::cuda
