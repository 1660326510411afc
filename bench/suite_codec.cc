// Codecs: how fast, how small, how exact. Speeds are those of one thread in its own CPU time, as
// ratios to a memcpy of the same float32 input in the same round; the median of the rounds counts.
// Everything goes chunk by chunk, as between machines, planning and validation included.
#include <time.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <numbers>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/codec_baselines.h"
#include "bench/suite.h"
#include "common/check.h"
#include "common/rng.h"
#include "compression/bf16.h"
#include "compression/bit_budget_codec.h"
#include "compression/cpu.h"
#include "compression/top_k_codec.h"
#include "proto/chunk.h"

namespace longhaul {
namespace {

struct Size {
  size_t speed_values;  // more than caches hold, unless quick
  size_t values;        // for everything that is not timed
  int rounds;
};
constexpr Size kFull = {size_t{1} << 24, size_t{1} << 21, 9};
constexpr Size kQuick = {size_t{3} << 20, size_t{1} << 20, 5};

constexpr uint32_t kBudgets[] = {50, 100, 150, 300, 500, 1000, 2000, 4000, 8000};

double CpuSeconds() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// Standard normal values, or heavy-tailed ones (Student's t with 3 degrees of freedom), times 0.01.
std::vector<float> Values(size_t n, bool heavy) {
  auto normal = [](uint64_t stream, uint64_t i) {
    const double u1 = static_cast<double>((Draw(1, {stream, 2 * i}) >> 11) + 1) * 0x1p-53;
    const double u2 = static_cast<double>(Draw(1, {stream, 2 * i + 1}) >> 11) * 0x1p-53;
    return std::sqrt(-2 * std::log(u1)) * std::cos(2 * std::numbers::pi * u2);
  };
  std::vector<float> values(n);
  constexpr size_t kPeriod = size_t{1} << 20;  // drawing takes time
  for (size_t i = 0; i < n; ++i) {
    if (i >= kPeriod) {
      values[i] = values[i - kPeriod];
      continue;
    }
    double v = 0.01 * normal(0, i);
    if (heavy) {
      double sum = 0;
      for (uint64_t j = 1; j <= 3; ++j) sum += std::pow(normal(j, i), 2);
      v /= std::sqrt(sum / 3);
    }
    values[i] = static_cast<float>(v);
  }
  return values;
}

struct AddKernel {
  LONGHAUL_INLINE void operator()(const float* __restrict values, size_t n,
                                  float* __restrict sum) const {
    for (size_t i = 0; i < n; ++i) sum[i] += values[i];
  }
};

// A fragment coded chunk by chunk.
class Coded {
 public:
  Coded(const Codec& codec, std::span<const float> values) : codec_(codec), values_(values) {
    chunks_.resize((values.size() + kChunkElements - 1) / kChunkElements);
  }

  void Encode() {
    const std::unique_ptr<Planner> planner = codec_.NewPlanner();
    while (planner != nullptr && !planner->done()) {
      for (size_t i = 0; i < chunks_.size(); ++i) {
        LONGHAUL_CHECK(planner->Observe(i * kChunkElements, Part(i)), "finite values");
      }
      planner->EndPass();
    }
    plan_ = planner == nullptr ? CodecPlan() : planner->plan();
    for (size_t i = 0; i < chunks_.size(); ++i) {
      buffer_.resize(codec_.EncodedBytes(Part(i).size()));
      const auto used = codec_.EncodeChunk(plan_, i * kChunkElements, Part(i), buffer_);
      LONGHAUL_CHECK(used.has_value(), "finite values can be coded");
      chunks_[i].assign(buffer_.begin(), buffer_.begin() + static_cast<ptrdiff_t>(*used));
    }
  }
  bool Decode(std::span<float> out) const {
    for (size_t i = 0; i < chunks_.size(); ++i) {
      const auto part = out.subspan(i * kChunkElements, Part(i).size());
      if (!codec_.DecodeChunk(i * kChunkElements, chunks_[i], part)) return false;
    }
    return true;
  }
  void DecodeAndAdd(std::span<float> sum) const {
    std::vector<float> decoded(kChunkElements);
    for (size_t i = 0; i < chunks_.size(); ++i) {
      const auto part = std::span(decoded).first(Part(i).size());
      LONGHAUL_CHECK(codec_.DecodeChunk(i * kChunkElements, chunks_[i], part), "own bytes");
      RunAt(BestCpuLevel(), AddKernel(), part.data(), part.size(), sum.data() + i * kChunkElements);
    }
  }

