// Cuts the flat parameter vector into fragments, the parts that are synchronised together.
//
// Whole layers are spread over the fragments, neighbours apart (strided, as in Streaming DiLoCo,
// Douillard et al. 2025, section 3.1); what lies before the first and after the last layer goes
// where there is room. Longest part first into the lightest fragment: the largest fragment is at
// most 4/3 of what the best possible division reaches (Graham 1969, theorem 2).
//
// Pure functions of their arguments: every replica finds the same layout.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "common/check.h"

namespace longhaul {

// Elements [offset, offset + count) of the flat vector.
struct ParameterSpan {
  uint64_t offset = 0;
  uint64_t count = 0;
  bool operator==(const ParameterSpan&) const = default;
};

// One tensor. `layer` is -1 before the first block, the number of blocks after the last one.
// Tensors with equal `layer` stay together.
struct TensorPlace {
  uint64_t offset = 0;
  uint64_t count = 0;
  int32_t layer = 0;
};

struct FragmentLayout {
  std::vector<ParameterSpan> spans;  // ascending, apart from each other
  uint64_t elements = 0;             // sum of the counts
  bool operator==(const FragmentLayout&) const = default;
};

// The largest number of fragments of which none is empty: the number of different layers.
uint32_t MostFragments(std::span<const TensorPlace> tensors);

// `tensors` cover [0, n) without gap or overlap, in any order. 1 <= fragments <= MostFragments.
// One fragment is one span over everything.
std::vector<FragmentLayout> MakeFragments(std::span<const TensorPlace> tensors, uint32_t fragments);

// Calls use(offset in the flat vector, offset in the piece, count) for each stretch of the
// fragment's elements [offset, offset + count).
template <class Use>
void ForStretches(const FragmentLayout& layout, uint64_t offset, uint64_t count, Use&& use) {
  LONGHAUL_CHECK(offset <= layout.elements && count <= layout.elements - offset,
                 "piece outside the fragment");
  uint64_t done = 0;
  for (const ParameterSpan& span : layout.spans) {
    if (done == count) return;
    if (offset >= span.count) {
      offset -= span.count;
      continue;
    }
    const uint64_t n = std::min(span.count - offset, count - done);
    use(span.offset + offset, done, n);
    done += n;
    offset = 0;
  }
}

// Between the flat vector and the fragment's own numbering, its spans one after the other: elements
// [offset, offset + size of the other span) of the fragment, which must lie inside it.
void Gather(const FragmentLayout& layout, std::span<const float> flat, uint64_t offset,
            std::span<float> out);
void Scatter(const FragmentLayout& layout, std::span<const float> in, uint64_t offset,
             std::span<float> flat);

}  // namespace longhaul
