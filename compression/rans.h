// Entropy coder: range asymmetric numeral systems (Duda 2013) with a static table, interleaved over
// 4 lanes, or 32 for long inputs (Giesen 2014), so that vector instructions can run them side by
// side.
//
// Lane l codes the symbols l, l + lanes, l + 2 lanes, ... States lie in [2^15, 2^31), are renewed
// 16 bits at a time, and begin at 2^15 in the encoder, so a decoder that does not end there has
// read something else. Bytes: the lanes' states (uint32), then the words (uint16) in the order in
// which the decoder wants them: symbol group by symbol group, lane 0 first. Little-endian.
//
// Pure; any thread. Every CPU level gives the same bytes.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "compression/cpu.h"
#include "compression/quantiser.h"
#include "compression/rans_tables.h"

namespace longhaul {

// `counts` = CountSymbols(symbols); every symbol that occurs has a frequency above 0. Appends.
void EncodeSymbols(CpuLevel cpu, std::span<const uint8_t> symbols,
                   const std::array<uint32_t, kSymbols>& counts, const FrequencyTable& table,
                   std::vector<uint8_t>& out);

// Reads symbols.size() symbols from the beginning of `in`; `used` is how many bytes that took.
// False, with symbols unspecified, when `in` is too short or the final states are wrong.
bool DecodeSymbols(CpuLevel cpu, std::span<const uint8_t> in, const FrequencyTable& table,
                   std::span<uint8_t> symbols, size_t* used);

}  // namespace longhaul
