#include "compression/rans.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>

#include "compression/integer_log.h"
#include "compression/rans_kernels.h"

namespace longhaul {
namespace {

using rans::DecoderTable;
using rans::EncoderTable;
using rans::kLowest;
using rans::Lanes;

DecoderTable MakeDecoderTable(const FrequencyTable& table) {
  DecoderTable out;
  for (uint32_t s = 0; s < kSymbols; ++s) {
    const uint32_t f = table.frequency[s];
    for (uint32_t i = 0; i < f; ++i) out[table.start[s] + i] = s | (f - 1) << 8 | i << 20;
  }
  return out;
}

// Pushes one symbol; a word that leaves the state goes below `p`.
inline uint16_t* Push(uint32_t& state, uint8_t symbol, const EncoderTable& table, uint16_t* p) {
  const uint32_t packed = table.packed[symbol];
  const bool full = rans::LeavesWord(state, packed);
  p[-1] = static_cast<uint16_t>(state);
  p -= full;
  state = rans::Pushed(full ? state >> 16 : state, packed, table.reciprocal[symbol]);
  return p;
}

// Symbols [first, last) in reverse.
uint16_t* EncodePlain(const uint8_t* symbols, size_t first, size_t last, size_t lanes,
                      const EncoderTable& table, Lanes& states, uint16_t* p) {
  for (size_t i = last; i > first; --i) {
    p = Push(states.state[(i - 1) & (lanes - 1)], symbols[i - 1], table, p);
  }
  return p;
}

// Symbols [first, last); false when words are missing.
bool DecodePlain(const uint16_t** in, const uint16_t* end, size_t first, size_t last, size_t lanes,
                 const DecoderTable& table, Lanes& states, uint8_t* symbols) {
  const uint16_t* p = *in;
  for (size_t i = first; i < last; ++i) {
    uint32_t& state = states.state[i & (lanes - 1)];
    const uint32_t slot = table[state & (kProbabilityTotal - 1)];
    symbols[i] = static_cast<uint8_t>(slot);
    state = (((slot >> 8) & 0xfff) + 1) * (state >> kProbabilityBits) + (slot >> 20);
    if (state < kLowest) {
      if (p == end) return false;
      state = state << 16 | *p++;
    }
  }
  *in = p;
  return true;
}

// Whole groups of wide lanes by vector instructions, as many as can be; how many.
size_t DecodeGroups(CpuLevel cpu, const uint16_t** in, const uint16_t* end,
                    const FrequencyTable& frequencies, const DecoderTable& table, size_t groups,
                    Lanes& lanes, uint8_t* symbols) {
#ifdef LONGHAUL_X86
  if (cpu == CpuLevel::kAvx512 && rans::SymbolsUsed(frequencies) <= rans::kSmallAlphabet) {
    return rans::DecodeSmallAvx512(in, end, frequencies, groups, lanes, symbols);
  }
  if (cpu == CpuLevel::kAvx512) {
    return rans::DecodeGroupsAvx512(in, end, table, groups, lanes, symbols);
  }
  if (cpu == CpuLevel::kAvx2) {
    return rans::DecodeGroupsAvx2(in, end, table, groups, lanes, symbols);
  }
#endif
  return 0;
}

// A symbol of frequency f adds 12 - log2 f bits to a state x >= 8 f, and because of the rounding at
// most log2(1 + 1/8) < 1/4 bit more. Vector stores spill below the last word.
size_t MostWords(const std::array<uint32_t, kSymbols>& counts, const FrequencyTable& table) {
  uint64_t cost = 0;
  for (size_t s = 0; s < kSymbols; ++s) {
    if (counts[s] == 0) continue;
    cost += counts[s] * (kProbabilityBits * kOneBit + kOneBit / 4 - Log2(table.frequency[s]));
  }
  return cost / (16 * kOneBit) + 4 * kWideLanes;
}

}  // namespace

size_t rans::SymbolsUsed(const FrequencyTable& table) {
  size_t used = kSymbols;
  while (used > 0 && table.frequency[used - 1] == 0) --used;
  return used;
}

void EncodeSymbols(CpuLevel cpu, std::span<const uint8_t> symbols,
                   const std::array<uint32_t, kSymbols>& counts, const FrequencyTable& frequencies,
                   std::vector<uint8_t>& out) {
  const EncoderTable table = rans::MakeEncoderTable(frequencies);
  const size_t n = symbols.size(), lanes = LanesFor(n);
  const size_t capacity = MostWords(counts, frequencies);
  const auto words = std::make_unique_for_overwrite<uint16_t[]>(capacity);
  uint16_t* const end = words.get() + capacity;
  Lanes states;
  states.state.fill(kLowest);
  uint16_t* p = end;
  size_t last = n;
#ifdef LONGHAUL_X86
  if (cpu == CpuLevel::kAvx512 && lanes == kWideLanes) {
    const size_t groups = n / kWideLanes;
    p = EncodePlain(symbols.data(), groups * kWideLanes, n, lanes, table, states, p);
    const bool large = rans::SymbolsUsed(frequencies) > 32;
    p = rans::EncodeGroupsAvx512(symbols.data(), groups, table, large, states, p);
    last = 0;
  }
#endif
  p = EncodePlain(symbols.data(), 0, last, lanes, table, states, p);
  const auto* state_bytes = reinterpret_cast<const uint8_t*>(states.state.data());
  out.insert(out.end(), state_bytes, state_bytes + 4 * lanes);
  out.insert(out.end(), reinterpret_cast<const uint8_t*>(p), reinterpret_cast<const uint8_t*>(end));
}

bool DecodeSymbols(CpuLevel cpu, std::span<const uint8_t> in, const FrequencyTable& frequencies,
                   std::span<uint8_t> symbols, size_t* used) {
  const size_t n = symbols.size(), lanes = LanesFor(n);
  if (in.size() < 4 * lanes) return false;
  Lanes states;
  std::memcpy(states.state.data(), in.data(), 4 * lanes);
  for (size_t l = 0; l < lanes; ++l) {
    if (states.state[l] < kLowest || states.state[l] >> 31 != 0) return false;
  }
  const DecoderTable table = MakeDecoderTable(frequencies);
  // No symbol takes more than a word. Vector loads may reach beyond the last one.
  const size_t count = std::min((in.size() - 4 * lanes) / 2, n);
  const auto words = std::make_unique<uint16_t[]>(count + kWideLanes);
  if (count != 0) std::memcpy(words.get(), in.data() + 4 * lanes, 2 * count);
  const uint16_t* p = words.get();
  const uint16_t* const end = p + count;
  size_t done = 0;
  if (lanes == kWideLanes) {
    done = kWideLanes * DecodeGroups(cpu, &p, end + kWideLanes, frequencies, table, n / kWideLanes,
                                     states, symbols.data());
  }
  if (p > end) return false;
  if (!DecodePlain(&p, end, done, n, lanes, table, states, symbols.data())) return false;
  *used = 4 * lanes + 2 * static_cast<size_t>(p - words.get());
  return std::all_of(states.state.begin(), states.state.begin() + static_cast<ptrdiff_t>(lanes),
                     [](uint32_t x) { return x == kLowest; });
}

}  // namespace longhaul