  double bits() const {
    size_t bytes = 0;
    for (const auto& chunk : chunks_) bytes += chunk.size();
    return 8 * static_cast<double>(bytes) / static_cast<double>(values_.size());
  }
  const std::vector<std::vector<std::byte>>& chunks() const { return chunks_; }
  const CodecPlan& plan() const { return plan_; }

 private:
  std::span<const float> Part(size_t i) const {
    const size_t at = i * kChunkElements;
    return values_.subspan(at, std::min<size_t>(kChunkElements, values_.size() - at));
  }

  const Codec& codec_;
  const std::span<const float> values_;
  CodecPlan plan_;
  std::vector<std::vector<std::byte>> chunks_;
  std::vector<std::byte> buffer_;
};

double Nmse(std::span<const float> values, std::span<const float> decoded) {
  double error = 0, power = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    error += std::pow(static_cast<double>(values[i]) - decoded[i], 2);
    power += std::pow(static_cast<double>(values[i]), 2);
  }
  return error / power;
}

Result Measure(const std::string& name, double value, const std::string& unit) {
  return {.suite = "codec", .name = name, .value = value, .unit = unit};
}
Result Goal(const std::string& name, double value, Relation relation, double target) {
  Result r = Measure(name, value, "ratio");
  r.kind = ResultKind::kGoal;
  r.relation = relation;
  r.target = target;
  return r;
}

// ---- speed ----

class Speed {
 public:
  explicit Speed(const Size& size) : size_(size), values_(Values(size.speed_values, false)) {
    sum_.resize(values_.size());
  }

  std::vector<Result> Run() {
    AddTask("memcpy", 0, [this] { std::memcpy(sum_.data(), values_.data(), 4 * values_.size()); });
    AddCodec("bf16", {CodecId::kBf16, 0}, 0, 0, 0);
    AddCodec("int8", {CodecId::kInt8, 0}, 0.85, 0, 0.85);
    AddCodec("int4", {CodecId::kInt4, 0}, 0.85, 0, 0.85);
    AddCodec("int2", {CodecId::kInt2, 0}, 0.6, 0, 0.6);
    AddCodec("top_k_0.15", {CodecId::kTopK, 150}, 0.25, 0, 0);
    AddCodec("bit_budget_0.15", {CodecId::kBitBudget, 150}, 0.3, 1.0, 0);
    AddCodec("bit_budget_0.5", {CodecId::kBitBudget, 500}, 0, 0, 0);
    AddCodec("bit_budget_2", {CodecId::kBitBudget, 2000}, 0.2, 0, 0.3);
    AddCodec("bit_budget_4", {CodecId::kBitBudget, 4000}, 0, 0, 0);
    AddTask("e3m0_encode", 0, [this] { EncodeE3m0(values_, codes_, scales_); });
    AddTask("sign_encode", 0, [this] { mean_ = EncodeSigns(values_, codes_); });
    AddTask("nth_element", 0,
            [this] { mean_ = NthMagnitude(values_, values_.size() / 64, scratch_); });
    for (int round = 0; round < size_.rounds; ++round) {
      for (Task& task : tasks_) {
        const double start = CpuSeconds();
        task.run();
        task.seconds.push_back(CpuSeconds() - start);
      }
    }
    return Results();
  }

 private:
  struct Task {
    std::string name;
    double goal = 0;  // 0: none
    std::function<void()> run;
    std::vector<double> seconds;  // of each round
  };

