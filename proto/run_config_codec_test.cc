#include <gtest/gtest.h>

#include "common/hash.h"
#include "proto/codec.h"
#include "proto/sample_messages.h"

namespace longhaul {
namespace {

TEST(RunConfigCodecTest, ComesBackEqual) {
  for (const RunConfig& config : {RunConfig{}, SampleRunConfig()}) {
    auto decoded = DecodeRunConfig(AsBytes(EncodeRunConfig(config)));
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_TRUE(*decoded == config);
  }
}

// Journals and digests depend on these bytes. A changed encoding needs a new format number.
TEST(RunConfigCodecTest, EncodingIsFrozen) {
  EXPECT_EQ(ToHex(Blake2b(EncodeRunConfig(SampleRunConfig()))),
            "525532b14f9177ae5ddecc63bc0b2e36ed3640019c0ef70f4bd6083d94802f37");
}

TEST(RunConfigCodecTest, RefusesTruncationTrailingBytesAndOtherFormats) {
  std::string bytes = EncodeRunConfig(SampleRunConfig());
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(DecodeRunConfig(AsBytes(bytes).first(size)).ok());
  }
  EXPECT_FALSE(DecodeRunConfig(AsBytes(bytes + 'x')).ok());
  bytes[0] = 0;
  EXPECT_FALSE(DecodeRunConfig(AsBytes(bytes)).ok());
}

TEST(RunConfigCodecTest, RefusesLongTextsAndBadBooleans) {
  RunConfig config;
  config.data.train = std::string(5000, 'x');
  EXPECT_FALSE(DecodeRunConfig(AsBytes(EncodeRunConfig(config))).ok());

  // tie_word_embeddings is the only field that two configs differ in: flip that byte to 2.
  RunConfig tied;
  tied.model.tie_word_embeddings = true;
  std::string a = EncodeRunConfig(RunConfig{});
  const std::string b = EncodeRunConfig(tied);
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] != b[i]) a[i] = 2;
  }
  EXPECT_FALSE(DecodeRunConfig(AsBytes(a)).ok());
}

}  // namespace
}  // namespace longhaul
