#include "compression/codec.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "common/rng.h"
#include "compression/bf16.h"
#include "compression/block_codec.h"
#include "compression/test_values.h"

namespace longhaul {
namespace {

constexpr CodecId kAll[] = {CodecId::kFloat32, CodecId::kBf16, CodecId::kInt8, CodecId::kInt4,
                            CodecId::kInt2};
constexpr CodecId kBlocks[] = {CodecId::kInt8, CodecId::kInt4, CodecId::kInt2};
constexpr float kMark = 123.0f;

int Bits(CodecId id) { return id == CodecId::kInt8 ? 8 : id == CodecId::kInt4 ? 4 : 2; }

std::vector<std::byte> Encoded(const Codec& codec, const std::vector<float>& v) {
  std::vector<std::byte> bytes(codec.EncodedBytes(v.size()));
  EXPECT_TRUE(codec.Encode(v, bytes));
  return bytes;
}

std::vector<float> Decoded(const Codec& codec, const std::vector<std::byte>& bytes, size_t n) {
  std::vector<float> out(n, kMark);
  EXPECT_TRUE(codec.Decode(bytes, out));
  return out;
}

// The block codecs as their header states them, one bit at a time, with libm.
struct Twin {
  std::vector<std::byte> bytes;
  std::vector<float> values;
};
Twin NaiveBlocks(CodecId id, const std::vector<float>& in) {
  const int bits = Bits(id), qmax = (1 << (bits - 1)) - 1;
  Twin twin;
  for (size_t from = 0; from < in.size(); from += 64) {
    const size_t n = std::min<size_t>(64, in.size() - from);
    float absmax = 0;
    for (size_t i = 0; i < n; ++i) {
      absmax = std::max(absmax, std::min(std::fabs(in[from + i]), kMaxMagnitude));
    }
    const float s = FromBf16(ToBf16(absmax / static_cast<float>(qmax)));
    const float scale = s < 0x1p-100f ? 0 : s;
    const uint16_t half = ToBf16(scale);
    twin.bytes.push_back(std::byte(half & 0xff));
    twin.bytes.push_back(std::byte(half >> 8));
    const size_t at = twin.bytes.size();
    twin.bytes.resize(at + (n * static_cast<size_t>(bits) + 7) / 8);
    for (size_t i = 0; i < n; ++i) {
      const float v = std::max(-kMaxMagnitude, std::min(kMaxMagnitude, in[from + i]));
      const int q =
          scale == 0 ? 0
                     : std::max(-qmax, std::min(qmax, static_cast<int>(std::nearbyint(v / scale))));
      twin.values.push_back(static_cast<float>(q) * scale);
      for (int b = 0; b < bits; ++b) {
        const size_t bit = i * static_cast<size_t>(bits) + static_cast<size_t>(b);
        if ((q >> b) & 1) twin.bytes[at + bit / 8] |= std::byte(1 << (bit % 8));
      }
    }
  }
  return twin;
}

TEST(CodecTest, NamesAndIdsAgree) {
  for (CodecId id : kAll) {
    ASSERT_NE(FindCodec(id), nullptr);
    EXPECT_EQ(FindCodec(id)->id(), id);
    EXPECT_EQ(CodecByName(CodecName(id)), id);
  }
  for (CodecId id : {CodecId::kTopK, CodecId::kBitBudget}) {
    EXPECT_EQ(FindCodec(id), nullptr);  // they need a budget
    EXPECT_EQ(MakeCodec({id, 2000})->id(), id);
    EXPECT_EQ(MakeCodec({id, 0}), nullptr);
    EXPECT_EQ(CodecByName(CodecName(id)), id);
  }
  EXPECT_EQ(MakeCodec({CodecId::kInt8, 0})->id(), CodecId::kInt8);
  EXPECT_EQ(MakeCodec({CodecId::kInt8, 8000}), nullptr);
  EXPECT_EQ(MakeCodec({static_cast<CodecId>(99), 0}), nullptr);
  EXPECT_EQ(CodecName(CodecId::kInt4), "int4");
  EXPECT_EQ(FindCodec(static_cast<CodecId>(0)), nullptr);
  EXPECT_EQ(FindCodec(static_cast<CodecId>(99)), nullptr);
  EXPECT_FALSE(CodecByName("int3").has_value());
  EXPECT_FALSE(CodecByName("").has_value());
}

TEST(CodecTest, SpecsByName) {
  EXPECT_EQ(CodecSpecByName("int4", 2.0), CodecSpec(CodecId::kInt4));
  EXPECT_EQ(CodecSpecByName("bit-budget", 2.0), CodecSpec(CodecId::kBitBudget, 2000));
  EXPECT_EQ(CodecSpecByName("bit-budget", 0.05), CodecSpec(CodecId::kBitBudget, 50));
  EXPECT_EQ(CodecSpecByName("top-k", 8.0), CodecSpec(CodecId::kTopK, 8000));
  for (double bits : {0.0, -1.0, 0.049, 8.001, 1e30, std::nan("")}) {
    EXPECT_FALSE(CodecSpecByName("bit-budget", bits).has_value()) << bits;
  }
  EXPECT_FALSE(CodecSpecByName("int3", 2.0).has_value());
}

TEST(CodecTest, SizesThatAChunkCanHave) {
  EXPECT_TRUE(FindCodec(CodecId::kInt8)->MayTake(66, 64));
  EXPECT_FALSE(FindCodec(CodecId::kInt8)->MayTake(65, 64));
  const auto codec = MakeCodec({CodecId::kBitBudget, 2000});
  EXPECT_TRUE(codec->MayTake(5, 64));
  EXPECT_FALSE(codec->MayTake(codec->EncodedBytes(64) + 1, 64));
}

TEST(CodecTest, BlockCodecsEqualTheNaiveTwinAtEverySize) {
  for (CodecId id : kBlocks) {
    for (size_t n = 0; n <= 200; ++n) {
      for (double scale : {1e-3, 1.0, 4.0, 1e-32, 1e-38}) {
        const std::vector<float> in = Normals(n, n, scale);
        const Twin twin = NaiveBlocks(id, in);
        const std::vector<std::byte> bytes = Encoded(*FindCodec(id), in);
        ASSERT_EQ(bytes, twin.bytes) << CodecName(id) << " " << n << " " << scale;
        ASSERT_EQ(Decoded(*FindCodec(id), bytes, n), twin.values);
      }
    }
  }
}

TEST(CodecTest, BlockCodecsGiveEqualBitsOnEveryCpuLevel) {
  for (CodecId id : kBlocks) {
    for (size_t n : {0, 1, 64, 1000, 4096}) {
      const std::vector<float> in = Normals(n, n, 2.0);
      const std::vector<std::byte> bytes = Encoded(*FindCodec(id), in);
      for (CpuLevel cpu : {CpuLevel::kPortable, CpuLevel::kAvx2, CpuLevel::kAvx512}) {
        if (cpu > BestCpuLevel()) continue;
        const auto codec = MakeBlockCodec(id, cpu);
        EXPECT_EQ(Encoded(*codec, in), bytes);
        EXPECT_EQ(Decoded(*codec, bytes, n), Decoded(*FindCodec(id), bytes, n));
      }
    }
  }
  EXPECT_EQ(MakeBlockCodec(CodecId::kBf16, CpuLevel::kPortable), nullptr);
}

TEST(CodecTest, TiesGoToEven) {
  std::vector<float> in(64, 0.0f);
  in[0] = 7.0f;  // scale 1 for int4
  for (int i = 1; i <= 12; ++i) in[static_cast<size_t>(i)] = static_cast<float>(i - 7) + 0.5f;
  const std::vector<float> out =
      Decoded(*FindCodec(CodecId::kInt4), Encoded(*FindCodec(CodecId::kInt4), in), in.size());
  for (size_t i = 1; i <= 12; ++i) EXPECT_EQ(out[i], std::nearbyint(in[i])) << in[i];
  EXPECT_EQ(out[7], 0.0f);
  EXPECT_EQ(out[8], 2.0f);
}

TEST(CodecTest, RawCodecsKeepWhatTheyCan) {
  for (size_t n = 0; n <= 200; ++n) {
    const std::vector<float> in = Normals(n, n, 1.0);
    EXPECT_EQ(Decoded(*FindCodec(CodecId::kFloat32), Encoded(*FindCodec(CodecId::kFloat32), in), n),
              in);
    const std::vector<float> half =
        Decoded(*FindCodec(CodecId::kBf16), Encoded(*FindCodec(CodecId::kBf16), in), n);
    for (size_t i = 0; i < n; ++i) {
      ASSERT_LE(std::fabs(half[i] - in[i]), std::fabs(in[i]) * 0x1p-8f);
      // Coding what was decoded changes nothing.
      ASSERT_EQ(FromBf16(ToBf16(half[i])), half[i]);
    }
  }
  EXPECT_EQ(ToBf16(std::bit_cast<float>(0x3f808000u)), 0x3f80);  // a tie, to even
  EXPECT_EQ(ToBf16(std::bit_cast<float>(0x3f818000u)), 0x3f82);
  EXPECT_EQ(ToBf16(std::bit_cast<float>(0x3f808001u)), 0x3f81);
}

TEST(CodecTest, SaturatesAndStaysBelowEight) {
  const float huge = std::numeric_limits<float>::max();
  for (CodecId id : kAll) {
    for (float big : {7.9f, 7.9375f, 7.95f, 7.99999f, 8.0f, 9.0f, 1e9f, huge}) {
      std::vector<float> in(70, 0.25f);
      in[3] = big;
      in[66] = -big;
      const std::vector<float> out = Decoded(*FindCodec(id), Encoded(*FindCodec(id), in), 70);
      for (float v : out) EXPECT_LE(std::fabs(v), kMaxMagnitude);
      EXPECT_GT(out[3], 7.8f);
      EXPECT_EQ(out[66], -out[3]);
    }
  }
}

TEST(CodecTest, EncodersRefuseWhatIsNotFinite) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  for (CodecId id : kAll) {
    for (float bad : {nan, -nan, inf, -inf}) {
      for (size_t at : {0, 63, 64, 69}) {
        std::vector<float> in(70, 0.5f);
        in[at] = bad;
        std::vector<std::byte> out(FindCodec(id)->EncodedBytes(70));
        EXPECT_FALSE(FindCodec(id)->Encode(in, out));
      }
    }
    std::vector<std::byte> wrong(FindCodec(id)->EncodedBytes(70) + 1);
    EXPECT_FALSE(FindCodec(id)->Encode(std::vector<float>(70), wrong));
  }
}

TEST(CodecTest, ZeroBlocksHaveScaleZero) {
  for (CodecId id : kBlocks) {
    for (float tiny : {0.0f, -0.0f, 1e-45f, 1e-38f, 0x1p-101f}) {
      const std::vector<std::byte> bytes = Encoded(*FindCodec(id), std::vector<float>(100, tiny));
      for (std::byte b : bytes) EXPECT_EQ(b, std::byte{0}) << CodecName(id) << " " << tiny;
    }
  }
}

// Numbers of an independent implementation, over normal(4, 4, 0, 8192) with [1000, 1256) zeroed.
TEST(CodecTest, GoldenValues) {
  struct Golden {
    CodecId id;
    double nmse, sum, bits;
    float first[8];
  };
  const Golden goldens[] = {{CodecId::kInt8,
                             3.529916678427067e-05,
                             -5.7783203125,
                             67584,
                             {-1.168212890625f, 1.6142578125f, 0.361083984375f, 1.06201171875f,
                              -0.658447265625f, 0.403564453125f, 0.33984375f, 0.80712890625f}},
                            {CodecId::kInt4,
                             0.011423551717600955,
                             -3.595703125,
                             34816,
                             {-1.16015625f, 1.546875f, 0.38671875f, 1.16015625f, -0.7734375f,
                              0.38671875f, 0.38671875f, 0.7734375f}}};
  std::vector<float> in(8192);
  double energy = 0;
  for (size_t i = 0; i < in.size(); ++i) {
    in[i] = i >= 1000 && i < 1256 ? 0.0f : static_cast<float>(Normal(4, 4, 0, i));
    energy += static_cast<double>(in[i]) * in[i];
  }
  for (const Golden& golden : goldens) {
    const std::vector<std::byte> bytes = Encoded(*FindCodec(golden.id), in);
    const std::vector<float> out = Decoded(*FindCodec(golden.id), bytes, in.size());
    EXPECT_EQ(static_cast<double>(bytes.size()) * 8, golden.bits);
    for (size_t i = 0; i < 8; ++i) EXPECT_EQ(out[i], golden.first[i]) << i;
    double sum = 0, error = 0;
    for (size_t i = 0; i < in.size(); ++i) {
      sum += out[i];
      error += (static_cast<double>(out[i]) - in[i]) * (static_cast<double>(out[i]) - in[i]);
    }
    EXPECT_NEAR(sum, golden.sum, 1e-9);
    EXPECT_NEAR(error / energy / golden.nmse, 1.0, 1e-5);
  }
}

// The wire format, so that it cannot change unnoticed.
TEST(CodecTest, PublishedBytes) {
  const std::vector<float> in = {1.0f, -1.0f, 0.5f, -0.25f, 0.0f};
  auto hex = [&](CodecId id) {
    std::string text;
    for (std::byte b : Encoded(*FindCodec(id), in)) {
      constexpr char kDigits[] = "0123456789abcdef";
      text += kDigits[std::to_integer<int>(b) >> 4];
      text += kDigits[std::to_integer<int>(b) & 15];
    }
    return text;
  };
  EXPECT_EQ(hex(CodecId::kFloat32), "0000803f000080bf0000003f000080be00000000");
  EXPECT_EQ(hex(CodecId::kBf16), "803f80bf003f80be0000");
  EXPECT_EQ(hex(CodecId::kInt8), "013c7f8140e000");
  EXPECT_EQ(hex(CodecId::kInt4), "123e97e400");
  EXPECT_EQ(hex(CodecId::kInt2), "803f0d00");
}

bool Refuses(CodecId id, const std::vector<std::byte>& bytes, size_t elements) {
  std::vector<float> out(elements, kMark);
  if (FindCodec(id)->Decode(bytes, out)) return false;
  for (float v : out) EXPECT_EQ(v, kMark);
  return true;
}

TEST(CodecTest, DecodersRefuseWhatIsNotCanonical) {
  auto bytes = [](std::initializer_list<int> list) {
    std::vector<std::byte> out;
    for (int b : list) out.push_back(std::byte(b));
    return out;
  };
  EXPECT_FALSE(Refuses(CodecId::kInt4, bytes({0x12, 0x3e, 0x97, 0x03}), 3));
  EXPECT_TRUE(Refuses(CodecId::kInt4, bytes({0x12, 0x3e, 0x97, 0x13}), 3));  // padding
  EXPECT_TRUE(Refuses(CodecId::kInt4, bytes({0x12, 0x3e, 0x97, 0x08}), 3));  // -8
  EXPECT_TRUE(Refuses(CodecId::kInt4, bytes({0x12, 0xbe, 0x97, 0x03}), 3));  // negative scale
  EXPECT_TRUE(Refuses(CodecId::kInt4, bytes({0x80, 0x7f, 0x97, 0x03}), 3));  // infinite scale
  EXPECT_TRUE(Refuses(CodecId::kInt4, bytes({0xc0, 0x7f, 0x97, 0x03}), 3));  // NaN scale
  EXPECT_TRUE(Refuses(CodecId::kInt4, bytes({0x00, 0x80, 0x00, 0x00}), 3));  // scale -0
  EXPECT_TRUE(Refuses(CodecId::kInt4, bytes({0x00, 0x00, 0x97, 0x03}), 3));  // codes under scale 0
  EXPECT_TRUE(Refuses(CodecId::kInt4, bytes({0x01, 0x00, 0x97, 0x03}), 3));  // subnormal scale
  EXPECT_TRUE(Refuses(CodecId::kInt4, bytes({0x00, 0x40, 0x97, 0x03}), 3));  // 7 * 2 > 8
  EXPECT_TRUE(Refuses(CodecId::kInt4, bytes({0x12, 0x3e, 0x97}), 3));
  EXPECT_TRUE(Refuses(CodecId::kInt4, bytes({0x12, 0x3e, 0x97, 0x03, 0x00}), 3));
  EXPECT_TRUE(Refuses(CodecId::kInt4, {}, 3));
  EXPECT_TRUE(Refuses(CodecId::kInt8, bytes({0x01, 0x3c, 0x80}), 1));
  EXPECT_TRUE(Refuses(CodecId::kInt2, bytes({0x80, 0x3f, 0x02}), 1));
  EXPECT_TRUE(Refuses(CodecId::kBf16, bytes({0x00, 0x41}), 1));  // 8
  EXPECT_TRUE(Refuses(CodecId::kBf16, bytes({0xc0, 0x7f}), 1));
  EXPECT_TRUE(Refuses(CodecId::kFloat32, bytes({0x00, 0x00, 0x00, 0x41}), 1));
  EXPECT_TRUE(Refuses(CodecId::kFloat32, bytes({0x00, 0x00, 0xc0, 0x7f}), 1));
}

TEST(CodecTest, HostilePacketsAreRefusedWholeOrDecodeBelowTheLimit) {
  Rng rng(11);
  int accepted = 0;
  for (int trial = 0; trial < 20000; ++trial) {
    const Codec& codec = *FindCodec(kAll[rng.Below(5)]);
    const size_t n = rng.Below(200);
    std::vector<std::byte> bytes = Encoded(codec, Normals(rng.Below(50), n, 2.0));
    for (uint64_t flips = 1 + rng.Below(8); flips > 0 && !bytes.empty(); --flips) {
      bytes[rng.Below(bytes.size())] ^= std::byte(1u << rng.Below(8));
    }
    if (rng.Chance(1, 8)) bytes.resize(rng.Below(bytes.size() + 20));
    std::vector<float> out(n, kMark);
    const bool ok = codec.Decode(bytes, out);
    accepted += ok ? 1 : 0;
    for (float v : out) {
      if (ok) {
        ASSERT_LE(std::fabs(v), kMaxMagnitude);
      } else {
        ASSERT_EQ(v, kMark);
      }
    }
  }
  EXPECT_GT(accepted, 1000);
  EXPECT_LT(accepted, 19000);
}

}  // namespace
}  // namespace longhaul
