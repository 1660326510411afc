#include "common/hash.h"

#include <sodium.h>
#include <xxhash.h>

namespace longhaul {

Digest Blake2b(ByteSpan bytes) {
  Digest d;
  crypto_generichash(d.data(), d.size(), reinterpret_cast<const unsigned char*>(bytes.data()),
                     bytes.size(), nullptr, 0);
  return d;
}

uint64_t Xxh3(ByteSpan bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

Digest ChunkDigest(ByteSpan payload) {
  static constexpr unsigned char kLeaf[] = "LH-leaf-1";
  Digest d;
  crypto_generichash_state state;
  crypto_generichash_init(&state, nullptr, 0, d.size());
  crypto_generichash_update(&state, kLeaf, sizeof kLeaf);
  crypto_generichash_update(&state, reinterpret_cast<const unsigned char*>(payload.data()),
                            payload.size());
  crypto_generichash_final(&state, d.data(), d.size());
  return d;
}

Digest RootDigest(const std::vector<Digest>& chunk_digests) {
  ByteWriter w;
  w.String("LH-root-1");
  w.U64(chunk_digests.size());
  for (const Digest& d : chunk_digests) w.Write(d);
  return Blake2b(w.str());
}

}  // namespace longhaul
