// The twins of the device codecs give the bytes and values of the codecs on the processor.
#include "compression/cuda/fragment_coder.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "common/rng.h"
#include "compression/cuda/grid.h"
#include "compression/test_values.h"

namespace longhaul::cuda {
namespace {

using Coder = FragmentCoder<HostEngine>;

constexpr uint32_t kBudgets[] = {50, 150, 500, 1000, 2000, 4000, 8000};
constexpr CodecId kBlockCodecs[] = {CodecId::kInt8, CodecId::kInt4, CodecId::kInt2};

Coder MakeCoder(HostEngine& engine, CodecSpec codec, uint64_t elements,
                std::vector<TensorSpan> tensors = {}, uint32_t chunk = kTestChunk) {
  Coder::Options options{.codec = codec, .tensors = std::move(tensors), .elements = elements};
  options.chunk_elements = chunk;
  options.batch_chunks = 2;
  return Coder(engine, std::move(options));
}

std::vector<uint8_t> Flat(const CodedFragment& coded) {
  std::vector<uint8_t> bytes;
  for (const auto& chunk : coded.chunks) {
    for (std::byte b : chunk) bytes.push_back(static_cast<uint8_t>(b));
  }
  return bytes;
}

// Codes and decodes by both, and compares all bytes and values.
void ExpectEqual(CodecSpec spec, const std::vector<float>& values,
                 const std::vector<TensorSpan>& tensors = {}, uint32_t chunk = kTestChunk) {
  const auto codec = MakeCodec(spec, tensors);
  const auto expected = CodeFragment(*codec, values, chunk);
  ASSERT_TRUE(expected.has_value());
  HostEngine engine;
  Coder coder = MakeCoder(engine, spec, values.size(), tensors, chunk);
  ASSERT_TRUE(coder.ok());
  CodedBytes coded;
  ASSERT_EQ(coder.Encode({.local = values.data()}, coded), CoderResult::kOk);
  ASSERT_EQ(coded.sizes.size(), expected->chunks.size());
  for (size_t c = 0; c < coded.sizes.size(); ++c) {
    ASSERT_EQ(coded.sizes[c], expected->chunks[c].size()) << "chunk " << c;
  }
  ASSERT_EQ(coded.bytes, Flat(*expected));

  std::vector<float> decoded(values.size(), 100.0f);
  ASSERT_EQ(coder.Decode(coded.bytes, coded.sizes, {.values = decoded.data()}), CoderResult::kOk);
  EXPECT_EQ(decoded, *DecodeFragment(*codec, *expected, values.size()));
}

// Zeros, denormals, ties, tiny and huge values.
std::vector<float> Awkward(size_t n) {
  const float special[] = {0.0f,   -0.0f,     1e-44f,  -1e-39f,
                           1e-30f, 0x1p-100f, 7.9f,    -8.0f,
                           1e30f,  0.001f,    -0.001f, std::numeric_limits<float>::max()};
  Rng rng(n);
  std::vector<float> values(n);
  for (float& v : values) v = special[rng.Below(std::size(special))];
  return values;
}

const std::vector<TensorSpan> kTensors = {{0, 70000, TensorClass::kEmbedding, 100},
                                          {70000, 500, TensorClass::kVector, 0},
                                          {70500, 59500, TensorClass::kMatrix, 0},
                                          {130000, 70, TensorClass::kVector, 0}};
constexpr size_t kTensorValues = 130070;

TEST(CudaTwin, BlocksAtEverySize) {
  for (CodecId id : kBlockCodecs) {
    for (size_t n : {1, 2, 3, 63, 64, 65, 1000, 1023, 1024, 1025, 65535, 65537, 200001}) {
      ExpectEqual(id, HeavyTailed(n, n, 0.3));
    }
    ExpectEqual(id, Awkward(70000));
    ExpectEqual(id, std::vector<float>(5000, 0.0f));
  }
}

TEST(CudaTwin, BitBudgetAtEveryBudgetAndSize) {
  for (uint32_t bits : kBudgets) {
    for (size_t n : {1, 2, 63, 1000, 16383, 16384, 65536, 66000}) {
      ExpectEqual({CodecId::kBitBudget, bits}, Normals(n, n, 1e-3));
    }
    ExpectEqual({CodecId::kBitBudget, bits}, HeavyTailed(9, 200000, 0.01));
  }
}

TEST(CudaTwin, BitBudgetOfSpecialValues) {
  for (uint32_t bits : kBudgets) {
    ExpectEqual({CodecId::kBitBudget, bits}, Awkward(70000));
    ExpectEqual({CodecId::kBitBudget, bits}, std::vector<float>(70000, 0.0f));
    ExpectEqual({CodecId::kBitBudget, bits}, std::vector<float>(70000, 0.25f));  // all ties
    std::vector<float> signs(140000);
    Rng rng(7);
    for (float& v : signs) v = rng.Below(2) == 0 ? 1e-4f : -1e-4f;
    signs[100] = 3;
    ExpectEqual({CodecId::kBitBudget, bits}, signs);
  }
}

TEST(CudaTwin, BitBudgetOfTensorClasses) {
  std::vector<float> values = HeavyTailed(3, kTensorValues, 0.01);
  std::fill(values.begin() + 1000, values.begin() + 40000, 0.0f);  // rows to leave out
  for (uint32_t bits : kBudgets) {
    ExpectEqual({CodecId::kBitBudget, bits}, values, kTensors);
    ExpectEqual({CodecId::kBitBudget, bits}, values, kTensors, 4096);
  }
  // So many vectors that they travel as int8, or quantised.
  const std::vector<TensorSpan> vectors = {{0, 30000, TensorClass::kMatrix, 0},
                                           {30000, 20000, TensorClass::kVector, 0}};
  for (uint32_t bits : kBudgets) {
    ExpectEqual({CodecId::kBitBudget, bits}, Normals(4, 50000, 0.1), vectors, 16384);
  }
}

TEST(CudaTwin, RefusesWhatIsNotFinite) {
  HostEngine engine;
  CodedBytes coded;
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                    -std::numeric_limits<float>::infinity()}) {
    for (size_t at : {size_t{0}, size_t{70200}, kTensorValues - 1}) {
      std::vector<float> values = Normals(1, kTensorValues, 1);
      values[at] = bad;
      for (CodecSpec spec : {CodecSpec(CodecId::kInt8), CodecSpec(CodecId::kInt4),
                             CodecSpec(CodecId::kInt2), CodecSpec(CodecId::kBitBudget, 2000)}) {
        Coder coder = MakeCoder(engine, spec, values.size(), kTensors);
        EXPECT_EQ(coder.Encode({.local = values.data()}, coded), CoderResult::kNotFinite);
      }
    }
  }
}

