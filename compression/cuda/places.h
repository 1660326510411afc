// A fragment's layout as tables that kernels read: its chunks in batches, their sections, pieces
// and rows.
//
// Plain values; any thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "compression/codec.h"
#include "compression/cuda/input.h"
#include "compression/layout.h"

namespace longhaul::cuda {

// Positions within a section are 16 bits.
inline constexpr uint32_t kMostChunkElements = 1u << 16;

struct Batch {
  uint32_t section = 0, sections = 0;
  uint32_t chunk = 0, chunks = 0;
  uint64_t values = 0;
};

struct Places {
  std::vector<SectionPlace> sections;
  std::vector<Piece> pieces;
  std::vector<Row> rows;
  std::vector<Batch> batches;
  std::vector<uint32_t> first_sections;  // of each chunk, and one past the last
  uint32_t sections_with_rows = 0;
};

// `layout` covers `elements`, or is empty; chunk_elements <= kMostChunkElements.
inline Places MakePlaces(const std::vector<TensorSpan>& layout, uint64_t elements,
                         uint32_t chunk_elements, uint32_t batch_chunks) {
  Places places;
  const Layout cutter(layout);
  uint32_t chunk = 0;
  for (uint64_t first = 0; first < elements; first += chunk_elements, ++chunk) {
    if (chunk % batch_chunks == 0) {
      places.batches.push_back({static_cast<uint32_t>(places.sections.size()), 0, chunk, 0, 0});
    }
    Batch& batch = places.batches.back();
    places.first_sections.push_back(static_cast<uint32_t>(places.sections.size()));
    const auto cut = cutter.Cut(first, Least<uint64_t>(chunk_elements, elements - first));
    for (size_t c = 0; c < kTensorClasses; ++c) {
      const ChunkSection& section = (*cut)[c];
      if (section.count == 0) continue;
      SectionPlace place{.first = first, .symbols = batch.values, .chunk = batch.chunks};
      place.count = section.count;
      place.tensor_class = static_cast<uint8_t>(c);
      place.piece = static_cast<uint32_t>(places.pieces.size());
      place.pieces = static_cast<uint32_t>(section.pieces.size());
      place.row = static_cast<uint32_t>(places.rows.size());
      place.rows = static_cast<uint32_t>(section.rows.size());
      if (place.rows != 0) place.row_histogram = places.sections_with_rows++;
      places.pieces.insert(places.pieces.end(), section.pieces.begin(), section.pieces.end());
      uint32_t at = 0;
      for (const Piece& row : section.rows) {
        places.rows.push_back({row.begin, row.count, at});
        at += row.count;
      }
      places.sections.push_back(place);
      batch.values += section.count;
      ++batch.sections;
    }
    ++batch.chunks;
  }
  places.first_sections.push_back(static_cast<uint32_t>(places.sections.size()));
  return places;
}

}  // namespace longhaul::cuda
