// How the symbols of one section (the values of one tensor class in one chunk) become bytes, and
// what that costs. A section is a head byte (how it is coded; whether rows are left out) and a
// body:
//
//   empty    nothing: every value is zero
//   sparse   positions of what is not zero in Golomb's code, signs; of these the positions of level
//            >= 2, of those >= 3, and so on: few bits per value, no table
//   dense    token weights, then entropy coded symbols
//   bf16     2 bytes per value, when nothing else is shorter, and for TensorClass::kVector
//   int8     blocks as of CodecId::kInt8, for TensorClass::kVector
//
// Where rows are left out, the body is preceded by the positions of the rows that are not.
//
// Pure; any thread.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "compression/cpu.h"
#include "compression/layout.h"
#include "compression/quantiser.h"
#include "compression/section_cost.h"

namespace longhaul {

// A section as symbols, ready to be coded.
struct Section {
  std::vector<uint8_t> symbols;  // of the values in `coded`
  std::vector<uint32_t> large;   // levels of the symbols >= kFirstLargeSymbol, in order
  CentroidSums sums{};
  std::optional<std::vector<uint32_t>> active_rows;  // the others are left out of `symbols`
  uint32_t rows = 0;
};
// Appends head and body. Empty, sparse or dense, whatever is cheapest.
void EncodeSection(CpuLevel cpu, const Section& section, std::vector<uint8_t>& out);

// A section that was decoded and found right, not yet written to its place.
struct DecodedSection {
  SectionMode mode = SectionMode::kEmpty;
  std::vector<Piece> coded;         // where the coded values lie in the chunk; the others are 0
  std::vector<uint8_t> symbols;     // dense: of each value; sparse: of each that is not zero
  std::vector<uint32_t> positions;  // sparse: of each symbol, counted along them
  std::vector<uint32_t> levels;     // of the symbols that are large, in order
  std::array<float, kSymbols> values{};  // of the symbols that are not
  int last_centroid = 0;                 // of large levels
  std::vector<float> plain;              // bf16, int8: the values
};
// Reads one section from the beginning of `in`; how many bytes. Nothing when it is damaged.
std::optional<size_t> DecodeSection(CpuLevel cpu, std::span<const uint8_t> in,
                                    const ChunkSection& place, float step, DecodedSection& section);
// Puts the values of `place` where they belong in the chunk.
void WriteSection(CpuLevel cpu, const DecodedSection& section, const ChunkSection& place,
                  float step, std::span<float> chunk);

}  // namespace longhaul