  void AddTask(const std::string& name, double goal, std::function<void()> run) {
    tasks_.push_back({name, goal, std::move(run), {}});
  }
  // Goals for coding, decoding, and decoding with addition to other values; 0: none.
  void AddCodec(const std::string& name, const CodecSpec& spec, double encode, double decode,
                double add) {
    codecs_.push_back(MakeCodec(spec));
    coded_.push_back(std::make_unique<Coded>(*codecs_.back(), values_));
    Coded* coded = coded_.back().get();
    AddTask(name + "_encode", encode, [coded] { coded->Encode(); });
    AddTask(name + "_decode", decode,
            [this, coded] { LONGHAUL_CHECK(coded->Decode(sum_), "own bytes"); });
    AddTask(name + "_decode_add", add, [this, coded] { coded->DecodeAndAdd(sum_); });
  }

  // Median over the rounds of how many times faster `a` is than `b`.
  static double Ratio(const Task& a, const Task& b) {
    std::vector<double> ratios;
    for (size_t i = 0; i < a.seconds.size(); ++i) ratios.push_back(b.seconds[i] / a.seconds[i]);
    return Median(ratios);
  }
  const Task& Find(const std::string& name) const {
    return *std::find_if(tasks_.begin(), tasks_.end(),
                         [&](const Task& task) { return task.name == name; });
  }

  std::vector<Result> Results() const {
    std::vector<Result> results;
    const Task& memcpy_task = tasks_.front();
    for (const Task& task : tasks_) {
      const double bytes = 4 * static_cast<double>(values_.size());
      results.push_back(Measure(task.name, bytes / Median(task.seconds) / 1e9, "GB/s"));
      if (&task == &memcpy_task) {
        results.back().note = absl::StrCat("of float32 input, one thread, its CPU time, median of ",
                                           size_.rounds, " rounds over ", values_.size(),
                                           " values; CPU level ", static_cast<int>(BestCpuLevel()));
        continue;
      }
      Result ratio =
          Goal(task.name + "_to_memcpy", Ratio(task, memcpy_task), Relation::kAtLeast, task.goal);
      if (task.goal == 0) ratio.kind = ResultKind::kMeasure;
      results.push_back(ratio);
    }
    results.push_back(Goal("top_k_0.15_encode_to_nth_element",
                           Ratio(Find("top_k_0.15_encode"), Find("nth_element")),
                           Relation::kAtLeast, 5));
    return results;
  }

