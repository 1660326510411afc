// Device codecs on the first GPU, through the CUDA plug-in: bytes against the processor's codecs,
// speeds against a device copy of the same values, and what crosses between device and host. Wall
// time; the median of the rounds counts. The code's way to the host is part of coding.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "bench/suite.h"
#include "common/check.h"
#include "common/rng.h"
#include "common/status_macros.h"
#include "compression/codec.h"
#include "proto/chunk.h"
#include "worker/site/plugin.h"

namespace longhaul {
namespace {

struct Size {
  uint64_t values;     // timed; on the device 4 times as much and what coding takes
  uint64_t compared;   // with the processor, which is timed, too
  uint64_t of_vector;  // drawn; repeated
  int rounds;
};
constexpr Size kFull = {uint64_t{1} << 30, uint64_t{1} << 24, uint64_t{1} << 20, 9};
constexpr Size kQuick = {uint64_t{1} << 22, uint64_t{1} << 21, uint64_t{1} << 18, 3};
constexpr float kDecay = 0.9f;
constexpr size_t kErrorBytes = 512;

struct Case {
  const char* name;
  CodecSpec codec;
  double fused_goal;  // of coding a pseudo-gradient with its residual, to the device copy; 0: none
  double host_goal;   // of its time, to that of an uncompressed copy to the host; 0: none
};
constexpr Case kCases[] = {
    {"int8", CodecId::kInt8, 0.7, 0},
    {"int4", CodecId::kInt4, 0.7, 1.0 / 6},
    {"int2", CodecId::kInt2, 0.7, 1.0 / 6},
    {"bit_budget_0.15", {CodecId::kBitBudget, 150}, 0, 1.0 / 6},
    {"bit_budget_2", {CodecId::kBitBudget, 2000}, 0, 1.0 / 6},
    {"bit_budget_4", {CodecId::kBitBudget, 4000}, 0, 1.0 / 6},
};

// Nearly normal, with standard deviation `scale` / 2.
std::vector<float> Draws(uint64_t stream, uint64_t n, float scale) {
  std::vector<float> out(n);
  for (uint64_t i = 0; i < n; ++i) {
    float sum = 0;
    for (uint64_t k = 0; k < 3; ++k) {
      sum += static_cast<float>(Draw(stream, {i, k}) >> 40) * 0x1p-24f - 0.5f;
    }
    out[i] = scale * sum;
  }
  return out;
}

absl::Status StatusOf(int result, const char* error) {
  if (result == LONGHAUL_CUDA_OK) return absl::OkStatus();
  return absl::InternalError(error);
}

// Memory of the first GPU, or pinned memory of the host.
class Memory {
 public:
  static absl::StatusOr<std::unique_ptr<Memory>> Make(const LonghaulCudaPlugin& plugin, bool pinned,
                                                      uint64_t bytes) {
    char error[kErrorBytes] = "";
    std::unique_ptr<Memory> memory(new Memory(plugin, pinned));
    RETURN_IF_ERROR(
        StatusOf(plugin.memory_make(0, pinned, bytes, &memory->data_, error, sizeof error), error));
    return memory;
  }
  ~Memory() {
    if (data_ != nullptr) plugin_.memory_free(0, pinned_, data_);
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  float* floats() const { return static_cast<float*>(data_); }

 private:
  Memory(const LonghaulCudaPlugin& plugin, bool pinned) : plugin_(plugin), pinned_(pinned) {}
  const LonghaulCudaPlugin& plugin_;
  const bool pinned_;
  void* data_ = nullptr;
};

class Suite {
 public:
  Suite(const LonghaulCudaPlugin& plugin, const Size& size)
      : plugin_(plugin),
        size_(size),
        base_(Draws(1, size.of_vector, 1)),
        local_(Draws(2, size.of_vector, 1)),
        owed_(Draws(3, size.of_vector, 0.1f)) {}

