#include "compression/bit_budget_codec.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>

#include "common/rng.h"
#include "compression/bf16.h"
#include "compression/test_values.h"

namespace longhaul {
namespace {

constexpr uint32_t kBudgets[] = {50, 150, 300, 500, 1000, 2000, 4000, 8000};

std::unique_ptr<const Codec> Make(uint32_t bits_milli, std::vector<TensorSpan> layout = {}) {
  return MakeCodec({CodecId::kBitBudget, bits_milli}, std::move(layout));
}

double BitsPerValue(const CodedFragment& coded, size_t n) {
  return static_cast<double>(coded.bytes()) * 8 / static_cast<double>(n);
}

double Nmse(const std::vector<float>& values, const std::vector<float>& decoded) {
  double error = 0, power = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    error += std::pow(static_cast<double>(values[i]) - decoded[i], 2);
    power += std::pow(static_cast<double>(values[i]), 2);
  }
  return error / power;
}

// Order-0 entropy of the decoded values, each value a symbol.
double EmpiricalEntropy(std::span<const float> decoded) {
  std::map<float, double> counts;
  for (float v : decoded) counts[v] += 1;
  double bits = 0;
  for (auto [value, count] : counts) {
    bits -= count * std::log2(count / static_cast<double>(decoded.size()));
  }
  return bits;
}

TEST(BitBudget, MeetsTheBudgetAndTheDistortionOfTheLiterature) {
  const size_t n = 1 << 20;
  const std::vector<float> normal = Normals(1, n, 1e-3), heavy = HeavyTailed(1, n, 1e-3);
  // What an entropy-coded scalar quantiser reaches on Gaussian values, from rate-distortion theory
  // at both ends (1 - 2 ln 2 R for small rates at best, 1/12 (2 pi e) 2^-2R for large ones).
  const std::map<uint32_t, double> most = {{50, 0.96},    {150, 0.88},   {500, 0.63},
                                           {1000, 0.36},  {2000, 0.097}, {4000, 0.0060},
                                           {8000, 2.4e-5}};
  for (uint32_t bits_milli : kBudgets) {
    const auto codec = Make(bits_milli);
    for (const std::vector<float>* values : {&normal, &heavy}) {
      const auto coded = CodeFragment(*codec, *values);
      ASSERT_TRUE(coded.has_value());
      EXPECT_NEAR(BitsPerValue(*coded, n) * 1000 / bits_milli, 1.0, 0.02) << bits_milli;
      const auto decoded = DecodeFragment(*codec, *coded, n);
      ASSERT_TRUE(decoded.has_value());
      if (values == &normal && most.contains(bits_milli)) {
        EXPECT_LT(Nmse(*values, *decoded), most.at(bits_milli)) << bits_milli;
      }
    }
  }
}

TEST(BitBudget, TakesLittleMoreThanTheEmpiricalEntropy) {
  const size_t n = 1 << 19;
  const std::vector<float> values = Normals(2, n, 0.02);
  for (uint32_t bits_milli : {150, 300, 500, 700, 1000, 2000, 4000}) {
    const auto codec = Make(static_cast<uint32_t>(bits_milli));
    const auto coded = CodeFragment(*codec, values);
    const auto decoded = DecodeFragment(*codec, *coded, n);
    // Chunk by chunk, because each has centroids of its own.
    double entropy = 0;
    for (size_t at = 0; at < n; at += kTestChunk) {
      entropy += EmpiricalEntropy(std::span(*decoded).subspan(at, kTestChunk));
    }
    EXPECT_LT(static_cast<double>(coded->bytes()) * 8, 1.02 * entropy) << bits_milli;
  }
}

TEST(BitBudget, SmallFragmentsStayWithinTenPercent) {
  for (size_t n : {20000, 133440, 300000}) {
    const std::vector<float> values = Normals(n, n, 0.1);
    for (uint32_t bits_milli : kBudgets) {
      const auto coded = CodeFragment(*Make(bits_milli), values);
      EXPECT_NEAR(BitsPerValue(*coded, n) * 1000 / bits_milli, 1.0, 0.1) << n << " " << bits_milli;
    }
  }
}

TEST(BitBudget, OddSizesComeBack) {
  for (size_t n : {1, 2, 3, 63, 64, 65, 1000, 4096, 65535, 65536, 65537, 66000}) {
    const std::vector<float> values = HeavyTailed(n, n, 0.3);
    for (uint32_t bits_milli : kBudgets) {
      const auto codec = Make(bits_milli);
      const auto coded = CodeFragment(*codec, values);
      ASSERT_TRUE(coded.has_value());
      const auto decoded = DecodeFragment(*codec, *coded, n);
      ASSERT_TRUE(decoded.has_value()) << n << " " << bits_milli;
      for (size_t i = 0; i < n; ++i) ASSERT_LE(std::fabs((*decoded)[i]), kMaxMagnitude);
    }
  }
  EXPECT_TRUE(CodeFragment(*Make(2000), {})->chunks.empty());
}

TEST(BitBudget, EqualBytesOnEveryCpuLevel) {
  const std::vector<TensorSpan> layout = {{0, 70000, TensorClass::kEmbedding, 100},
                                          {70000, 500, TensorClass::kVector, 0},
                                          {70500, 59500, TensorClass::kMatrix, 0}};
  std::vector<float> values = HeavyTailed(3, 130000, 0.01);
  std::fill(values.begin() + 1000, values.begin() + 40000, 0.0f);
  for (uint32_t bits_milli : kBudgets) {
    const auto plain = MakeBitBudgetCodec(bits_milli, Layout(layout), CpuLevel::kPortable);
    const auto expected = CodeFragment(*plain, values);
    const auto decoded = DecodeFragment(*plain, *expected, values.size());
    ASSERT_TRUE(decoded.has_value());
    for (CpuLevel cpu : {CpuLevel::kAvx2, CpuLevel::kAvx512}) {
      if (cpu > BestCpuLevel()) continue;
      const auto codec = MakeBitBudgetCodec(bits_milli, Layout(layout), cpu);
      const auto coded = CodeFragment(*codec, values);
      EXPECT_EQ(coded->plan, expected->plan);
      EXPECT_EQ(coded->chunks, expected->chunks);
      EXPECT_EQ(*DecodeFragment(*codec, *expected, values.size()), *decoded);
    }
  }
}

TEST(BitBudget, ZerosTakeAlmostNothing) {
  const std::vector<float> zeros(100000, 0.0f), tiny(100000, -1e-40f);
  for (uint32_t bits_milli : kBudgets) {
    for (const std::vector<float>* values : {&zeros, &tiny}) {
      const auto codec = Make(bits_milli);
      const auto coded = CodeFragment(*codec, *values);
      EXPECT_LE(coded->bytes(), 6);
      EXPECT_EQ(*DecodeFragment(*codec, *coded, values->size()), zeros);
    }
  }
}

// A threshold at a multiple of the standard deviation would hold all of them back for ever.
TEST(BitBudget, EqualMagnitudesGetThroughInPart) {
  std::vector<float> values(200000);
  for (size_t i = 0; i < values.size(); ++i) values[i] = Draw(7, {i}) % 2 == 0 ? 0.01f : -0.01f;
  for (uint32_t bits_milli : kBudgets) {
    const auto codec = Make(bits_milli);
    const auto coded = CodeFragment(*codec, values);
    const auto decoded = DecodeFragment(*codec, *coded, values.size());
    size_t kept = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      if ((*decoded)[i] == 0) continue;
      ++kept;
      ASSERT_NEAR((*decoded)[i] / values[i], 1.0, 0.01);
    }
    if (bits_milli <= 1000) {
      EXPECT_LE(BitsPerValue(*coded, values.size()) * 1000, bits_milli * 1.02);
    }
    EXPECT_GT(static_cast<double>(kept) / static_cast<double>(values.size()),
              std::min(0.9, bits_milli * 0.00009))
        << bits_milli;
  }
}

