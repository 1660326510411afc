// Damaged and hostile packets: every decoder refuses them whole, or gives values below the limit.
#include <gtest/gtest.h>

#include <cmath>

#include "common/rng.h"
#include "compression/bit_budget_codec.h"
#include "compression/test_values.h"
#include "compression/top_k_codec.h"

namespace longhaul {
namespace {

constexpr float kMark = 123.0f;
constexpr int kPackets = 10000;

void Damage(Rng& rng, std::vector<std::byte>& bytes) {
  if (rng.Chance(1, 8)) bytes.resize(rng.Below(bytes.size() + 20));
  if (rng.Chance(1, 16)) {
    for (std::byte& b : bytes) b = std::byte(rng.Below(256));
  }
  for (uint64_t flips = 1 + rng.Below(8); flips > 0 && !bytes.empty(); --flips) {
    // The beginning holds the tables.
    const uint64_t most = rng.Chance(1, 2) ? bytes.size() : std::min<size_t>(bytes.size(), 24);
    bytes[rng.Below(most)] ^= std::byte(1u << rng.Below(8));
  }
}

// How many of the damaged packets were accepted all the same.
int Accepted(uint64_t seed, const std::function<std::unique_ptr<const Codec>(Rng&, size_t)>& make) {
  Rng rng(seed);
  int accepted = 0;
  for (int done = 0; done < kPackets;) {
    const size_t n = 1 + rng.Below(rng.Chance(1, 50) ? 20000 : 300);
    const auto codec = make(rng, n);
    const auto coded =
        CodeFragment(*codec, rng.Chance(1, 2) ? HeavyTailed(seed, n, 0.1) : Normals(seed, n, 3.0));
    EXPECT_TRUE(coded.has_value());
    for (int copy = 0; copy < 20; ++copy, ++done) {
      std::vector<std::byte> bytes = coded->chunks[0];
      Damage(rng, bytes);
      std::vector<float> out(n, kMark);
      const bool ok = codec->DecodeChunk(0, bytes, out);
      accepted += ok ? 1 : 0;
      for (float v : out) {
        if (!(ok ? std::fabs(v) <= kMaxMagnitude : v == kMark)) ADD_FAILURE() << v;
      }
    }
  }
  return accepted;
}

TEST(Damage, CodecsOfFixedSize) {
  for (CodecId id :
       {CodecId::kFloat32, CodecId::kBf16, CodecId::kInt8, CodecId::kInt4, CodecId::kInt2}) {
    Accepted(static_cast<uint64_t>(id), [&](Rng&, size_t) { return MakeCodec({id, 0}); });
  }
}

TEST(Damage, TopK) {
  Accepted(6, [](Rng& rng, size_t) {
    return MakeTopKCodec(50 + static_cast<uint32_t>(rng.Below(3000)), BestCpuLevel());
  });
}

TEST(Damage, BitBudget) {
  for (CpuLevel cpu : {CpuLevel::kPortable, CpuLevel::kAvx2, CpuLevel::kAvx512}) {
    if (cpu > BestCpuLevel()) continue;
    const int accepted = Accepted(7, [&](Rng& rng, size_t n) {
      std::vector<TensorSpan> spans;
      if (n > 30 && rng.Chance(1, 2)) {
        spans = {{0, 10, TensorClass::kVector, 0},
                 {10, n / 2, TensorClass::kEmbedding, 1 + rng.Below(20)},
                 {10 + n / 2, n - n / 2 - 10, TensorClass::kMatrix, 0}};
      }
      constexpr uint32_t kBudgets[] = {50, 300, 1000, 2000, 4000, 8000};
      return MakeBitBudgetCodec(kBudgets[rng.Below(6)], Layout(spans), cpu);
    });
    // Most damage shows; signs and positions can be others and nobody can tell.
    EXPECT_LT(accepted, kPackets * 3 / 4);
  }
}

}  // namespace
}  // namespace longhaul
