#include "compression/layout.h"

#include <algorithm>

namespace longhaul {

bool Layout::Valid(const std::vector<TensorSpan>& spans) {
  uint64_t next = 0;
  for (const TensorSpan& span : spans) {
    if (span.offset != next || span.count == 0 || span.count > UINT64_MAX - next ||
        span.tensor_class > TensorClass::kVector) {
      return false;
    }
    next += span.count;
  }
  return true;
}

std::optional<std::array<ChunkSection, kTensorClasses>> Layout::Cut(uint64_t first,
                                                                    uint64_t count) const {
  std::array<ChunkSection, kTensorClasses> sections;
  const uint64_t end = first + count;
  auto add = [&](const TensorSpan& span) {
    ChunkSection& section = sections[static_cast<size_t>(span.tensor_class)];
    const uint64_t from = std::max(first, span.offset);
    const uint64_t to = std::min(end, span.offset + span.count);
    section.count += static_cast<uint32_t>(to - from);
    section.pieces.push_back(
        {static_cast<uint32_t>(from - first), static_cast<uint32_t>(to - from)});
    const uint64_t row = span.row == 0 ? span.count : span.row;
    for (uint64_t at = from; at < to;) {
      const uint64_t next = std::min(to, at + row - (at - span.offset) % row);
      section.rows.push_back({static_cast<uint32_t>(at - first), static_cast<uint32_t>(next - at)});
      at = next;
    }
  };
  if (count == 0) return sections;
  if (spans_.empty()) {
    add({.offset = first, .count = count});
  } else {
    if (spans_.back().offset + spans_.back().count < end) return std::nullopt;
    auto span = std::upper_bound(spans_.begin(), spans_.end(), first,
                                 [](uint64_t at, const TensorSpan& s) { return at < s.offset; });
    for (--span; span != spans_.end() && span->offset < end; ++span) add(*span);
  }
  for (ChunkSection& section : sections) {
    if (section.rows.size() == section.pieces.size()) section.rows.clear();
  }
  return sections;
}

}  // namespace longhaul
