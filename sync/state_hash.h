// The hash that proves that two replicas hold the same fragment: over the parameters and the outer
// momentum, bit by bit, in chunks. A chunk's payload (parameters, then momentum, float32
// little-endian) is also what travels when a state is transferred, so the hash is that object's
// root.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "common/ids.h"

namespace longhaul {

inline constexpr uint64_t kStateChunkElements = 65536;

// Payload of one state chunk; both spans have the same size.
std::string StateChunk(std::span<const float> parameters, std::span<const float> momentum);

// Root over the digests of consecutive chunks of `chunk_elements`, the last one shorter.
Digest StateHash(std::span<const float> parameters, std::span<const float> momentum,
                 uint64_t chunk_elements = kStateChunkElements);

}  // namespace longhaul
