#include "compression/top_k_codec.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "compression/bf16.h"
#include "compression/golomb.h"
#include "compression/integer_log.h"
#include "compression/quantiser.h"

namespace longhaul {
namespace {

constexpr uint32_t kFirstStride = 1u << 18;  // 1/32 octave, in bit patterns of float32
constexpr int kCountBits = 13;               // of a number up to kTopKBlock
constexpr uint32_t kMaxMagnitudeBits = std::bit_cast<uint32_t>(kMaxMagnitude);

double PowerOfTwo(int exponent) {
  return std::bit_cast<double>(static_cast<uint64_t>(exponent + 1023) << 52);
}

struct CountKernel {
  LONGHAUL_INLINE uint32_t operator()(const uint32_t* magnitudes, size_t n, uint32_t from) const {
    uint32_t count = 0;
    for (size_t i = 0; i < n; ++i) count += magnitudes[i] >= from ? 1 : 0;
    return count;
  }
};

struct MagnitudeKernel {
  LONGHAUL_INLINE uint32_t operator()(const float* values, size_t n, uint32_t* magnitudes) const {
    uint32_t most = 0;
    for (size_t i = 0; i < n; ++i) {
      magnitudes[i] = std::bit_cast<uint32_t>(values[i]) & kFloatMagnitudeMask;
      most = most > magnitudes[i] ? most : magnitudes[i];
    }
    return most;
  }
};

// 1 for a positive and 2 for a negative value that reaches `from`, 0 for the others.
struct MarkKernel {
  LONGHAUL_INLINE void operator()(const float* values, size_t n, uint32_t from,
                                  uint8_t* marks) const {
    for (size_t i = 0; i < n; ++i) {
      const auto bits = std::bit_cast<uint32_t>(values[i]);
      const uint32_t reaches = (bits & kFloatMagnitudeMask) >= from ? 1 : 0;
      marks[i] = static_cast<uint8_t>(reaches << (bits >> 31));
    }
  }
};

// The smallest magnitude that at most k values reach, and how many do.
struct Threshold {
  uint32_t from = 0;
  uint32_t reach = 0;
};

// `most` is the largest of the magnitudes. `guess` makes it quick when near, and changes nothing:
// if there is a threshold that k values reach, they are the same k for each such threshold.
Threshold FindThreshold(CpuLevel cpu, std::span<const uint32_t> magnitudes, uint32_t k,
                        uint32_t most, uint32_t guess) {
  k = std::min(k, static_cast<uint32_t>(magnitudes.size()));
  uint32_t low = 0;  // more than k reach it, or all
  Threshold high{most + 1, 0};
  uint32_t middle = guess, stride = kFirstStride;
  while (high.from - low > 1 && high.reach != k) {
    if (middle <= low || middle >= high.from) middle = low + (high.from - low) / 2;
    const uint32_t reach = RunAt(cpu, CountKernel(), magnitudes.data(), magnitudes.size(), middle);
    if (reach > k) {
      low = middle;
      middle += stride;
    } else {
      high = {middle, reach};
      middle = middle > stride ? middle - stride : 0;
    }
    stride *= 2;
    // Beyond the first steps from the guess, halve what is left.
    if (low != 0 && high.from <= most) middle = low + (high.from - low) / 2;
  }
  return high;
}

// What is kept of a chunk.
struct Kept {
  std::vector<uint32_t> block_counts;
  std::vector<uint32_t> positions;  // within their blocks
  std::vector<float> values;
};

uint32_t BlockK(uint32_t k, size_t block_values) {
  return static_cast<uint32_t>((k * block_values + kTopKBlock - 1) / kTopKBlock);
}

class Selector {
 public:
  explicit Selector(CpuLevel cpu) : cpu_(cpu) {}