TEST(CudaTwin, PseudoGradientWithResidualIsWhatErrorFeedbackComputes) {
  const size_t n = 100000;
  const std::vector<float> base = Normals(1, n, 1), local = Normals(2, n, 1);
  const float decay = 0.9f;
  for (CodecSpec spec : {CodecSpec(CodecId::kInt4), CodecSpec(CodecId::kBitBudget, 500)}) {
    std::vector<float> residual = Normals(3, n, 0.1), e(n), decoded(n);
    for (size_t i = 0; i < n; ++i) {
      const float delta = base[i] - local[i], owed = decay * residual[i];
      e[i] = owed + delta;
    }
    const auto codec = MakeCodec(spec);
    const auto expected = CodeFragment(*codec, e);
    HostEngine engine;
    Coder coder = MakeCoder(engine, spec, n);
    const Input input{local.data(), base.data(), residual.data(), decay};
    CodedBytes coded;
    ASSERT_EQ(coder.Encode(input, coded), CoderResult::kOk);
    ASSERT_EQ(coded.bytes, Flat(*expected));
    // What is left after inclusion.
    const auto back = *DecodeFragment(*codec, *expected, n);
    Output after{.kind = Output::Kind::kResidual, .input = input, .residual = residual.data()};
    ASSERT_EQ(coder.Decode(coded.bytes, coded.sizes, after), CoderResult::kOk);
    for (size_t i = 0; i < n; ++i) ASSERT_EQ(residual[i], e[i] - back[i]) << i;
  }
}