// Early AdamW steps: magnitudes differ by far less than a bin is wide.
TEST(BitBudget, AlmostEqualMagnitudesMeetTheBudget) {
  const size_t n = 1 << 20;
  std::vector<float> values(n);
  for (size_t i = 0; i < n; ++i) {
    const auto noise = static_cast<float>(Draw(8, {i}) % 1000);
    values[i] = (Draw(9, {i}) % 2 == 0 ? 0.01f : -0.01f) * (1 + 1e-6f * noise);
  }
  for (uint32_t bits_milli : {50, 150, 500}) {
    const auto coded = CodeFragment(*Make(static_cast<uint32_t>(bits_milli)), values);
    // The first of those that cannot be told apart get through, so some chunks are denser than
    // others, and shorter than if all were alike.
    EXPECT_LE(BitsPerValue(*coded, n) * 1000 / bits_milli, 1.01) << bits_milli;
    EXPECT_GE(BitsPerValue(*coded, n) * 1000 / bits_milli, 0.7) << bits_milli;
  }
}

TEST(BitBudget, ConstantAndOneValue) {
  const std::vector<float> constant(70000, 0.5f);
  for (uint32_t bits_milli : {1500, 4000}) {
    const auto codec = Make(static_cast<uint32_t>(bits_milli));
    const auto decoded = DecodeFragment(*codec, *CodeFragment(*codec, constant), constant.size());
    for (float v : *decoded) ASSERT_NEAR(v, 0.5f, 0.01f);
  }
  std::vector<float> one(70000, 0.0f);
  one[65537] = -3.0f;
  const auto codec = Make(150);
  const auto coded = CodeFragment(*codec, one);
  EXPECT_LT(coded->bytes(), 25);
  const auto decoded = DecodeFragment(*codec, *coded, one.size());
  for (size_t i = 0; i < one.size(); ++i) ASSERT_NEAR((*decoded)[i], one[i], 0.02f);
}

