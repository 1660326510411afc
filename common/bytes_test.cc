#include "common/bytes.h"

#include <gtest/gtest.h>

namespace longhaul {
namespace {

TEST(Bytes, WhatIsWrittenIsReadBack) {
  ByteWriter w;
  w.U8(7), w.U16(0x1234), w.U32(0xdeadbeef), w.U64(1ull << 60), w.I64(-5), w.F32(1.5f),
      w.F64(-2.25), w.Bool(true);
  w.String("hello"), w.Write(Version{9});
  ByteReader r(w.str());
  EXPECT_EQ(r.U8(), 7);
  EXPECT_EQ(r.U16(), 0x1234);
  EXPECT_EQ(r.U32(), 0xdeadbeef);
  EXPECT_EQ(r.U64(), 1ull << 60);
  EXPECT_EQ(r.I64(), -5);
  EXPECT_EQ(r.F32(), 1.5f);
  EXPECT_EQ(r.F64(), -2.25);
  EXPECT_TRUE(r.Bool());
  EXPECT_EQ(r.String(5), "hello");
  Version v;
  r.Read(v);
  EXPECT_EQ(v.value, 9u);
  EXPECT_TRUE(r.AtEnd());
}

TEST(Bytes, AShortReadFailsAndYieldsZero) {
  ByteWriter w;
  w.U16(0xffff);
  ByteReader r(w.str());
  EXPECT_EQ(r.U32(), 0u);
  EXPECT_FALSE(r.ok());
  EXPECT_EQ(r.U8(), 0);
}

TEST(Bytes, LengthsAndCountsFromOutsideAreBounded) {
  ByteWriter w;
  w.U32(0xffffffff);
  ByteReader long_string(w.str());
  EXPECT_EQ(long_string.String(SIZE_MAX), "");
  EXPECT_FALSE(long_string.ok());
  ByteWriter c;
  c.U64(UINT64_MAX);
  ByteReader huge_count(c.str());
  EXPECT_EQ(huge_count.Count(8), 0u);
  EXPECT_FALSE(huge_count.ok());
}

TEST(Bytes, HexRoundTripAndRefusals) {
  std::array<uint8_t, 2> out{};
  EXPECT_TRUE(FromHex("0aFf", out));
  EXPECT_EQ(ToHex(std::as_bytes(std::span(out))), "0aff");
  EXPECT_FALSE(FromHex("0af", out));
  EXPECT_FALSE(FromHex("0axf", out));
}

}  // namespace
}  // namespace longhaul
