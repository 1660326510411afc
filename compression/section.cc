#include "compression/section.h"

#include <algorithm>
#include <cstring>

#include "compression/golomb.h"
#include "compression/integer_log.h"
#include "compression/rans.h"
#include "compression/section_format.h"

namespace longhaul {
namespace {

// ---- sparse ----

void PutCentroids(const CentroidSums& sums, const TokenCounts& counts, uint32_t how_many,
                  BitWriter& out) {
  for (uint32_t i = 0; i < how_many; ++i) {
    out.Put(CentroidByte(sums[i], counts, i), 8);
  }
}

// Layers of positions: of level >= 1 among all, of level >= 2 among those, ...
void PutSparse(const Section& section, const TokenCounts& counts, const NonZero& found,
               BitWriter& out) {
  uint32_t layers = 1;
  while (layers < kLayers && counts.from[layers + 1] > 0) ++layers;
  PutNumber(layers - 1, out);
  for (uint32_t layer = 1; layer <= layers; ++layer) {
    PutNumber(static_cast<uint32_t>(counts.from[layer]) - 1, out);
  }
  PutCentroids(section.sums, counts, std::min(layers, kCentroids), out);
  PutPositions(found.positions, static_cast<uint32_t>(section.symbols.size()), out);
  size_t i = 0;
  for (; i + 8 <= found.symbols.size(); i += 8) {
    uint64_t eight;
    std::memcpy(&eight, &found.symbols[i], 8);
    // The lowest bit of each byte, gathered in the highest byte.
    out.Put(((eight & 0x0101010101010101u) * 0x0102040810204080u) >> 56, 8);
  }
  for (; i < found.symbols.size(); ++i) out.Put(found.symbols[i] & 1, 1);

  std::vector<uint8_t> tokens(found.symbols.size());
  for (size_t j = 0; j < tokens.size(); ++j) {
    tokens[j] = static_cast<uint8_t>(TokenOfSymbol(found.symbols[j]));
  }
  std::vector<uint32_t> positions;
  for (uint32_t layer = 2; layer <= layers; ++layer) {
    positions.clear();
    size_t kept = 0;
    for (size_t j = 0; j < tokens.size(); ++j) {
      if (tokens[j] < layer) continue;
      positions.push_back(static_cast<uint32_t>(j));
      tokens[kept++] = tokens[j];
    }
    PutPositions(positions, static_cast<uint32_t>(tokens.size()), out);
    tokens.resize(kept);
  }
  if (layers < kLayers) return;
  auto large = section.large.begin();
  for (uint8_t token : tokens) {
    const uint32_t level = token < kDirectLevels ? token : *large++;
    PutNumber(level - kLayers, out);
  }
}

// ---- dense ----

void PutDense(CpuLevel cpu, const Section& section, const TokenCounts& counts,
              const std::array<uint32_t, kSymbols>& symbol_counts, std::vector<uint8_t>& out) {
  out.push_back(static_cast<uint8_t>(counts.used));
  BitWriter head;
  PutCentroids(section.sums, counts, std::min(counts.used, kCentroids), head);
  const TokenWeights weights = WeightsOf(symbol_counts);
  for (uint32_t t = 0; t <= counts.used; ++t) head.Put(weights[t], 8);
  Append(head.Finish(), out);
  EncodeSymbols(cpu, section.symbols, symbol_counts, TableOf(weights), out);
  if (section.large.empty()) return;
  BitWriter raw;
  for (uint32_t level : section.large) {
    const uint32_t token = TokenOf(level);
    raw.Put(level - FirstLevelOf(token), static_cast<int>(RawBitsOf(token)));
  }
  Append(raw.Finish(), out);
}

}  // namespace

void EncodeSection(CpuLevel cpu, const Section& section, std::vector<uint8_t>& out) {
  // Where few values are not zero, it is quicker to look for them first.
  const size_t nonzero = CountNonZero(cpu, section.symbols);
  const bool few = nonzero < section.symbols.size() / 4;
  NonZero found;
  if (few) found = CollectNonZero(section.symbols, nonzero);
  std::array<uint32_t, kSymbols> symbol_counts =
      CountSymbols(few ? found.symbols : section.symbols);
  symbol_counts[0] = static_cast<uint32_t>(section.symbols.size() - nonzero);
  const TokenCounts counts = CountTokens(symbol_counts);
  const SectionMode mode = CheapestMode(counts).mode;
  const bool some_rows = section.active_rows.has_value() && mode != SectionMode::kEmpty;
  out.push_back(HeadByte(mode, some_rows));
  BitWriter bits;
  if (some_rows) {
    PutNumber(static_cast<uint32_t>(section.active_rows->size()), bits);
    PutPositions(*section.active_rows, section.rows, bits);
  }
  if (mode == SectionMode::kSparse) {
    if (!few) found = CollectNonZero(section.symbols, nonzero);
    PutSparse(section, counts, found, bits);
  }
  Append(bits.Finish(), out);
  if (mode == SectionMode::kDense) PutDense(cpu, section, counts, symbol_counts, out);
}

}  // namespace longhaul