  absl::StatusOr<std::vector<Result>> Run() {
    const uint64_t bytes = size_.values * sizeof(float);
    ASSIGN_OR_RETURN(device_, Memory::Make(plugin_, false, bytes));
    ASSIGN_OR_RETURN(other_, Memory::Make(plugin_, false, 2 * bytes));  // room for exact sums
    ASSIGN_OR_RETURN(host_, Memory::Make(plugin_, true, bytes));
    FillHost();
    RETURN_IF_ERROR(Copy(*device_, *host_, bytes));
    ASSIGN_OR_RETURN(copy_s_, Time([&] { return Copy(*other_, *device_, bytes); }));
    ASSIGN_OR_RETURN(to_host_s_, Time([&] { return Copy(*host_, *device_, bytes); }));
    Measure("device_copy", GigabytesPerSecond(copy_s_), "GB/s");
    results_.back().note =
        absl::StrCat(size_.values, " float32 values, median of ", size_.rounds, " rounds");
    Measure("copy_to_host", GigabytesPerSecond(to_host_s_), "GB/s");
    bool equal = true;
    for (const Case& c : kCases) {
      ASSIGN_OR_RETURN(const bool same, SameBytes(c));
      equal = equal && same;
      RETURN_IF_ERROR(Speeds(c));
    }
    Result gate{.suite = "gpu", .name = "bytes_equal", .value = equal, .unit = "bool", .target = 1};
    gate.kind = ResultKind::kGate;
    gate.note = absl::StrCat("of every codec with the processor's, ", size_.compared, " values");
    results_.push_back(gate);
    return results_;
  }

 private:
  struct FreeFragment {
    const LonghaulCudaPlugin* plugin;
    void operator()(LonghaulFragment* f) const { plugin->fragment_free(f); }
  };
  using Fragment = std::unique_ptr<LonghaulFragment, FreeFragment>;

  // θ in host memory, repeated.
  void FillHost() {
    for (uint64_t at = 0; at < size_.values; at += local_.size()) {
      std::memcpy(host_->floats() + at, local_.data(), local_.size() * sizeof(float));
    }
  }
  absl::Status Copy(const Memory& to, const Memory& from, uint64_t bytes) const {
    char error[kErrorBytes] = "";
    return StatusOf(plugin_.memory_copy(0, to.floats(), from.floats(), bytes, error, sizeof error),
                    error);
  }
  // Median seconds of a round; one before them is not counted.
  absl::StatusOr<double> Time(const std::function<absl::Status()>& work) const {
    std::vector<double> seconds;
    for (int round = -1; round < size_.rounds; ++round) {
      const auto begin = std::chrono::steady_clock::now();
      RETURN_IF_ERROR(work());
      const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
      if (round >= 0) seconds.push_back(took.count());
    }
    return Median(seconds);
  }
  double GigabytesPerSecond(double seconds) const {
    return static_cast<double>(size_.values) * sizeof(float) / seconds / 1e9;
  }

  void Measure(const std::string& name, double value, const std::string& unit) {
    results_.push_back({.suite = "gpu", .name = name, .value = value, .unit = unit});
  }
  void Goal(const std::string& name, double value, Relation relation, double target) {
    Measure(name, value, "ratio");
    if (target == 0) return;
    results_.back().kind = ResultKind::kGoal;
    results_.back().relation = relation;
    results_.back().target = target;
  }

