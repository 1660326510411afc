#include "compression/top_k_codec.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "compression/bf16.h"
#include "compression/test_values.h"

namespace longhaul {
namespace {

// The definition: sort, keep k, two means. Needs the sums to be exact, as they are here.
std::vector<float> Naive(const std::vector<float>& values, uint32_t k) {
  std::vector<size_t> kept;
  for (size_t from = 0; from < values.size(); from += kTopKBlock) {
    std::vector<size_t> order;
    for (size_t i = from; i < std::min(values.size(), from + kTopKBlock); ++i) order.push_back(i);
    const size_t most = (k * order.size() + kTopKBlock - 1) / kTopKBlock;
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      return std::fabs(values[a]) > std::fabs(values[b]);
    });
    for (size_t i = 0; i < std::min(most, order.size()); ++i) {
      if (values[order[i]] != 0) kept.push_back(order[i]);
    }
  }
  double sum = 0, low_sum = 0, high_sum = 0, low_n = 0, high_n = 0;
  for (size_t i : kept) sum += std::fabs(values[i]);
  const auto mean = static_cast<float>(sum / static_cast<double>(kept.size()));
  for (size_t i : kept) {
    const double v = std::fabs(values[i]);
    (v < mean ? low_sum : high_sum) += v;
    (v < mean ? low_n : high_n) += 1;
  }
  std::vector<float> out(values.size(), 0.0f);
  for (size_t i : kept) {
    const double v = std::fabs(values[i]) < mean ? low_sum / low_n : high_sum / high_n;
    out[i] = std::copysign(FromBf16(ToBf16(static_cast<float>(v))), values[i]);
  }
  return out;
}

void ExpectNear(const std::vector<float>& found, const std::vector<float>& expected) {
  for (size_t i = 0; i < expected.size(); ++i) {
    ASSERT_EQ(found[i] == 0, expected[i] == 0) << i;
    ASSERT_NEAR(found[i], expected[i], 0.005f * std::fabs(expected[i])) << i;  // 1 ulp of bf16
  }
}

TEST(TopK, KeepsWhatTheNaiveTwinKeeps) {
  for (size_t n : {1, 7, 4095, 4096, 4097, 10000, 65536}) {
    for (uint32_t bits_milli : {50, 150, 500, 3000}) {
      const std::vector<float> values = HeavyTailed(n, n, 0.01);
      const uint32_t k = TopKFor(bits_milli);
      const std::vector<float> expected = Naive(values, k);
      for (CpuLevel cpu : {CpuLevel::kPortable, CpuLevel::kAvx2, CpuLevel::kAvx512}) {
        if (cpu > BestCpuLevel()) continue;
        const auto codec = MakeTopKCodec(bits_milli, cpu);
        const auto coded = CodeFragment(*codec, values);
        ASSERT_TRUE(coded.has_value());
        EXPECT_EQ(coded->chunks,
                  CodeFragment(*MakeTopKCodec(bits_milli, CpuLevel::kPortable), values)->chunks);
        ExpectNear(*DecodeFragment(*codec, *coded, n), expected);
      }
    }
  }
}

TEST(TopK, TiesGoToTheLowestIndex) {
  std::vector<float> values(4096, 0.25f);
  values[4000] = 0.5f;
  const auto codec = MakeCodec({CodecId::kTopK, 150});
  const uint32_t k = TopKFor(150);
  const auto decoded = DecodeFragment(*codec, *CodeFragment(*codec, values), values.size());
  for (uint32_t i = 0; i < 4096; ++i) {
    ASSERT_EQ((*decoded)[i] != 0, i < k - 1 || i == 4000) << i;
  }
}

TEST(TopK, FitsItsBudget) {
  EXPECT_EQ(TopKFor(150), 64);
  EXPECT_EQ(TopKFor(50), 18);
  const size_t n = 1 << 20;
  const std::vector<float> values = Normals(3, n, 1.0);
  for (uint32_t bits_milli : {50, 150, 500, 1000}) {
    const auto coded = CodeFragment(*MakeCodec({CodecId::kTopK, bits_milli}), values);
    const double bits = static_cast<double>(coded->bytes()) * 8 / static_cast<double>(n);
    EXPECT_NEAR(bits * 1000 / bits_milli, 1.0, 0.03) << bits_milli;
  }
}

// log2 of 4096 over k, the bits that k positions must take.
double Bound(double k) {
  return (std::lgamma(4097) - std::lgamma(k + 1) - std::lgamma(4097 - k)) / std::log(2.0);
}

TEST(TopK, PositionsTakeLittleMoreThanTheBound) {
  const size_t n = 1 << 20;
  const std::vector<float> values = Normals(4, n, 1.0);
  for (uint32_t bits_milli : {100, 150, 300, 500}) {
    const double k = TopKFor(bits_milli), blocks = static_cast<double>(n) / kTopKBlock;
    const auto coded = CodeFragment(*MakeCodec({CodecId::kTopK, bits_milli}), values);
    const double positions = static_cast<double>(coded->bytes()) * 8 - blocks * 2 * k;
    EXPECT_LT(positions, 1.03 * blocks * Bound(k)) << bits_milli;
  }
}

TEST(TopK, ZerosOutliersAndBadValues) {
  const auto codec = MakeCodec({CodecId::kTopK, 150});
  const std::vector<float> zeros(10000, 0.0f);
  const auto coded = CodeFragment(*codec, zeros);
  EXPECT_LE(coded->bytes(), 12);
  EXPECT_EQ(*DecodeFragment(*codec, *coded, zeros.size()), zeros);
  std::vector<float> values = Normals(5, 10000, 1e-38);
  values[77] = std::numeric_limits<float>::max();
  const auto decoded = DecodeFragment(*codec, *CodeFragment(*codec, values), values.size());
  EXPECT_EQ((*decoded)[77], kMaxMagnitude);
  for (float bad :
       {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    values[78] = bad;
    EXPECT_FALSE(CodeFragment(*codec, values).has_value());
  }
  EXPECT_EQ(MakeCodec({CodecId::kTopK, 49}), nullptr);
}

}  // namespace
}  // namespace longhaul
