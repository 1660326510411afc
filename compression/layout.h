// A layout (compression/codec.h) cut down to a chunk.
//
// Plain values; any thread.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "compression/codec.h"

namespace longhaul {

inline constexpr size_t kTensorClasses = 3;

// Consecutive values of a chunk.
struct Piece {
  uint32_t begin = 0;
  uint32_t count = 0;
  bool operator==(const Piece&) const = default;
};

// The values of one class in a chunk, in order: pieces of tensors, and the rows they consist of.
struct ChunkSection {
  uint32_t count = 0;
  std::vector<Piece> pieces;
  std::vector<Piece> rows;  // cover the pieces; empty when that would say nothing new
};

class Layout {
 public:
  // `spans` as CodecSpec asks: sorted, without gaps or empty spans, from 0 on.
  explicit Layout(std::vector<TensorSpan> spans) : spans_(std::move(spans)) {}
  static bool Valid(const std::vector<TensorSpan>& spans);

  // Of values [first, first + count), by class. Nothing when the layout ends before.
  std::optional<std::array<ChunkSection, kTensorClasses>> Cut(uint64_t first, uint64_t count) const;

 private:
  std::vector<TensorSpan> spans_;
};

}  // namespace longhaul
