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

// 2^(i / 16) · 2^12.
constexpr std::array<uint32_t, 16> kSixteenths = {4096, 4277, 4467, 4664, 4871, 5087, 5312, 5547,
                                                  5793, 6049, 6317, 6597, 6889, 7194, 7512, 7845};
uint64_t MassOf(uint8_t weight) {
  if (weight == 0) return 0;
  const uint32_t w = weight - 1u;
  return uint64_t{kSixteenths[w & 15]} << (w >> 4);
}

EncoderTable MakeEncoderTable(const FrequencyTable& table) {
  EncoderTable out{};
  for (size_t s = 0; s < kSymbols; ++s) {
    const uint32_t f = table.frequency[s];
    if (f == 0) continue;
    uint32_t bias = table.start[s], shift = 0;
    if (f == 1) {
      // x / 1 comes out as x - 1; the bias makes up for it.
      out.reciprocal[s] = UINT32_MAX;
      bias += kProbabilityTotal - 1;
    } else {
      shift = static_cast<uint32_t>(std::bit_width(f - 1)) - 1;
      out.reciprocal[s] = static_cast<uint32_t>(((uint64_t{1} << (shift + 32)) + f - 1) / f);
    }
    out.packed[s] = bias | shift << rans::kShiftAt | (kProbabilityTotal - f) << rans::kComplementAt;
  }
  return out;
}

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
  const uint32_t complement = packed >> rans::kComplementAt;
  uint32_t x = state;
  const bool full = x >= (kProbabilityTotal - complement) << 19;
  p[-1] = static_cast<uint16_t>(x);
  p -= full;
  x = full ? x >> 16 : x;
  const uint32_t shift = (packed >> rans::kShiftAt) & 15;
  const auto quotient =
      static_cast<uint32_t>((uint64_t{x} * table.reciprocal[symbol]) >> 32) >> shift;
  state = x + (packed & ((1u << rans::kShiftAt) - 1)) + quotient * complement;
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

TokenWeights WeightsOf(const std::array<uint32_t, kSymbols>& counts) {
  std::array<uint64_t, kTokens> per_sign{};
  per_sign[0] = 2 * uint64_t{counts[0]};
  for (uint32_t s = 1; s < kSymbols; ++s) per_sign[TokenOfSymbol(s)] += counts[s];
  const uint64_t most = *std::max_element(per_sign.begin(), per_sign.end());
  TokenWeights weights{};
  for (size_t t = 0; t < kTokens; ++t) {
    if (per_sign[t] == 0) continue;
    const uint64_t below = (16 * (Log2(most) - Log2(per_sign[t])) + kOneBit / 2) >> kLogFraction;
    weights[t] = static_cast<uint8_t>(kMostWeight - std::min<uint64_t>(below, kMostWeight - 1u));
  }
  return weights;
}

FrequencyTable TableOf(const TokenWeights& weights) {
  std::array<uint64_t, kSymbols> mass;
  uint64_t total = 0;
  for (uint32_t s = 0; s < kSymbols; ++s) {
    mass[s] = MassOf(weights[TokenOfSymbol(s)]);
    total += mass[s];
  }
  FrequencyTable table;
  int64_t rest = kProbabilityTotal;
  for (uint32_t s = 0; s < kSymbols; ++s) {
    if (mass[s] == 0) continue;
    const uint64_t f = (mass[s] * kProbabilityTotal + total / 2) / total;
    table.frequency[s] = static_cast<uint16_t>(std::max<uint64_t>(1, f));
    rest -= table.frequency[s];
  }
  // What rounding left over goes to, or comes from, the largest.
  for (; rest != 0; rest += rest < 0 ? 1 : -1) {
    auto largest = std::max_element(table.frequency.begin(), table.frequency.end());
    *largest = static_cast<uint16_t>(*largest + (rest < 0 ? -1 : 1));
  }
  uint16_t start = 0;
  for (uint32_t s = 0; s < kSymbols; ++s) {
    table.start[s] = start;
    start = static_cast<uint16_t>(start + table.frequency[s]);
  }
  return table;
}

void EncodeSymbols(CpuLevel cpu, std::span<const uint8_t> symbols,
                   const std::array<uint32_t, kSymbols>& counts, const FrequencyTable& frequencies,
                   std::vector<uint8_t>& out) {
  const EncoderTable table = MakeEncoderTable(frequencies);
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
