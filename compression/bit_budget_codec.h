// The bit-budget codec: a dead-zone quantiser and an entropy coder that together take a given
// number of bits per parameter, all bytes counted.
//
// A chunk is the step (bf16, little-endian) and a section (compression/section.h) for each tensor
// class that has values in it: matrices, embeddings, vectors. It is decodable with the layout
// alone; its bytes are a function of the fragment's values, and the same on every CPU.
//
// Rate: within 2 % of the budget from 1 M values on when they have no large ties, never much above
// it; at most 1.02 times the empirical entropy of the symbols from 0.15 bit on.
//
// Refused by the decoder: bytes left over or missing, entropy coder states that do not end where
// they began, a step or value out of range, tables that no encoder writes.
#pragma once

#include <memory>

#include "compression/codec.h"
#include "compression/cpu.h"
#include "compression/layout.h"

namespace longhaul {

// `bits_milli` within the limits of compression/codec.h.
std::unique_ptr<const Codec> MakeBitBudgetCodec(uint32_t bits_milli, Layout layout, CpuLevel cpu);

}  // namespace longhaul
