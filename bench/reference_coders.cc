#include "bench/reference_coders.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <numeric>
#include <optional>

#include "absl/strings/numbers.h"
#include "compression/bf16.h"

namespace longhaul {
namespace {

constexpr int kLloydSteps = 8;
constexpr int kBisections = 30;
constexpr size_t kTopKBlock = 4096;

using In = std::span<const float>;
using Out = std::span<float>;
// Decodes into `out` and returns the bits; one tensor or block.
using Part = std::function<double(In, Out)>;

float Rounded(double v) { return FromBf16(ToBf16(static_cast<float>(v))); }

double LargestOf(In in) {
  double most = 0;
  for (float v : in) most = std::max(most, std::abs(double{v}));
  return most;
}

double InBlocks(size_t block, In in, Out out, const Part& part) {
  double bits = 0;
  for (size_t at = 0; at < in.size(); at += block) {
    const size_t n = std::min(block, in.size() - at);
    bits += part(in.subspan(at, n), out.subspan(at, n));
  }
  return bits;
}

double Uniform(int bits, In in, Out out) {
  const float most = static_cast<float>((1 << (bits - 1)) - 1);
  const float scale = Rounded(static_cast<float>(LargestOf(in)) / most);
  for (size_t i = 0; i < in.size(); ++i) {
    const float q = scale == 0 ? 0 : std::clamp(std::nearbyint(in[i] / scale), -most, most);
    out[i] = q * scale;
  }
  return static_cast<double>(in.size()) * bits + 16;
}

struct Levels {
  float low, high, threshold;  // of magnitudes; at or below the threshold: low
};

// Lloyd's algorithm from the mean.
Levels TwoLevels(In magnitudes) {
  double threshold = std::accumulate(magnitudes.begin(), magnitudes.end(), 0.0) /
                     static_cast<double>(std::max<size_t>(1, magnitudes.size()));
  double low = threshold, high = threshold;
  for (int step = 0; step < kLloydSteps; ++step) {
    double sums[2] = {0, 0}, counts[2] = {0, 0};
    for (float v : magnitudes) {
      const int above = v > threshold;
      sums[above] += v;
      counts[above] += 1;
    }
    if (counts[0] > 0) low = sums[0] / counts[0];
    if (counts[1] > 0) high = sums[1] / counts[1];
    threshold = (low + high) / 2;
  }
  return {Rounded(low), Rounded(high), static_cast<float>(threshold)};
}

float AtLevel(const Levels& levels, float v) {
  return std::copysign(std::abs(v) > levels.threshold ? levels.high : levels.low, v);
}

double TwoBit(In in, Out out) {
  std::vector<float> magnitudes(in.size());
  for (size_t i = 0; i < in.size(); ++i) magnitudes[i] = std::abs(in[i]);
  const Levels levels = TwoLevels(magnitudes);
  for (size_t i = 0; i < in.size(); ++i) out[i] = AtLevel(levels, in[i]);
  return 2.0 * static_cast<double>(in.size()) + 32;
}

double Sign(In in, Out out) {
  double sum = 0;
  for (float v : in) sum += std::abs(double{v});
  const float level = Rounded(sum / static_cast<double>(in.size()));
  for (size_t i = 0; i < in.size(); ++i) out[i] = std::copysign(level, in[i]);
  return static_cast<double>(in.size()) + 16;
}

// Level l of 1 to 7 is largest · 2^(l − 7), level 0 is 0; the nearest one on a linear scale.
double E3M0(In in, Out out) {
  const float largest = static_cast<float>(LargestOf(in));
  for (size_t i = 0; i < in.size(); ++i) {
    float best = 0;
    for (int level = 1; level <= 7; ++level) {
      const float value = std::ldexp(largest, level - 7);
      if (std::abs(std::abs(in[i]) - value) < std::abs(std::abs(in[i]) - best)) best = value;
    }
    out[i] = std::copysign(best, in[i]);
  }
  return 4.0 * static_cast<double>(in.size()) + 32;
}

// ---- dead zone ----

constexpr int kMaxLevel = 127;

int DeadZoneLevel(float v, float per_step) {
  return static_cast<int>(std::min<float>(kMaxLevel, std::abs(v) * per_step + 1.0f / 3));
}

// Entropy of the levels and a sign for each that is not 0.
double DeadZoneBits(In in, float per_step) {
  std::array<uint32_t, kMaxLevel + 1> counts{};
  for (float v : in) ++counts[DeadZoneLevel(v, per_step)];
  const auto n = static_cast<double>(in.size());
  double bits = n - counts[0];
  for (uint32_t c : counts) {
    if (c > 0) bits -= c * std::log2(c / n);
  }
  return bits;
}

// Mean magnitude at each level, bf16; 0 at level 0 and where there is nothing.
std::array<float, kMaxLevel + 1> Centroids(In in, float per_step) {
  std::array<double, kMaxLevel + 1> sums{}, counts{};
  for (float v : in) {
    const int level = DeadZoneLevel(v, per_step);
    sums[level] += std::abs(double{v});
    counts[level] += 1;
  }
  std::array<float, kMaxLevel + 1> centroids{};
  for (int level = 1; level <= kMaxLevel; ++level) {
    if (counts[level] > 0) centroids[level] = Rounded(sums[level] / counts[level]);
  }
  return centroids;
}

double DeadZoneCoder(double budget, In in, Out out) {
  const double most = LargestOf(in);
  if (most == 0) {
    std::fill(out.begin(), out.end(), 0.0f);
    return 8;
  }
  double low = 0, high = 2 * most;  // at `high` everything is 0
  for (int i = 0; i < kBisections; ++i) {
    const double step = (low + high) / 2;
    const double bits = DeadZoneBits(in, static_cast<float>(1 / step));
    (bits <= budget * static_cast<double>(in.size()) ? high : low) = step;
  }
  const auto per_step = static_cast<float>(1 / high);
  const std::array<float, kMaxLevel + 1> centroids = Centroids(in, per_step);
  for (size_t i = 0; i < in.size(); ++i) {
    out[i] = std::copysign(centroids[DeadZoneLevel(in[i], per_step)], in[i]);
  }
  const auto used =
      std::count_if(centroids.begin(), centroids.end(), [](float c) { return c > 0; });
  return DeadZoneBits(in, per_step) + 8 + 16.0 * static_cast<double>(used);
}

// ---- top-k ----

double LogChoose(size_t n, size_t k) {
  const double a = static_cast<double>(n), b = static_cast<double>(k);
  return (std::lgamma(a + 1) - std::lgamma(b + 1) - std::lgamma(a - b + 1)) / std::log(2.0);
}

double TopK(double density, In in, Out out) {
  std::fill(out.begin(), out.end(), 0.0f);
  std::vector<size_t> chosen;
  double bits = 32;  // two levels
  for (size_t at = 0; at < in.size(); at += kTopKBlock) {
    const size_t n = std::min(kTopKBlock, in.size() - at);
    const auto k =
        std::max<size_t>(1, static_cast<size_t>(std::nearbyint(density * static_cast<double>(n))));
    std::vector<size_t> order(n);
    std::iota(order.begin(), order.end(), at);
    std::partial_sort(order.begin(), order.begin() + static_cast<int64_t>(k), order.end(),
                      [&](size_t a, size_t b) {
                        const float x = std::abs(in[a]), y = std::abs(in[b]);
                        return x != y ? x > y : a < b;
                      });
    chosen.insert(chosen.end(), order.begin(), order.begin() + static_cast<int64_t>(k));
    bits += 2.0 * static_cast<double>(k) + LogChoose(n, k);
  }
  std::vector<float> magnitudes;
  for (size_t i : chosen) magnitudes.push_back(std::abs(in[i]));
  const Levels levels = TwoLevels(magnitudes);
  for (size_t i : chosen) out[i] = AtLevel(levels, in[i]);
  return bits;
}

double Half(In in, Out out) {
  for (size_t i = 0; i < in.size(); ++i) out[i] = FromBf16(ToBf16(in[i]));
  return 16.0 * static_cast<double>(in.size());
}

class ReferenceCoder : public SpanCoder {
 public:
  ReferenceCoder(std::vector<TensorSpan> tensors, Part matrix)
      : tensors_(std::move(tensors)), matrix_(std::move(matrix)) {}

