#include "sync/state_hash.h"

#include <algorithm>
#include <bit>
#include <vector>

#include "common/bytes.h"
#include "common/check.h"
#include "common/hash.h"

namespace longhaul {

std::string StateChunk(std::span<const float> parameters, std::span<const float> momentum) {
  static_assert(std::endian::native == std::endian::little);
  LONGHAUL_CHECK(parameters.size() == momentum.size(), "sizes differ");
  std::string payload;
  payload.reserve(parameters.size_bytes() + momentum.size_bytes());
  payload.append(reinterpret_cast<const char*>(parameters.data()), parameters.size_bytes());
  payload.append(reinterpret_cast<const char*>(momentum.data()), momentum.size_bytes());
  return payload;
}

Digest StateHash(std::span<const float> parameters, std::span<const float> momentum,
                 uint64_t chunk_elements) {
  LONGHAUL_CHECK(parameters.size() == momentum.size(), "sizes differ");
  LONGHAUL_CHECK(chunk_elements > 0, "empty chunks");
  std::vector<Digest> digests;
  for (size_t from = 0; from < parameters.size(); from += chunk_elements) {
    const size_t n = std::min<size_t>(chunk_elements, parameters.size() - from);
    digests.push_back(
        ChunkDigest(AsBytes(StateChunk(parameters.subspan(from, n), momentum.subspan(from, n)))));
  }
  return RootDigest(digests);
}

}  // namespace longhaul