  // θ̄ and θ of `n` values, and what is owed unless `decay` is negative.
  absl::StatusOr<Fragment> MakeFragment(CodecSpec codec, uint64_t n, float decay) const {
    LonghaulFragmentOptions options{};
    options.codec = static_cast<uint32_t>(codec.id);
    options.bits_milli = codec.bits_milli;
    options.chunk_elements = kChunkElements;
    options.elements = n;
    options.residual_decay = decay;
    char error[kErrorBytes] = "";
    LonghaulFragment* made = nullptr;
    RETURN_IF_ERROR(StatusOf(plugin_.fragment_make(&options, &made, error, sizeof error), error));
    Fragment fragment(made, FreeFragment{&plugin_});
    int result = plugin_.fragment_collect(made, 0, device_->floats(), n);
    for (uint64_t at = 0; at < n && result == 0; at += base_.size()) {
      const uint64_t part = std::min<uint64_t>(base_.size(), n - at);
      result = plugin_.fragment_write_base(made, at, base_.data(), part);
      if (decay >= 0 && result == 0) {
        result = plugin_.fragment_write_residual(made, at, owed_.data(), part);
      }
    }
    if (result != 0) return absl::InternalError("a copy to the device failed");
    return fragment;
  }
  absl::StatusOr<LonghaulCode> Encode(LonghaulFragment* fragment) const {
    LonghaulCode code{};
    char error[kErrorBytes] = "";
    RETURN_IF_ERROR(StatusOf(plugin_.fragment_encode(fragment, &code, error, sizeof error), error));
    return code;
  }

  // What error feedback gives to the codec (sync/error_feedback.h).
  float Owed(uint64_t i) const {
    const uint64_t at = i % base_.size();
    const float delta = base_[at] - local_[at], kept = kDecay * owed_[at];
    return kept + delta;
  }

  absl::StatusOr<bool> SameBytes(const Case& c) {
    ASSIGN_OR_RETURN(const Fragment fragment, MakeFragment(c.codec, size_.compared, kDecay));
    ASSIGN_OR_RETURN(const LonghaulCode code, Encode(fragment.get()));
    std::vector<float> e(size_.compared);
    for (uint64_t i = 0; i < e.size(); ++i) e[i] = Owed(i);
    const auto begin = std::chrono::steady_clock::now();
    const std::vector<std::byte> expected = OnProcessor(c.codec, e);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    processor_gbs_ = static_cast<double>(e.size()) * sizeof(float) / took.count() / 1e9;
    return expected.size() == code.size && std::memcmp(expected.data(), code.bytes, code.size) == 0;
  }
  static std::vector<std::byte> OnProcessor(CodecSpec spec, const std::vector<float>& e) {
    const auto codec = MakeCodec(spec);
    const auto plan =
        MakePlan(*codec, e.size(), kChunkElements, [&](uint64_t at, std::span<float> out) {
          std::copy_n(e.begin() + static_cast<ptrdiff_t>(at), out.size(), out.begin());
        });
    LONGHAUL_CHECK(plan.has_value(), "finite values");
    std::vector<std::byte> bytes, chunk;
    for (uint64_t at = 0; at < e.size(); at += kChunkElements) {
      const auto part = std::span(e).subspan(at, std::min<uint64_t>(kChunkElements, e.size() - at));
      chunk.resize(codec->EncodedBytes(part.size()));
      const auto used = codec->EncodeChunk(*plan, at, part, chunk);
      LONGHAUL_CHECK(used.has_value(), "finite values can be coded");
      bytes.insert(bytes.end(), chunk.begin(), chunk.begin() + static_cast<ptrdiff_t>(*used));
    }
    return bytes;
  }

