#include "data/merkle.h"

#include <array>

#include "common/check.h"

namespace longhaul {
namespace {

Digest Node(const Digest& left, const Digest& right) {
  PersonalHash hash("LH-node");
  hash.Add(std::as_bytes(std::span(left)));
  hash.Add(std::as_bytes(std::span(right)));
  return hash.Finish();
}

}  // namespace

PersonalHash::PersonalHash(std::string_view person) {
  std::array<unsigned char, crypto_generichash_blake2b_PERSONALBYTES> padded{};
  LONGHAUL_CHECK(person.size() <= padded.size(), "a personalisation is too long");
  std::copy(person.begin(), person.end(), padded.begin());
  crypto_generichash_blake2b_init_salt_personal(&state_, nullptr, 0, sizeof(Digest), nullptr,
                                                padded.data());
}

void PersonalHash::Add(ByteSpan bytes) {
  crypto_generichash_blake2b_update(&state_, reinterpret_cast<const unsigned char*>(bytes.data()),
                                    bytes.size());
}

Digest PersonalHash::Finish() {
  Digest digest;
  crypto_generichash_blake2b_final(&state_, digest.data(), digest.size());
  return digest;
}

Digest LeafDigest(ByteSpan bytes) {
  PersonalHash hash("LH-leaf");
  hash.Add(bytes);
  return hash.Finish();
}

Digest MerkleRoot(std::span<const Digest> leaves, uint64_t length_bytes) {
  LONGHAUL_CHECK(!leaves.empty(), "a Merkle tree without leaves");
  std::vector<Digest> level(leaves.begin(), leaves.end());
  while (level.size() > 1) {
    const size_t pairs = level.size() / 2;
    for (size_t i = 0; i < pairs; ++i) level[i] = Node(level[2 * i], level[2 * i + 1]);
    if (level.size() % 2 == 1) level[pairs] = level.back();
    level.resize((level.size() + 1) / 2);
  }
  ByteWriter w;
  w.Write(level[0]);
  w.U64(leaves.size());
  w.U64(length_bytes);
  PersonalHash root("LH-root");
  root.Add(AsBytes(w.str()));
  return root.Finish();
}

}  // namespace longhaul
