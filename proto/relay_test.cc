#include "proto/relay.h"

#include <gtest/gtest.h>

namespace longhaul {
namespace {

TEST(RelayHeaderTest, RoundTripsAndRefusesEverythingElse) {
  WorkerKey key;
  for (size_t i = 0; i < key.bytes.size(); ++i) key.bytes[i] = static_cast<uint8_t>(i + 1);
  const std::string good = EncodeRelayHeader(key);
  EXPECT_EQ(good.size(), kRelayHeaderBytes);
  EXPECT_EQ(DecodeRelayHeader(AsBytes(good)), key);
  EXPECT_FALSE(DecodeRelayHeader(AsBytes(good + 'x')));
  EXPECT_FALSE(DecodeRelayHeader(AsBytes(good).first(39)));
  EXPECT_FALSE(DecodeRelayHeader({}));
  for (size_t i = 0; i < 8; ++i) {
    std::string bad = good;
    bad[i] ^= 1;
    EXPECT_FALSE(DecodeRelayHeader(AsBytes(bad))) << i;
  }
}

}  // namespace
}  // namespace longhaul
