#include "bench/trainer_speed.h"

#include <chrono>
#include <exception>
#include <string>
#include <vector>

#include "bench/bare_llama.h"
#include "common/rng.h"
#include "common/status_macros.h"
#include "model/parameter_table.h"
#include "worker/train/llama_trainer.h"

namespace longhaul {
namespace {

constexpr uint64_t kSeed = 7;
constexpr uint32_t kTokens = kBenchBatch * kBenchLength;
static_assert(kTokens == kSampleTokens, "a step takes one sample");

TrainOptions Options(uint32_t threads) {
  TrainOptions o;
  o.optimizer.schedule = LearningRateSchedule::kConstant;
  o.optimizer.warmup_steps = 0;
  o.micro_batch_size = kBenchBatch;
  o.sequence_length = kBenchLength;
  o.threads = threads;
  return o;
}

std::vector<uint16_t> RandomTokens(uint32_t vocabulary) {
  std::vector<uint16_t> tokens;
  for (uint64_t i = 0; i < kTokens; ++i) {
    tokens.push_back(static_cast<uint16_t>(Draw(kSeed, {i}) % vocabulary));
  }
  return tokens;
}

class Pair final : public TrainerSpeed {
 public:
  Pair(const LlamaShape& shape, const TrainOptions& options, std::unique_ptr<LlamaTrainer> trainer)
      : tokens_(RandomTokens(shape.vocab_size)), trainer_(std::move(trainer)) {
    const std::vector<float> first = InitialParameters(MakeParameterTable(shape), kSeed);
    trainer_->SetParameters(0, first);
    const OptimizerOptions& o = options.optimizer;
    const std::vector<int64_t> inputs(tokens_.begin(), tokens_.end());
    std::vector<int64_t> targets(tokens_.begin() + 1, tokens_.end());
    targets.push_back(kIgnoredTarget);
    bare_ = std::make_unique<BareLlama>(
        shape, first,
        BareRates{o.learning_rate, o.beta1, o.beta2, o.epsilon, o.weight_decay, o.max_grad_norm},
        inputs, targets, kBenchLength);
  }

  absl::StatusOr<Window> Longhaul(uint32_t steps) override {
    return Timed(steps, [this]() -> absl::StatusOr<double> {
      const uint64_t position = 0;
      ASSIGN_OR_RETURN(StepOutput out, trainer_->Step({step_++, {&position, 1}, tokens_}));
      return out.loss;
    });
  }

  absl::StatusOr<Window> Bare(uint32_t steps) override {
    return Timed(steps, [this]() -> absl::StatusOr<double> {
      try {
        return bare_->Step();
      } catch (const std::exception& e) {
        return absl::InternalError(std::string("LibTorch: ") + e.what());
      }
    });
  }

 private:
  template <class Step>
  static absl::StatusOr<Window> Timed(uint32_t steps, Step&& step) {
    Window window;
    const auto start = std::chrono::steady_clock::now();
    for (uint32_t i = 0; i < steps; ++i) {
      ASSIGN_OR_RETURN(window.loss, step());
    }
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    window.tokens_per_second = steps * kTokens / took.count();
    return window;
  }

  const std::vector<uint16_t> tokens_;
  std::unique_ptr<LlamaTrainer> trainer_;
  std::unique_ptr<BareLlama> bare_;
  uint64_t step_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<TrainerSpeed>> TrainerSpeed::Make(const LlamaShape& shape,
                                                                 uint32_t threads) {
  const TrainOptions options = Options(threads);
  ASSIGN_OR_RETURN(std::unique_ptr<LlamaTrainer> trainer,
                   LlamaTrainer::Make(shape, options, "cpu"));
  try {
    return std::make_unique<Pair>(shape, options, std::move(trainer));
  } catch (const std::exception& e) {
    return absl::InternalError(std::string("LibTorch: ") + e.what());
  }
}

}  // namespace longhaul