  // Appends what is kept of one block. False when a value is not finite.
  bool Select(std::span<const float> block, uint32_t k, Kept& kept) {
    const uint32_t most =
        RunAt(cpu_, MagnitudeKernel(), block.data(), block.size(), magnitudes_.data());
    if (most >= kFloatInfinityBits) return false;
    const std::span<const uint32_t> magnitudes = std::span(magnitudes_).first(block.size());
    const Threshold threshold = FindThreshold(cpu_, magnitudes, k, most, guess_);
    guess_ = threshold.from;
    RunAt(cpu_, MarkKernel(), block.data(), block.size(), threshold.from, marks_.data());
    NonZero found = CollectNonZero(std::span(marks_).first(block.size()), threshold.reach);
    if (threshold.reach < k && threshold.from > 1) {
      AddTies(magnitudes, threshold.from - 1, k, found.positions);
    }
    kept.block_counts.push_back(static_cast<uint32_t>(found.positions.size()));
    kept.positions.insert(kept.positions.end(), found.positions.begin(), found.positions.end());
    for (uint32_t at : found.positions) kept.values.push_back(block[at]);
    return true;
  }

 private:
  // The first values of this magnitude, until there are k.
  static void AddTies(std::span<const uint32_t> magnitudes, uint32_t magnitude, uint32_t k,
                      std::vector<uint32_t>& positions) {
    for (uint32_t i = 0; positions.size() < k && i < magnitudes.size(); ++i) {
      if (magnitudes[i] == magnitude) positions.push_back(i);
    }
    std::sort(positions.begin(), positions.end());
  }

  const CpuLevel cpu_;
  uint32_t guess_ = 0;  // of the block before
  std::array<uint32_t, kTopKBlock> magnitudes_{};
  std::array<uint8_t, kTopKBlock> marks_{};
};

// Two means of magnitudes, as bf16. The sums are integers, so their order does not matter.
struct Means {
  uint16_t low = 0, high = 0;
  float between = 0;  // from here on: high
};

Means MeansOf(std::span<const float> values) {
  uint32_t most = 0;
  for (float v : values) most = std::max(most, std::bit_cast<uint32_t>(v) & kFloatMagnitudeMask);
  // The largest becomes 2^40 or a little less.
  const int exponent = std::max(1, static_cast<int>(most >> 23)) - 127 + 1;
  const double unit = PowerOfTwo(40 - exponent), back = PowerOfTwo(exponent - 40);
  auto grid = [&](float v) {
    return static_cast<int64_t>(static_cast<double>(std::fabs(v)) * unit);
  };
  auto mean = [](int64_t sum, int64_t n) { return n == 0 ? 0 : sum / n; };
  int64_t sum = 0, high_sum = 0, high_n = 0;
  for (float v : values) sum += grid(v);
  const auto n = static_cast<int64_t>(values.size());
  Means means;
  means.between = static_cast<float>(static_cast<double>(mean(sum, n)) * back);
  for (float v : values) {
    if (std::fabs(v) < means.between) continue;
    high_sum += grid(v);
    ++high_n;
  }
  auto coded = [&](int64_t m) {
    return ToBf16(std::min(static_cast<float>(static_cast<double>(m) * back), kMaxMagnitude));
  };
  means.high = coded(mean(high_sum, high_n));
  means.low = coded(mean(sum - high_sum, n - high_n));
  return means;
}

class TopKCodec final : public Codec {
 public:
  TopKCodec(uint32_t k, CpuLevel cpu) : k_(k), cpu_(cpu) {}

  CodecId id() const override { return CodecId::kTopK; }
  bool fixed_size() const override { return false; }
  // A gap takes 3.2 bits in unary on average at most, and up to 12 for the rest.
  size_t EncodedBytes(size_t elements) const override {
    const size_t blocks = (elements + kTopKBlock - 1) / kTopKBlock;
    return 16 + blocks * (size_t{k_} * 18 + 16) / 8;
  }

