#include "sync/state_hash.h"

#include <gtest/gtest.h>

#include <vector>

#include "common/bytes.h"
#include "common/hash.h"

namespace longhaul {
namespace {

TEST(StateHashTest, IsTheRootOfTheChunksThatTravel) {
  std::vector<float> theta(10), b(10);
  for (size_t i = 0; i < 10; ++i) {
    theta[i] = static_cast<float>(i);
    b[i] = -static_cast<float>(i);
  }
  std::vector<Digest> digests;
  for (size_t from : {0, 4, 8}) {
    const size_t n = from == 8 ? 2 : 4;
    const std::string chunk =
        StateChunk(std::span(theta).subspan(from, n), std::span(b).subspan(from, n));
    EXPECT_EQ(chunk.size(), 8 * n);
    digests.push_back(ChunkDigest(AsBytes(chunk)));
  }
  EXPECT_EQ(StateHash(theta, b, 4), RootDigest(digests));
}

TEST(StateHashTest, EveryBitCounts) {
  std::vector<float> theta(70000, 0.5f), b(70000, 0.0f);
  const Digest hash = StateHash(theta, b);
  EXPECT_EQ(hash, StateHash(theta, b));
  theta[69999] = 0.50000006f;
  EXPECT_NE(hash, StateHash(theta, b));
  theta[69999] = 0.5f;
  b[0] = -0.0f;
  EXPECT_NE(hash, StateHash(theta, b));
}

}  // namespace
}  // namespace longhaul
