#include "data/merkle.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "common/rng.h"

namespace longhaul {
namespace {

// The definition, recursively: the left half is the largest power of two below the count.
Digest NaiveTop(const std::vector<Digest>& leaves, size_t from, size_t to) {
  if (to - from == 1) return leaves[from];
  size_t left = 1;
  while (left * 2 < to - from) left *= 2;
  PersonalHash hash("LH-node");
  const Digest a = NaiveTop(leaves, from, from + left), b = NaiveTop(leaves, from + left, to);
  hash.Add(std::as_bytes(std::span(a)));
  hash.Add(std::as_bytes(std::span(b)));
  return hash.Finish();
}

Digest NaiveRoot(const std::vector<Digest>& leaves, uint64_t length) {
  PersonalHash hash("LH-root");
  const Digest top = NaiveTop(leaves, 0, leaves.size());
  const uint64_t numbers[] = {leaves.size(), length};
  hash.Add(std::as_bytes(std::span(top)));
  hash.Add(std::as_bytes(std::span(numbers)));
  return hash.Finish();
}

// From Python: hashlib.blake2b(b"abc", digest_size=32, person=b"LH-leaf").
TEST(MerkleTest, PublishedValues) {
  EXPECT_EQ(ToHex(LeafDigest(AsBytes("abc"))),
            "136ccd6a610ea63619563fbf4e1eaf9eeb86b35072fea6947c320ca98bd86f92");
  const std::vector<Digest> leaves = {LeafDigest(AsBytes("a")), LeafDigest(AsBytes("b")),
                                      LeafDigest(AsBytes("c"))};
  EXPECT_EQ(ToHex(MerkleRoot(leaves, 3)),
            "ba57455bcb852d090820bb9429cbe606898354890efe81eda2ba9aad4435fdb5");
}

TEST(MerkleTest, AgreesWithTheDefinition) {
  std::vector<Digest> leaves;
  for (uint64_t n = 1; n <= 70; ++n) {
    leaves.push_back(LeafDigest(AsBytes(std::to_string(n))));
    EXPECT_EQ(MerkleRoot(leaves, n * 7), NaiveRoot(leaves, n * 7)) << n;
  }
}

TEST(MerkleTest, LeavesNodesLengthsAndOrderAreToldApart) {
  const Digest a = LeafDigest(AsBytes("a")), b = LeafDigest(AsBytes("b"));
  std::string pair(a.begin(), a.end());
  pair.append(b.begin(), b.end());
  const std::set<Digest> all = {MerkleRoot(std::vector{a}, 1),
                                MerkleRoot(std::vector{b}, 1),
                                MerkleRoot(std::vector{a}, 2),
                                MerkleRoot(std::vector{a, b}, 2),
                                MerkleRoot(std::vector{b, a}, 2),
                                MerkleRoot(std::vector{a, b, b}, 2),
                                MerkleRoot(std::vector{LeafDigest(AsBytes(pair))}, 2),
                                LeafDigest(AsBytes(pair))};
  EXPECT_EQ(all.size(), 8u);
}

}  // namespace
}  // namespace longhaul
