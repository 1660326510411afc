// Sets of positions as gaps in Golomb's code (Golomb 1966; Rice's code is the case of a power of
// two), whose parameter follows from how many positions there are (Gallager and van Voorhis 1975),
// so that nothing but the code travels. Within 0.04 bit per position of the entropy when they are
// spread at random.
//
// Pure; any thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "compression/bit_stream.h"
#include "compression/golomb_code.h"  // costs, single numbers

namespace longhaul {

inline constexpr uint32_t kMaxPositions = 1u << 24;  // `n` below

// Writes positions that increase, all below `n`; their count is not written.
void PutPositions(std::span<const uint32_t> positions, uint32_t n, BitWriter& out);

// Reads `count` positions below `n`. False when there are not as many.
bool GetPositions(uint32_t count, uint32_t n, BitReader& in, std::vector<uint32_t>& positions);

}  // namespace longhaul
