// Top-k: of each 4096 consecutive values of a chunk the k largest in magnitude (of equal ones the
// first), each as its position, its sign and one bit for its magnitude; everything else is 0. All
// tensors are treated alike. The format that SparseLoCo uses (Sarfi et al. 2025, arXiv 2508.15706),
// but positions take their entropy, and the magnitude bit chooses between two means.
//
// Bits in a chunk, first bit lowest: k (13), the two magnitudes (bf16 each); then per block one bit
// and, should fewer than k values be kept (only zeros are left then), their number (13); positions
// in Golomb's code (compression/golomb.h); signs (1: negative); magnitude bits (1: the larger).
// The two magnitudes are the means of the kept values of the chunk below, and from, the mean of all
// of them.
//
// Refused by the decoder: bits left over or missing, k or a magnitude out of range.
#pragma once

#include <memory>

#include "compression/codec.h"
#include "compression/cpu.h"

namespace longhaul {

inline constexpr size_t kTopKBlock = 4096;

// The largest k whose positions, signs and magnitudes fit a budget; at least 1.
uint32_t TopKFor(uint32_t bits_milli);

std::unique_ptr<const Codec> MakeTopKCodec(uint32_t bits_milli, CpuLevel cpu);

}  // namespace longhaul
