// Hashes. BLAKE2b-256 where somebody may cheat or states are compared; xxh3 against accidents only.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "common/bytes.h"
#include "common/ids.h"

namespace longhaul {

Digest Blake2b(ByteSpan bytes);
inline Digest Blake2b(std::string_view bytes) { return Blake2b(AsBytes(bytes)); }
uint64_t Xxh3(ByteSpan bytes);

// Digest of one chunk of a chunked object (a leaf).
Digest ChunkDigest(ByteSpan payload);
// Root of a chunked object: BLAKE2b over (domain tag, number of chunks, chunk digests in order).
// Leaves and roots cannot be confused, and the length is bound in.
Digest RootDigest(const std::vector<Digest>& chunk_digests);

}  // namespace longhaul