  const Size size_;
  const std::vector<float> values_;
  std::vector<float> sum_, scratch_;
  std::vector<uint8_t> codes_;
  std::vector<uint16_t> scales_;
  float mean_ = 0;
  std::vector<std::unique_ptr<const Codec>> codecs_;
  std::vector<std::unique_ptr<Coded>> coded_;
  std::vector<Task> tasks_;
};

// ---- size ----

// Order-0 entropy of the values of each chunk, in bits per value.
double EmpiricalEntropy(std::span<const float> decoded) {
  double bits = 0;
  for (size_t at = 0; at < decoded.size(); at += kChunkElements) {
    const auto chunk = decoded.subspan(at, std::min<size_t>(kChunkElements, decoded.size() - at));
    std::map<float, double> counts;
    for (float v : chunk) counts[v] += 1;
    for (auto [value, count] : counts) {
      bits -= count * std::log2(count / static_cast<double>(chunk.size()));
    }
  }
  return bits / static_cast<double>(decoded.size());
}

void AddBudgets(const Size& size, std::vector<Result>& results) {
  double worst_entropy = 0;
  for (const bool heavy : {false, true}) {
    const std::string source = heavy ? "student_t3" : "normal";
    const std::vector<float> values = Values(size.values, heavy);
    std::vector<float> decoded(values.size());
    double worst = 0, worst_small = 0;
    for (uint32_t bits_milli : kBudgets) {
      const auto codec = MakeCodec({CodecId::kBitBudget, bits_milli});
      Coded coded(*codec, values);
      coded.Encode();
      coded.Decode(decoded);
      worst = std::max(worst, std::fabs(coded.bits() * 1000 / bits_milli - 1));
      Coded small(*codec, std::span(values).first(133440));
      small.Encode();
      worst_small = std::max(worst_small, std::fabs(small.bits() * 1000 / bits_milli - 1));
      const std::string name = absl::StrFormat("%s_at_%g_bits", source, bits_milli / 1000.0);
      results.push_back(Measure(name + "_nmse", Nmse(values, decoded), "ratio"));
      if (bits_milli < 150 || heavy) continue;
      const double to_entropy = coded.bits() / EmpiricalEntropy(decoded);
      worst_entropy = std::max(worst_entropy, to_entropy);
      results.push_back(Measure(name + "_bytes_to_entropy", to_entropy, "ratio"));
    }
    results.push_back(Goal(source + "_off_budget", worst, Relation::kAtMost, 0.02));
    results.back().note = "largest relative difference between bytes and budget, 0.05 to 8 bits";
    results.push_back(Goal(source + "_off_budget_133440", worst_small, Relation::kAtMost, 0.1));
  }
  results.push_back(Goal("bytes_to_entropy", worst_entropy, Relation::kAtMost, 1.02));
  results.back().note =
      "all bytes, to the order-0 entropy of each chunk's symbols, from 0.15 bit on; the worst";
}

void AddTopK(const Size& size, std::vector<Result>& results) {
  const std::vector<float> values = Values(size.values, false);
  for (uint32_t bits_milli : {150u, 265u}) {
    const double k = TopKFor(bits_milli);
    const auto codec = MakeCodec({CodecId::kTopK, bits_milli});
    Coded coded(*codec, values);
    coded.Encode();
    const double block_bits = coded.bits() * kTopKBlock;
    const double bound =
        (std::lgamma(4097) - std::lgamma(k + 1) - std::lgamma(4097 - k)) / std::numbers::ln2;
    const std::string name = absl::StrCat("top_", k, "_of_4096");
    results.push_back(
        Goal(name + "_positions_to_bound", (block_bits - 2 * k) / bound, Relation::kAtMost, 1.03));
    results.back().note = absl::StrFormat("%.2f bits per kept value", block_bits / k);
    results.push_back(
        Goal(name + "_smaller_than_12_and_2_bits", 14 * k / block_bits, Relation::kAtLeast, 1.5));
  }
}

void AddBaselines(const Size& size, std::vector<Result>& results) {
  for (const bool heavy : {false, true}) {
    const std::string source = heavy ? "student_t3" : "normal";
    const std::vector<float> values = Values(size.values, heavy);
    std::vector<float> decoded(values.size());
    std::vector<uint8_t> codes;
    std::vector<uint16_t> scales;
    EncodeE3m0(values, codes, scales);
    DecodeE3m0(codes, scales, decoded);
    results.push_back(Measure(source + "_e3m0_nmse", Nmse(values, decoded), "ratio"));
    results.back().note = "4.06 bits";
    const float mean = EncodeSigns(values, codes);
    DecodeSigns(codes, mean, decoded);
    results.push_back(Measure(source + "_sign_nmse", Nmse(values, decoded), "ratio"));
    results.back().note = "1 bit";
    for (CodecId id : {CodecId::kInt8, CodecId::kInt4, CodecId::kInt2}) {
      Coded coded(*FindCodec(id), values);
      coded.Encode();
      coded.Decode(decoded);
      const std::string name(CodecName(id));
      results.push_back(Measure(source + "_" + name + "_nmse", Nmse(values, decoded), "ratio"));
      results.back().note = absl::StrFormat("%.2f bits", coded.bits());
    }
  }
}

// ---- exactness ----

struct Input {
  std::vector<float> values;
  std::vector<TensorSpan> layout;
};

std::vector<Input> RoundTripInputs() {
  constexpr size_t n = 200000;
  std::vector<float> sparse = Values(n, true), signs(n, 0.01f);
  for (size_t i = 0; i < n; ++i) {
    if (i / 100 % 3 != 0) sparse[i] = 0;
    if (Draw(2, {i}) % 2 == 0) signs[i] = -signs[i];
  }
  std::vector<TensorSpan> layout = {{0, 120000, TensorClass::kEmbedding, 100},
                                    {120000, 300, TensorClass::kVector, 0},
                                    {120300, n - 120300, TensorClass::kMatrix, 0}};
  std::vector<float> outlier = Values(n, false);
  outlier[77777] = -5.0f;
  return {{Values(n, false), {}},         {Values(n, true), {}}, {sparse, layout},
          {std::vector<float>(n), {}},    {signs, {}},           {std::vector<float>(n, 0.5f), {}},
          {std::vector<float>(1, 2), {}}, {outlier, layout}};
}

// A value becomes 0 exactly below the threshold, and else lies within a step; where few values
// travel in 8 bits, within the 127th part of the largest.
bool WithinAStep(const Input& input, const CodecPlan& plan, std::span<const float> decoded) {
  const float step = FromBf16(plan.step);
  float most = 0;
  for (float v : input.values) most = std::max(most, std::fabs(v));
  for (size_t i = 0; i < decoded.size(); ++i) {
    const float v = input.values[i], error = std::fabs(decoded[i] - v);
    const auto span = std::find_if(input.layout.begin(), input.layout.end(),
                                   [&](const TensorSpan& s) { return i < s.offset + s.count; });
    if (span != input.layout.end() && span->tensor_class == TensorClass::kVector) {
      if (error > std::max(step, most / 127)) return false;
      continue;
    }
    const uint32_t threshold = i < plan.tie_end ? plan.tie_threshold_bits : plan.threshold_bits;
    const bool zero = (std::bit_cast<uint32_t>(v) & kFloatMagnitudeMask) < threshold;
    const bool as_bf16 = error <= std::fabs(v) * 0x1p-8f;
    if (!as_bf16 && (zero ? decoded[i] != 0 : error > step)) return false;
  }
  return true;
}

bool RoundTrips(const Input& input, uint32_t bits_milli) {
  const auto plain = MakeBitBudgetCodec(bits_milli, Layout(input.layout), CpuLevel::kPortable);
  Coded expected(*plain, input.values);
  expected.Encode();
  std::vector<float> decoded(input.values.size()), other(decoded.size());
  if (!expected.Decode(decoded) || !WithinAStep(input, expected.plan(), decoded)) return false;
  for (CpuLevel cpu : {CpuLevel::kAvx2, CpuLevel::kAvx512}) {
    if (cpu > BestCpuLevel()) continue;
    const auto codec = MakeBitBudgetCodec(bits_milli, Layout(input.layout), cpu);
    Coded coded(*codec, input.values);
    coded.Encode();
    if (coded.chunks() != expected.chunks() || !coded.Decode(other) || other != decoded) {
      return false;
    }
  }
  return true;
}

void AddRoundTrips(std::vector<Result>& results) {
  double failures = 0, trips = 0;
  for (const Input& input : RoundTripInputs()) {
    for (uint32_t bits_milli : kBudgets) {
      failures += RoundTrips(input, bits_milli) ? 0 : 1;
      trips += 1;
    }
  }
  Result r = Measure("failed_round_trips", failures, "of " + std::to_string(int(trips)));
  r.kind = ResultKind::kGate;
  r.relation = Relation::kAtMost;
  r.note =
      "bit-budget at 0.05 to 8 bits: equal bytes and values at every CPU level, each value within "
      "a step; normal, heavy-tailed, rows of zeros, all zero, +-constant, constant, one value, "
      "outlier";
  results.push_back(r);
}

std::vector<Result> RunCodec(bool quick) {
  const Size& size = quick ? kQuick : kFull;
  std::vector<Result> results = Speed(size).Run();
  AddBudgets(size, results);
  AddTopK(size, results);
  AddBaselines(size, results);
  AddRoundTrips(results);
  return results;
}

}  // namespace

void AddCodec(CLI::App& app, Bench& bench) {
  CLI::App* suite = AddSuite(app, bench, "codec", "Speed, size and exactness of the codecs");
  suite->callback([&bench] { bench.run = [&bench] { return RunCodec(bench.quick); }; });
}

}  // namespace longhaul
