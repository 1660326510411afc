// Content addresses: BLAKE2b-256 (RFC 7693) with a personalisation per use, so that a leaf, a node,
// a root and a stream of samples can never stand for one another, and a Merkle root over the leaves
// of a blob with its length bound in. Python's hashlib.blake2b(data, digest_size=32, person=...)
// computes the same values.
//
//   leaf(bytes)         person "LH-leaf"
//   node(left, right)   person "LH-node", over the 64 bytes
//   root                person "LH-root", over (top, u64 number of leaves, u64 length in bytes)
//
// The tree is built level by level; the last one of an odd level moves up unchanged.
//
// Free functions; any thread.
#pragma once

#include <sodium.h>

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "common/bytes.h"
#include "common/ids.h"

namespace longhaul {

// BLAKE2b-256 of a stream. `person` has at most 16 bytes.
class PersonalHash {
 public:
  explicit PersonalHash(std::string_view person);
  void Add(ByteSpan bytes);
  Digest Finish();  // once

 private:
  crypto_generichash_blake2b_state state_;
};

Digest LeafDigest(ByteSpan bytes);
// At least one leaf.
Digest MerkleRoot(std::span<const Digest> leaves, uint64_t length_bytes);

}  // namespace longhaul