// A few counts for each question of the search, each section and each chunk; never a value.
TEST(CudaTwin, LittleMoreThanTheCodeCrosses) {
  const size_t n = 2'000'000;
  const std::vector<float> values = Normals(6, n, 0.01);
  for (CodecSpec spec : {CodecSpec(CodecId::kInt4), CodecSpec(CodecId::kBitBudget, 150),
                         CodecSpec(CodecId::kBitBudget, 2000)}) {
    HostEngine engine;
    Coder coder = MakeCoder(engine, spec, n, {}, kMostChunkElements);
    const uint64_t before = engine.crossed();
    CodedBytes coded;
    ASSERT_EQ(coder.Encode({.local = values.data()}, coded), CoderResult::kOk);
    EXPECT_GE(engine.crossed() - before, coded.bytes.size());
    EXPECT_LE(engine.crossed() - before, coded.bytes.size() + 64 * 1024);
  }
}

TEST(CudaTwin, AccumulatesOnTheGrid) {
  const size_t n = 70000;
  const std::vector<float> values = HeavyTailed(5, n, 0.5);
  for (CodecSpec spec : {CodecSpec(CodecId::kInt8), CodecSpec(CodecId::kBitBudget, 4000)}) {
    HostEngine engine;
    Coder coder = MakeCoder(engine, spec, n);
    CodedBytes coded;
    ASSERT_EQ(coder.Encode({.local = values.data()}, coded), CoderResult::kOk);
    std::vector<float> decoded(n);
    ASSERT_EQ(coder.Decode(coded.bytes, coded.sizes, {.values = decoded.data()}), CoderResult::kOk);
    std::vector<uint64_t> sum(n, 17);
    Output output{.kind = Output::Kind::kSum, .sum = sum.data(), .weight = 5};
    ASSERT_EQ(coder.Decode(coded.bytes, coded.sizes, output), CoderResult::kOk);
    for (size_t i = 0; i < n; ++i) {
      const auto grid = static_cast<int64_t>(std::nearbyint(std::ldexp(double{decoded[i]}, 40)));
      ASSERT_EQ(sum[i], 17 + 5 * static_cast<uint64_t>(grid)) << i;
    }
  }
}

// Each damaged byte is judged as the processor judges it.
TEST(CudaTwin, DamageIsFoundWhereTheProcessorFindsIt) {
  std::vector<float> values = HeavyTailed(3, 6000, 0.01);
  std::fill(values.begin() + 100, values.begin() + 3000, 0.0f);
  const std::vector<TensorSpan> tensors = {{0, 3500, TensorClass::kEmbedding, 50},
                                           {3500, 100, TensorClass::kVector, 0},
                                           {3600, 2400, TensorClass::kMatrix, 0}};
  Rng rng(11);
  for (CodecSpec spec : {CodecSpec(CodecId::kInt2), CodecSpec(CodecId::kBitBudget, 150),
                         CodecSpec(CodecId::kBitBudget, 6000)}) {
    const auto codec = MakeCodec(spec, tensors);
    const CodedFragment good = *CodeFragment(*codec, values);
    HostEngine engine;
    Coder coder = MakeCoder(engine, spec, values.size(), tensors);
    for (int i = 0; i < 600; ++i) {
      CodedFragment bad = good;
      std::vector<std::byte>& chunk = bad.chunks[0];
      if (i % 10 == 0 && !codec->fixed_size()) chunk.resize(rng.Below(chunk.size()));
      if (!chunk.empty()) chunk[rng.Below(chunk.size())] ^= std::byte{uint8_t(1 << rng.Below(8))};
      const auto expected = DecodeFragment(*codec, bad, values.size());
      const std::vector<uint8_t> bytes = Flat(bad);
      const uint32_t sizes[] = {static_cast<uint32_t>(bytes.size())};
      std::vector<float> decoded(values.size(), 100.0f);
      const CoderResult result = coder.Decode(bytes, sizes, {.values = decoded.data()});
      ASSERT_EQ(result == CoderResult::kOk, expected.has_value()) << i;
      if (expected) {
        ASSERT_EQ(decoded, *expected) << i;
      } else {
        ASSERT_EQ(decoded, std::vector<float>(values.size(), 100.0f));
      }
    }
  }
}

}  // namespace
}  // namespace longhaul::cuda
