// Inside of the entropy coder: what its plain and its vector loops share.
#pragma once

#include <array>
#include <cstdint>

#include "compression/rans.h"

namespace longhaul::rans {

// A slot of the total: its symbol (8 bits), frequency - 1 (12), slot - start (12), lowest first.
using DecoderTable = std::array<uint32_t, kProbabilityTotal>;

struct Lanes {
  std::array<uint32_t, kWideLanes> state;
};

#ifdef LONGHAUL_X86
// Whole groups of kWideLanes symbols, the last one first: writes words downwards from `end`, with
// up to 16 words of rubbish below them; the first word. `large`: symbols from 32 on occur.
uint16_t* EncodeGroupsAvx512(const uint8_t* symbols, size_t groups, const EncoderTable& table,
                             bool large, Lanes& lanes, uint16_t* end);
// The largest symbol that has a frequency, plus one.
size_t SymbolsUsed(const FrequencyTable& table);
// Alphabets up to here are searched in registers instead of gathered from the decoder's table.
inline constexpr size_t kSmallAlphabet = 16;

// As many whole groups as `in` has words for if each lane takes one; how many. `in` moves on.
size_t DecodeGroupsAvx512(const uint16_t** in, const uint16_t* end, const DecoderTable& table,
                          size_t groups, Lanes& lanes, uint8_t* symbols);
size_t DecodeSmallAvx512(const uint16_t** in, const uint16_t* end, const FrequencyTable& table,
                         size_t groups, Lanes& lanes, uint8_t* symbols);
size_t DecodeGroupsAvx2(const uint16_t** in, const uint16_t* end, const DecoderTable& table,
                        size_t groups, Lanes& lanes, uint8_t* symbols);
#endif

}  // namespace longhaul::rans