TEST(BitBudget, OutliersAndLargeValues) {
  std::vector<float> values = Normals(6, 100000, 1e-4);
  values[5] = 1.0f;
  values[70000] = -std::numeric_limits<float>::max();
  values[70001] = 9.0f;
  for (uint32_t bits_milli : kBudgets) {
    const auto codec = Make(bits_milli);
    const auto coded = CodeFragment(*codec, values);
    const auto decoded = DecodeFragment(*codec, *coded, values.size());
    EXPECT_NEAR((*decoded)[5], 1.0f, 0.02f);
    EXPECT_EQ((*decoded)[70000], -kMaxMagnitude);
    EXPECT_EQ((*decoded)[70001], kMaxMagnitude);
  }
  const std::vector<float> huge(1000, 1e38f);
  const auto codec = Make(8000);
  const auto coded = CodeFragment(*codec, huge);
  EXPECT_EQ(*DecodeFragment(*codec, *coded, 1000), std::vector<float>(1000, kMaxMagnitude));
}

TEST(BitBudget, RefusesWhatIsNotFinite) {
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                    -std::numeric_limits<float>::infinity()}) {
    std::vector<float> values = Normals(7, 70000, 1.0);
    values[69999] = bad;
    EXPECT_FALSE(CodeFragment(*Make(2000), values).has_value());
    const CodecPlan plan = CodeFragment(*Make(2000), Normals(7, 100, 1.0))->plan;
    std::vector<std::byte> out(1000);
    EXPECT_FALSE(Make(2000)->EncodeChunk(plan, 0, std::span(values).last(100), out).has_value());
  }
}

TEST(BitBudget, RefusesBudgetsAndBuffersOutOfRange) {
  EXPECT_EQ(Make(49), nullptr);
  EXPECT_EQ(Make(8001), nullptr);
  EXPECT_EQ(Make(0), nullptr);
  EXPECT_EQ(Make(2000, {{0, 5}, {6, 1}}), nullptr);
  const auto codec = Make(2000, {{0, 5}});
  std::vector<std::byte> out(codec->EncodedBytes(6));
  const CodecPlan plan{.threshold_bits = 0x3f000000, .step = 0x3f80};
  EXPECT_FALSE(codec->EncodeChunk(plan, 0, std::vector<float>(6), out).has_value());
  EXPECT_FALSE(codec->EncodeChunk(plan, 3, std::vector<float>(3), out).has_value());
  EXPECT_TRUE(codec->EncodeChunk(plan, 0, std::vector<float>(5), out).has_value());
  out.resize(5);
  EXPECT_FALSE(codec->EncodeChunk(plan, 0, std::vector<float>(5), out).has_value());
}

std::vector<TensorSpan> ModelLayout() {
  std::vector<TensorSpan> layout;
  uint64_t at = 0;
  auto add = [&](uint64_t count, TensorClass c, uint64_t row) {
    layout.push_back({at, count, c, row});
    at += count;
  };
  add(8192 * 64, TensorClass::kEmbedding, 64);
  for (int layer = 0; layer < 8; ++layer) {
    add(64, TensorClass::kVector, 0);
    add(65536, TensorClass::kMatrix, 0);
  }
  return layout;
}

TEST(BitBudget, VectorsTravelNearlyExactly) {
  const std::vector<TensorSpan> layout = ModelLayout();
  const size_t n = layout.back().offset + layout.back().count;
  const std::vector<float> values = Normals(8, n, 0.01);
  for (uint32_t bits_milli : {150, 2000}) {
    const auto codec = Make(static_cast<uint32_t>(bits_milli), layout);
    const auto coded = CodeFragment(*codec, values);
    EXPECT_NEAR(BitsPerValue(*coded, n) * 1000 / bits_milli, 1.0, 0.02);
    const auto decoded = DecodeFragment(*codec, *coded, n);
    for (const TensorSpan& span : layout) {
      if (span.tensor_class != TensorClass::kVector) continue;
      for (size_t i = span.offset; i < span.offset + span.count; ++i) {
        ASSERT_EQ((*decoded)[i], FromBf16(ToBf16(values[i])));
      }
    }
  }
}