  std::optional<size_t> EncodeChunk(const CodecPlan&, uint64_t, std::span<const float> in,
                                    std::span<std::byte> out) const override {
    Kept kept;
    auto selector = std::make_unique<Selector>(cpu_);
    for (size_t at = 0; at < in.size(); at += kTopKBlock) {
      const auto block = in.subspan(at, std::min(kTopKBlock, in.size() - at));
      if (!selector->Select(block, BlockK(k_, block.size()), kept)) return std::nullopt;
    }
    BitWriter bits;
    const Means means = MeansOf(kept.values);
    bits.Put(k_, kCountBits);
    bits.Put(means.low, 16);
    bits.Put(means.high, 16);
    PutPositionsOf(kept, in.size(), bits);
    for (float v : kept.values) bits.Put(std::bit_cast<uint32_t>(v) >> 31, 1);
    for (float v : kept.values) bits.Put(std::fabs(v) >= means.between ? 1 : 0, 1);
    const std::span<const uint8_t> bytes = bits.Finish();
    if (bytes.size() > out.size()) return std::nullopt;
    std::memcpy(out.data(), bytes.data(), bytes.size());
    return bytes.size();
  }

  bool DecodeChunk(uint64_t, std::span<const std::byte> in, std::span<float> out) const override {
    BitReader bits({reinterpret_cast<const uint8_t*>(in.data()), in.size()});
    const auto k = static_cast<uint32_t>(bits.Get(kCountBits));
    std::array<uint32_t, 2> means;
    for (uint32_t& mean : means) mean = static_cast<uint32_t>(bits.Get(16)) << 16;
    if (k == 0 || k > kTopKBlock || std::max(means[0], means[1]) > kMaxMagnitudeBits) return false;
    std::vector<uint32_t> at;  // in the chunk
    if (!GetPositionsOf(k, out.size(), bits, at)) return false;
    std::vector<uint32_t> values(at.size());
    for (uint32_t& v : values) v = static_cast<uint32_t>(bits.Get(1)) << 31;
    for (uint32_t& v : values) v |= means[bits.Get(1)];
    size_t used = 0;
    if (!bits.Finish(&used) || used != in.size()) return false;
    std::fill(out.begin(), out.end(), 0.0f);
    for (size_t i = 0; i < at.size(); ++i) out[at[i]] = std::bit_cast<float>(values[i]);
    return true;
  }

 private:
  void PutPositionsOf(const Kept& kept, size_t elements, BitWriter& bits) const {
    std::span<const uint32_t> positions = kept.positions;
    for (size_t b = 0; b < kept.block_counts.size(); ++b) {
      const size_t n = std::min(kTopKBlock, elements - b * kTopKBlock);
      const uint32_t count = kept.block_counts[b];
      const bool full = count == BlockK(k_, n);
      bits.Put(full ? 1 : 0, 1);
      if (!full) bits.Put(count, kCountBits);
      PutPositions(positions.first(count), static_cast<uint32_t>(n), bits);
      positions = positions.subspan(count);
    }
  }

  static bool GetPositionsOf(uint32_t k, size_t elements, BitReader& bits,
                             std::vector<uint32_t>& at) {
    std::vector<uint32_t> positions;
    for (size_t first = 0; first < elements; first += kTopKBlock) {
      const size_t n = std::min(kTopKBlock, elements - first);
      const uint32_t most = BlockK(k, n);
      const bool full = bits.Get(1) != 0;
      const uint32_t count = full ? most : static_cast<uint32_t>(bits.Get(kCountBits));
      if (bits.overrun() || (!full && count >= most) ||
          !GetPositions(count, static_cast<uint32_t>(n), bits, positions)) {
        return false;
      }
      for (uint32_t p : positions) at.push_back(static_cast<uint32_t>(first) + p);
    }
    return true;
  }

  const uint32_t k_;
  const CpuLevel cpu_;
};

}  // namespace

uint32_t TopKFor(uint32_t bits_milli) {
  uint32_t k = 1;
  const uint64_t budget = uint64_t{kTopKBlock} * bits_milli * kOneBit / 1000;
  while (k < kTopKBlock &&
         PositionsCost(k + 1, kTopKBlock) + (2 * (k + 1) + 1) * kOneBit <= budget) {
    ++k;
  }
  return k;
}

std::unique_ptr<const Codec> MakeTopKCodec(uint32_t bits_milli, CpuLevel cpu) {
  return std::make_unique<TopKCodec>(TopKFor(bits_milli), cpu);
}

}  // namespace longhaul