  absl::StatusOr<CodedSize> Code(In in, Out decoded) const override {
    if (!std::all_of(in.begin(), in.end(), [](float v) { return std::isfinite(v); })) {
      return absl::InvalidArgumentError("a value is not finite");
    }
    CodedSize size;
    for (const TensorSpan& t : tensors_) {
      const In from = in.subspan(t.offset, t.count);
      const Out to = decoded.subspan(t.offset, t.count);
      size.payload_bits +=
          t.tensor_class == TensorClass::kVector ? Half(from, to) : matrix_(from, to);
    }
    return size;
  }

 private:
  const std::vector<TensorSpan> tensors_;
  const Part matrix_;
};

Part Blocks(size_t block, Part part) {
  return [block, part = std::move(part)](In in, Out out) { return InBlocks(block, in, out, part); };
}

// The number after the colon of "NAME:number"; none for another name, NaN for no number.
std::optional<double> Parameter(const std::string& text, const std::string& name) {
  if (text.compare(0, name.size() + 1, name + ":") != 0) return std::nullopt;
  double value = 0;
  return absl::SimpleAtod(text.substr(name.size() + 1), &value) ? value : std::nan("");
}

}  // namespace

absl::StatusOr<std::unique_ptr<SpanCoder>> MakeReferenceCoder(const std::string& name,
                                                              std::vector<TensorSpan> tensors) {
  const auto made = [&](Part part) {
    return std::make_unique<ReferenceCoder>(std::move(tensors), std::move(part));
  };
  if (name == "ref-int8") return made(Blocks(64, [](In a, Out b) { return Uniform(8, a, b); }));
  if (name == "ref-int4") return made(Blocks(64, [](In a, Out b) { return Uniform(4, a, b); }));
  if (name == "ref-2bit") return made(Blocks(256, TwoBit));
  if (name == "ref-sign") return made(Sign);
  if (name == "ref-e3m0") return made(Blocks(256, E3M0));
  if (const auto budget = Parameter(name, "ref-deadzone")) {
    if (!(*budget > 0 && *budget <= 8)) return absl::InvalidArgumentError(name + ": 0 to 8 bits");
    return made([b = *budget](In in, Out out) { return DeadZoneCoder(b, in, out); });
  }
  if (const auto density = Parameter(name, "ref-topk")) {
    if (!(*density > 0 && *density <= 1)) return absl::InvalidArgumentError(name + ": 0 to 1");
    return made([d = *density](In in, Out out) { return TopK(d, in, out); });
  }
  return absl::NotFoundError("no codec is called " + name);
}

}  // namespace longhaul
