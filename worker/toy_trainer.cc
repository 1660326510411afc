#include "worker/toy_trainer.h"

#include <algorithm>
#include <vector>

#include "common/hash.h"
#include "common/rng.h"
#include "proto/run_config.h"

namespace longhaul {
namespace {

class ToyTrainer : public Trainer {
 public:
  explicit ToyTrainer(const ToyOptions& options) : options_(options), theta_(options.parameters) {}

  uint64_t parameters() const override { return theta_.size(); }

  void SetParameters(uint64_t offset, std::span<const float> values) override {
    std::copy(values.begin(), values.end(), theta_.begin() + static_cast<ptrdiff_t>(offset));
  }

  void GetParameters(uint64_t offset, std::span<float> out) const override {
    std::copy_n(theta_.begin() + static_cast<ptrdiff_t>(offset), out.size(), out.begin());
  }

  void ResetInnerState() override {}

  absl::StatusOr<StepOutput> Step(const StepInput& input) override {
    if (options_.wait) options_.wait();
    StepOutput out;
    if (input.tokens.empty()) {
      for (uint64_t position : input.positions) Learn(position, out);
    } else {
      for (size_t at = 0; at < input.tokens.size(); at += kSampleTokens)
        Learn(Xxh3(std::as_bytes(input.tokens.subspan(at, kSampleTokens))), out);
    }
    if (out.targets > 0) out.loss /= static_cast<double>(out.targets);
    return out;
  }

  absl::StatusOr<StepOutput> Evaluate(std::span<const float> values,
                                      std::span<const uint16_t>) override {
    double loss = 0;
    constexpr uint64_t kPositions = 8;  // far behind every training position
    for (uint64_t p = 0; p < kPositions; ++p) loss += Loss(values, ~p);
    return StepOutput{loss / kPositions, kPositions};
  }

  absl::StatusOr<std::vector<uint16_t>> Sample(std::span<const float>, std::span<const uint16_t>,
                                               uint32_t, uint64_t) override {
    return std::vector<uint16_t>{};
  }

 private:
  void Learn(uint64_t sample, StepOutput& out) {
    out.loss += Loss(theta_, sample);
    for (size_t i = 0; i < theta_.size(); ++i) {
      theta_[i] += options_.learning_rate * (Target(sample, i) - theta_[i]);
    }
    ++out.targets;
  }

  float Target(uint64_t sample, uint64_t i) const {
    const auto bits =
        static_cast<int32_t>(Draw(options_.seed, {sample, i}) >> 40);  // 24 bits: exact in a float
    return static_cast<float>(bits - (1 << 23)) * 0x1p-23f;
  }

  double Loss(std::span<const float> values, uint64_t sample) const {
    double sum = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      const double d = static_cast<double>(Target(sample, i)) - static_cast<double>(values[i]);
      sum += d * d;
    }
    return sum / static_cast<double>(values.size());
  }

  const ToyOptions options_;
  std::vector<float> theta_;
};

}  // namespace

std::unique_ptr<Trainer> MakeToyTrainer(const ToyOptions& options) {
  return std::make_unique<ToyTrainer>(options);
}

}  // namespace longhaul
