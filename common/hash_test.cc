#include "common/hash.h"

#include <gtest/gtest.h>

namespace longhaul {
namespace {

TEST(Hash, Blake2bMatchesThePublishedVectorOfTheEmptyString) {
  EXPECT_EQ(ToHex(Blake2b("")), "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8");
}

TEST(Hash, Xxh3OfTheEmptyString) { EXPECT_EQ(Xxh3({}), 0x2d06800538d394c2ull); }

TEST(Hash, RootBindsOrderAndLengthAndIsNoLeaf) {
  Digest a = ChunkDigest(AsBytes("a"));
  Digest b = ChunkDigest(AsBytes("b"));
  EXPECT_NE(a, Blake2b("a"));
  EXPECT_NE(RootDigest({a, b}), RootDigest({b, a}));
  EXPECT_NE(RootDigest({a}), RootDigest({a, a}));
  EXPECT_NE(RootDigest({a}), a);
}

}  // namespace
}  // namespace longhaul
