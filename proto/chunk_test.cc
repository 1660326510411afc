#include "proto/chunk.h"

#include <gtest/gtest.h>

namespace longhaul {
namespace {

ChunkHeader Sample() {
  return {ObjectKind::kState, 0x1122334455667788, 70000, 4, 65536, 32770, 99};
}

TEST(ChunkHeaderTest, ComesBackEqualIn48Bytes) {
  const std::string bytes = EncodeChunkHeader(Sample());
  EXPECT_EQ(bytes.size(), kChunkHeaderBytes);
  auto decoded = DecodeChunkHeader(AsBytes(bytes));
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ(*decoded, Sample());
}

TEST(ChunkHeaderTest, LayoutIsFrozen) {
  EXPECT_EQ(ToHex(AsBytes(EncodeChunkHeader(Sample()))),
            "4c48434b01000300"
            "8877665544332211"
            "7011010004000000"
            "0000010000000000"
            "0280000000000000"
            "6300000000000000");
}

TEST(ChunkHeaderTest, RefusesWrongSizes) {
  const std::string bytes = EncodeChunkHeader(Sample());
  EXPECT_FALSE(DecodeChunkHeader({}).ok());
  EXPECT_FALSE(DecodeChunkHeader(AsBytes(bytes).first(47)).ok());
  EXPECT_FALSE(DecodeChunkHeader(AsBytes(bytes + 'x')).ok());
}

TEST(ChunkHeaderTest, RefusesWrongMagicVersionAndKind) {
  const std::string good = EncodeChunkHeader(Sample());
  for (size_t at : {0u, 3u, 4u, 5u, 7u}) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0x10);
    EXPECT_FALSE(DecodeChunkHeader(AsBytes(bad)).ok()) << at;
  }
  for (char kind : {'\0', '\5', '\x7F'}) {
    std::string bad = good;
    bad[6] = kind;
    EXPECT_FALSE(DecodeChunkHeader(AsBytes(bad)).ok());
  }
}

TEST(ChunkHeaderTest, RefusesLongPayloads) {
  ChunkHeader header = Sample();
  header.bytes = kMaxChunkBytes;
  EXPECT_TRUE(DecodeChunkHeader(AsBytes(EncodeChunkHeader(header))).ok());
  header.bytes = kMaxChunkBytes + 1;
  EXPECT_FALSE(DecodeChunkHeader(AsBytes(EncodeChunkHeader(header))).ok());
}

}  // namespace
}  // namespace longhaul