  absl::Status Speeds(const Case& c) {
    const std::string name = c.name;
    ASSIGN_OR_RETURN(const Fragment plain, MakeFragment(c.codec, size_.values, -1));
    ASSIGN_OR_RETURN(const double plain_s, Time([&] { return Encode(plain.get()).status(); }));
    Goal(name + "_encode_to_device_copy", copy_s_ / plain_s, Relation::kAtLeast,
         c.codec.id == CodecId::kBitBudget ? 0 : 0.8);
    return SpeedsWithResidual(c);
  }
  absl::Status SpeedsWithResidual(const Case& c) {
    const std::string name = c.name;
    ASSIGN_OR_RETURN(const Fragment fragment, MakeFragment(c.codec, size_.values, kDecay));
    ASSIGN_OR_RETURN(const double fused_s, Time([&] { return Encode(fragment.get()).status(); }));
    const uint64_t before = plugin_.fragment_crossed(fragment.get());
    ASSIGN_OR_RETURN(const LonghaulCode code, Encode(fragment.get()));
    const auto crossed = static_cast<double>(plugin_.fragment_crossed(fragment.get()) - before);
    const double values = static_cast<double>(size_.values);
    Measure(name + "_fused_encode", GigabytesPerSecond(fused_s), "GB/s");
    Goal(name + "_fused_encode_to_device_copy", copy_s_ / fused_s, Relation::kAtLeast,
         c.fused_goal);
    Goal(name + "_coded_to_uncompressed_copy_time", fused_s / to_host_s_, Relation::kAtMost,
         c.host_goal);
    Measure(name + "_code", static_cast<double>(code.size) * 8 / values, "bits/value");
    Measure(name + "_crossed", crossed * 8 / values, "bits/value");
    Measure(name + "_encode_to_processor", GigabytesPerSecond(fused_s) / processor_gbs_, "ratio");
    const std::vector<uint8_t> bytes(code.bytes, code.bytes + code.size);
    const std::vector<uint32_t> sizes(code.sizes, code.sizes + code.chunks);
    const LonghaulCode own{bytes.data(), bytes.size(), sizes.data(), sizes.size()};
    char error[kErrorBytes] = "";
    auto* sum = reinterpret_cast<uint64_t*>(other_->floats());
    ASSIGN_OR_RETURN(const double add_s, Time([&] {
                       return StatusOf(plugin_.fragment_accumulate(fragment.get(), &own, 1, sum,
                                                                   error, sizeof error),
                                       error);
                     }));
    Measure(name + "_decode_add_to_device_copy", copy_s_ / add_s, "ratio");
    return absl::OkStatus();
  }

  const LonghaulCudaPlugin& plugin_;
  const Size size_;
  const std::vector<float> base_, local_, owed_;
  std::unique_ptr<Memory> device_, other_, host_;
  double copy_s_ = 0, to_host_s_ = 0;
  double processor_gbs_ = 0;  // of the codec at hand
  std::vector<Result> results_;
};

absl::StatusOr<std::vector<Result>> RunOn(const std::string& path, const Size& size) {
  ASSIGN_OR_RETURN(const LonghaulCudaPlugin* plugin, LoadCudaPlugin(path));
  uint64_t free_bytes = 0, total_bytes = 0;
  char error[kErrorBytes] = "";
  if (plugin->device_memory(0, &free_bytes, &total_bytes, error, sizeof error) != 0) {
    return absl::NotFoundError(absl::StrCat("no GPU: ", error));
  }
  Size fitting = size;  // 32 bytes a value are enough for all of them
  while (fitting.values > size.of_vector && 32 * fitting.values > free_bytes) fitting.values /= 2;
  fitting.compared = std::min(fitting.compared, fitting.values);
  return Suite(*plugin, fitting).Run();
}

}  // namespace

void AddGpu(CLI::App& app, Bench& bench) {
  CLI::App* suite = AddSuite(app, bench, "gpu", "Device codecs on a GPU (CUDA plug-in)");
  auto path = std::make_shared<std::string>(kCudaPluginName);
  suite->add_option("--plugin", *path, "the plug-in's file; else beside this program");
  suite->callback([path, &bench] {
    bench.run = [path, &bench]() -> std::vector<Result> {
      auto results = RunOn(*path, bench.quick ? kQuick : kFull);
      if (results.ok()) return *results;
      Result r{.suite = "gpu", .name = "bytes_equal", .unit = "bool", .target = 1};
      r.kind = ResultKind::kGate;
      r.note = std::string(results.status().message());
      return {r};
    };
  });
}

}  // namespace longhaul
