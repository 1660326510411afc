// The parts of the codecs with variable size, each against a naive twin.
#include <gtest/gtest.h>

#include <cmath>

#include "common/rng.h"
#include "compression/bf16.h"
#include "compression/golomb.h"
#include "compression/histogram.h"
#include "compression/integer_log.h"
#include "compression/layout.h"
#include "compression/quantiser.h"
#include "compression/rans.h"
#include "compression/test_values.h"

namespace longhaul {
namespace {

constexpr CpuLevel kLevels[] = {CpuLevel::kPortable, CpuLevel::kAvx2, CpuLevel::kAvx512};

// Those that this machine can run.
std::vector<CpuLevel> Runnable() {
  std::vector<CpuLevel> levels;
  for (CpuLevel level : kLevels) {
    if (level <= BestCpuLevel()) levels.push_back(level);
  }
  return levels;
}

TEST(IntegerLog, AgreesWithLibm) {
  for (uint64_t n = 1; n < 100000; ++n) {
    ASSERT_NEAR(static_cast<double>(Log2(n)), std::log2(static_cast<double>(n)) * 65536, 1.6) << n;
  }
  Rng rng(1);
  for (int i = 0; i < 10000; ++i) {
    const uint64_t n = 1 + rng.Below(uint64_t{1} << (1 + rng.Below(45)));
    ASSERT_NEAR(static_cast<double>(Log2(n)), std::log2(static_cast<double>(n)) * 65536, 1.6) << n;
  }
  EXPECT_EQ(Log2(uint64_t{1} << 40), 40 << 16);
  EXPECT_EQ(NLogN(0), 0);
}

TEST(BitStream, GivesBackWhatWasPut) {
  Rng rng(2);
  BitWriter writer;
  std::vector<std::pair<uint64_t, int>> put;
  for (int i = 0; i < 5000; ++i) {
    const int count = static_cast<int>(rng.Below(kMaxBitsAtOnce + 1));
    put.emplace_back(rng.Next() & ((uint64_t{1} << count) - 1), count);
    writer.Put(put.back().first, count);
  }
  const std::span<const uint8_t> bytes = writer.Finish();
  BitReader reader(bytes);
  for (auto [bits, count] : put) ASSERT_EQ(reader.Get(count), bits);
  size_t used = 0;
  EXPECT_TRUE(reader.Finish(&used));
  EXPECT_EQ(used, bytes.size());
  reader.Get(9);
  EXPECT_TRUE(reader.overrun());
  EXPECT_FALSE(reader.Finish(&used));
}

TEST(BitStream, PaddingMustBeZero) {
  const uint8_t byte[] = {0x13};
  BitReader reader(byte);
  reader.Get(4);
  size_t used = 0;
  EXPECT_FALSE(reader.Finish(&used));
  reader.Get(1);
  EXPECT_TRUE(reader.Finish(&used));
}

std::vector<uint32_t> RandomPositions(Rng& rng, uint32_t n, uint64_t numerator,
                                      uint64_t denominator) {
  std::vector<uint32_t> positions;
  for (uint32_t i = 0; i < n; ++i) {
    if (rng.Chance(numerator, denominator)) positions.push_back(i);
  }
  return positions;
}

TEST(Golomb, PositionsComeBackAndCostWhatIsSaid) {
  Rng rng(3);
  for (uint32_t n : {1u, 2u, 63u, 1000u, 65536u}) {
    for (uint64_t per_1000 : {0, 1, 3, 16, 60, 120, 250, 400, 500, 700, 950, 1000}) {
      const std::vector<uint32_t> positions = RandomPositions(rng, n, per_1000, 1000);
      BitWriter writer;
      PutPositions(positions, n, writer);
      const std::span<const uint8_t> bytes = writer.Finish();
      BitReader reader(bytes);
      std::vector<uint32_t> found;
      ASSERT_TRUE(GetPositions(static_cast<uint32_t>(positions.size()), n, reader, found));
      ASSERT_EQ(found, positions);
      size_t used = 0;
      ASSERT_TRUE(reader.Finish(&used));
      ASSERT_EQ(used, bytes.size());
      if (n < 1000 || per_1000 > 450) continue;
      const double cost = static_cast<double>(PositionsCost(positions.size(), n)) / 65536;
      EXPECT_NEAR(static_cast<double>(bytes.size()) * 8, cost, 20 + 0.02 * cost)
          << n << " " << per_1000;
    }
  }
}

TEST(Golomb, ClusteredAndExtremePositions) {
  for (const std::vector<uint32_t>& positions :
       {std::vector<uint32_t>{0}, {65535}, {0, 1, 2, 3, 65535}, {65530, 65531, 65535}}) {
    BitWriter writer;
    PutPositions(positions, 65536, writer);
    BitReader reader(writer.Finish());
    std::vector<uint32_t> found;
    ASSERT_TRUE(GetPositions(static_cast<uint32_t>(positions.size()), 65536, reader, found));
    EXPECT_EQ(found, positions);
  }
  std::vector<uint32_t> half(32768);
  for (uint32_t i = 0; i < half.size(); ++i) half[i] = i + 32768;
  BitWriter writer;
  PutPositions(half, 65536, writer);
  BitReader reader(writer.Finish());
  std::vector<uint32_t> found;
  ASSERT_TRUE(GetPositions(32768, 65536, reader, found));
  EXPECT_EQ(found, half);
}

TEST(Golomb, RefusesMoreThanThereCanBe) {
  std::vector<uint32_t> found;
  const std::vector<uint8_t> ones(100, 0xff);
  BitReader reader(ones);
  EXPECT_FALSE(GetPositions(3, 1000, reader, found));
  BitReader again(ones);
  EXPECT_FALSE(GetPositions(1001, 1000, again, found));
  BitReader empty(std::span<const uint8_t>{});
  EXPECT_FALSE(GetPositions(500, 1000, empty, found));
}

TEST(Golomb, Numbers) {
  BitWriter writer;
  const uint32_t numbers[] = {0, 1, 2, 3, 100, 65535, 65536, UINT32_MAX - 1};
  for (uint32_t n : numbers) PutNumber(n, writer);
  BitReader reader(writer.Finish());
  for (uint32_t n : numbers) EXPECT_EQ(GetNumber(reader), n);
  BitReader zeros(std::span<const uint8_t>{});
  GetNumber(zeros);
  EXPECT_TRUE(zeros.overrun());
}

TEST(Quantiser, TokensCoverAllLevels) {
  uint32_t next = 0;
  for (uint32_t t = 0; t < kTokens; ++t) {
    EXPECT_EQ(FirstLevelOf(t), next);
    EXPECT_EQ(TokenOf(next), t);
    next += 1u << RawBitsOf(t);
    EXPECT_EQ(TokenOf(next - 1), t);
  }
  EXPECT_EQ(next, kMaxLevel + 1);
}

TEST(Quantiser, EqualsTheNaiveTwinAtEveryLevel) {
  for (double scale : {1e-6, 0.1, 1.0, 300.0, 1e7}) {
    for (size_t n : {0, 1, 15, 64, 1003}) {
      const std::vector<float> values = HeavyTailed(n, n, scale);
      const QuantiserSettings settings{std::bit_cast<uint32_t>(0.21f), 0.3f};
      std::vector<uint8_t> expected(n);
      CentroidSums sums{};
      for (size_t i = 0; i < n; ++i) {
        const float magnitude = std::fabs(values[i]);
        if (magnitude < 0.21f) continue;
        const float scaled = std::min(magnitude * (1.0f / 0.3f), 8.0f * (1.0f / 0.3f));
        const auto level = static_cast<uint32_t>(std::max(1.0f, std::floor(scaled + 1.0f / 3)));
        expected[i] = static_cast<uint8_t>(2 * TokenOf(level) - (values[i] < 0 ? 1 : 0));
        sums[std::min(level, kCentroids) - 1] +=
            static_cast<int64_t>(scaled * 256) - 256 * int64_t{level};
        EXPECT_EQ(LevelOf(values[i], 0.3f), level);
      }
      for (CpuLevel cpu : Runnable()) {
        std::vector<uint8_t> symbols(n);
        CentroidSums found{};
        Quantise(cpu, values, settings, symbols.data(), found);
        EXPECT_EQ(symbols, expected);
        EXPECT_EQ(found, sums);
      }
    }
  }
}

TEST(Histogram, CountsLikeSorting) {
  const std::vector<float> values = HeavyTailed(5, 40000, 0.01);
  MagnitudeCounter counter;
  counter.Add(std::span(values).first(12345));
  counter.Add(std::span(values).subspan(12345));
  const Histogram histogram = counter.Take();
  EXPECT_EQ(histogram.values(), values.size());
  for (float at : {1e-9f, 0.001f, 0.01f, 0.0123f, 0.05f, 1.0f, 100.0f}) {
    const uint32_t bits = std::bit_cast<uint32_t>(at), edge = bits & ~(kBinWidth - 1);
    const auto reaching = [&](uint32_t from) {
      return static_cast<uint64_t>(std::count_if(values.begin(), values.end(), [&](float v) {
        return (std::bit_cast<uint32_t>(v) & kFloatMagnitudeMask) >= from;
      }));
    };
    EXPECT_EQ(histogram.Reaching(edge), reaching(edge));
    EXPECT_EQ(histogram.InBin(bits >> kBinShift), reaching(edge) - reaching(edge + kBinWidth));
    EXPECT_LE(histogram.Reaching(bits), reaching(edge));
    EXPECT_GE(histogram.Reaching(bits), reaching(edge + kBinWidth));
  }
  EXPECT_EQ(counter.Take().values(), 0);
  EXPECT_EQ(counter.Take().end_bits(), 0);
}

TEST(Layout, CutsSpansAndRows) {
  const std::vector<TensorSpan> spans = {{0, 100, TensorClass::kEmbedding, 30},
                                         {100, 10, TensorClass::kVector, 0},
                                         {110, 50, TensorClass::kMatrix, 0},
                                         {160, 40, TensorClass::kEmbedding, 0}};
  ASSERT_TRUE(Layout::Valid(spans));
  const Layout layout(spans);
  const auto cut = *layout.Cut(50, 120);
  EXPECT_EQ(cut[0].count, 50);
  EXPECT_EQ(cut[0].pieces, (std::vector<Piece>{{60, 50}}));
  EXPECT_TRUE(cut[0].rows.empty());
  EXPECT_EQ(cut[2].pieces, (std::vector<Piece>{{50, 10}}));
  EXPECT_EQ(cut[1].count, 60);
  EXPECT_EQ(cut[1].pieces, (std::vector<Piece>{{0, 50}, {110, 10}}));
  EXPECT_EQ(cut[1].rows, (std::vector<Piece>{{0, 10}, {10, 30}, {40, 10}, {110, 10}}));
  EXPECT_FALSE(layout.Cut(150, 51).has_value());
  EXPECT_EQ((*layout.Cut(3, 0))[0].count, 0);
  EXPECT_EQ((*Layout({}).Cut(1000, 7))[0].pieces, (std::vector<Piece>{{0, 7}}));
}

TEST(Layout, RefusesGapsOverlapsAndEmptySpans) {
  EXPECT_TRUE(Layout::Valid({}));
  EXPECT_FALSE(Layout::Valid({{1, 5}}));
  EXPECT_FALSE(Layout::Valid({{0, 5}, {6, 5}}));
  EXPECT_FALSE(Layout::Valid({{0, 5}, {4, 5}}));
  EXPECT_FALSE(Layout::Valid({{0, 5}, {5, 0}}));
  EXPECT_FALSE(Layout::Valid({{0, 5}, {5, UINT64_MAX}}));
  EXPECT_FALSE(Layout::Valid({{0, 5, static_cast<TensorClass>(3)}}));
}

TEST(Rans, TablesAddUp) {
  Rng rng(4);
  for (int trial = 0; trial < 2000; ++trial) {
    TokenWeights weights{};
    for (uint64_t t = 1 + rng.Below(kTokens); t-- > 0;) {
      weights[t] = static_cast<uint8_t>(rng.Below(rng.Chance(1, 2) ? kMostWeight + 1u : 3u));
    }
    if (weights == TokenWeights{}) weights[3] = 1;
    const FrequencyTable table = TableOf(weights);
    uint32_t sum = 0;
    for (uint32_t s = 0; s < kSymbols; ++s) {
      ASSERT_EQ(table.start[s], sum);
      ASSERT_EQ(table.frequency[s] > 0, weights[TokenOfSymbol(s)] > 0);
      sum += table.frequency[s];
    }
    ASSERT_EQ(sum, kProbabilityTotal);
  }
}

// Symbols up to `most`, the small ones more often.
std::vector<uint8_t> RandomSymbols(Rng& rng, size_t n, uint32_t most) {
  std::vector<uint8_t> symbols(n);
  for (uint8_t& s : symbols) {
    s = static_cast<uint8_t>(rng.Below(1 + rng.Below(1 + rng.Below(most + 1))));
  }
  return symbols;
}

TEST(Rans, EveryLevelWritesTheSameBytesAndReadsThem) {
  Rng rng(5);
  for (size_t n : {1, 3, 4, 1000, 16383, 16384, 16385, 16415, 40000}) {
    for (uint32_t most : {0u, 1u, 2u, 14u, 31u, 32u, kSymbols - 1}) {
      const std::vector<uint8_t> symbols = RandomSymbols(rng, n, most);
      const auto counts = CountSymbols(symbols);
      const FrequencyTable table = TableOf(WeightsOf(counts));
      std::vector<uint8_t> bytes;
      EncodeSymbols(CpuLevel::kPortable, symbols, counts, table, bytes);
      const size_t length = bytes.size();
      bytes.resize(length + 5, 0xaa);  // what follows is not ours
      for (CpuLevel cpu : Runnable()) {
        std::vector<uint8_t> own;
        EncodeSymbols(cpu, symbols, counts, table, own);
        ASSERT_TRUE(std::equal(own.begin(), own.end(), bytes.begin(), bytes.end() - 5));
        for (CpuLevel reader : Runnable()) {
          std::vector<uint8_t> found(n);
          size_t used = 0;
          ASSERT_TRUE(DecodeSymbols(reader, bytes, table, found, &used)) << n << " " << most;
          ASSERT_EQ(found, symbols);
          ASSERT_EQ(used, length);
          ASSERT_FALSE(
              DecodeSymbols(reader, std::span(bytes).first(length - 1), table, found, &used));
        }
      }
    }
  }
}

TEST(Rans, TakesLittleMoreThanTheEntropy) {
  Rng rng(6);
  std::vector<uint8_t> symbols = RandomSymbols(rng, 65536, 15);  // tokens
  for (uint8_t& s : symbols) s = static_cast<uint8_t>(s == 0 ? 0 : 2 * s - rng.Below(2));
  const auto counts = CountSymbols(symbols);
  double entropy = 0;
  for (uint32_t c : counts) {
    if (c != 0) entropy -= c * std::log2(c / 65536.0);
  }
  std::vector<uint8_t> bytes;
  EncodeSymbols(CpuLevel::kPortable, symbols, counts, TableOf(WeightsOf(counts)), bytes);
  EXPECT_LT(static_cast<double>(bytes.size()) * 8, entropy * 1.002 + 600);
}

}  // namespace
}  // namespace longhaul