// Where they would eat up the budget, vectors take 8 bits, or what everything else takes.
TEST(BitBudget, ManyVectorsTakeLess) {
  const size_t n = 100000;
  const std::vector<float> values = Normals(9, n, 0.01);
  for (uint64_t vectors : {100u, 900u, 50000u}) {
    const auto codec = Make(150, {{0, vectors, TensorClass::kVector, 0},
                                  {vectors, n - vectors, TensorClass::kMatrix, 0}});
    const auto coded = CodeFragment(*codec, values);
    EXPECT_NEAR(BitsPerValue(*coded, n) / 0.15, 1.0, 0.1) << vectors;
    EXPECT_TRUE(DecodeFragment(*codec, *coded, n).has_value());
  }
}

TEST(BitBudget, RowsOfZerosAreLeftOut) {
  const std::vector<TensorSpan> layout = ModelLayout();
  const size_t n = layout.back().offset + layout.back().count;
  std::vector<float> values = Normals(10, n, 0.01);
  for (size_t row = 0; row < 8192; ++row) {
    if (row % 8 == 0) continue;
    std::fill_n(values.begin() + static_cast<ptrdiff_t>(row * 64), 64, 0.0f);
  }
  std::vector<TensorSpan> blind = layout;
  blind[0].row = 0;
  for (uint32_t bits_milli : {150, 1000}) {
    const auto codec = Make(static_cast<uint32_t>(bits_milli), layout);
    const auto coded = CodeFragment(*codec, values);
    EXPECT_NEAR(BitsPerValue(*coded, n) * 1000 / bits_milli, 1.0, 0.02);
    const auto decoded = DecodeFragment(*codec, *coded, n);
    const auto without = Make(static_cast<uint32_t>(bits_milli), blind);
    const auto other = DecodeFragment(*without, *CodeFragment(*without, values), n);
    EXPECT_LT(Nmse(values, *decoded), (bits_milli == 150 ? 0.999 : 0.97) * Nmse(values, *other));
  }
}

TEST(BitBudget, ChunksAreDecodableAlone) {
  const std::vector<TensorSpan> layout = ModelLayout();
  const size_t n = layout.back().offset + layout.back().count;
  const std::vector<float> values = Normals(11, n, 0.01);
  const auto codec = Make(2000, layout);
  const auto coded = CodeFragment(*codec, values);
  const auto decoded = DecodeFragment(*codec, *coded, n);
  std::vector<float> chunk(kTestChunk);
  ASSERT_TRUE(codec->DecodeChunk(9 * kTestChunk, coded->chunks[9], chunk));
  EXPECT_TRUE(std::equal(chunk.begin(), chunk.end(), decoded->begin() + 9 * kTestChunk));
  // Another place has another layout.
  EXPECT_FALSE(codec->DecodeChunk(0, coded->chunks[9], chunk));
}

// The wire format, so that it cannot change unnoticed: bytes of a chunk in each mode, and a sum
// over the bytes of larger ones.
TEST(BitBudget, PublishedBytes) {
  auto hex = [](const std::vector<std::byte>& bytes) {
    std::string text;
    for (std::byte b : bytes) {
      text += "0123456789abcdef"[std::to_integer<int>(b) >> 4];
      text += "0123456789abcdef"[std::to_integer<int>(b) & 15];
    }
    return text;
  };
  std::vector<float> values(256, 0.0f);
  values[3] = 1.0f;
  values[200] = -2.0f;
  EXPECT_EQ(hex(CodeFragment(*Make(1000), values)->chunks[0]),
            "c63601084992242b2b2b0ac3280100a4af0400c0f79500");
  uint64_t sum = 0;
  const std::vector<float> many = HeavyTailed(12, 70000, 0.01);
  for (uint32_t bits_milli : kBudgets) {
    const auto coded = CodeFragment(*Make(bits_milli), many);
    for (const auto& chunk : coded->chunks) {
      for (std::byte b : chunk) sum = Mix(sum + std::to_integer<uint64_t>(b));
    }
  }
  EXPECT_EQ(sum, 9936412426125266527u);
}

}  // namespace
}  // namespace longhaul
