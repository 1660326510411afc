#include "worker/train/llama_trainer.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <malloc.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/rng.h"
#include "common/status_macros.h"
#include "model/parameter_table.h"
#include "worker/site/gradient_buckets.h"
#include "worker/train/inner_optimizer.h"
#include "worker/train/llama_model.h"

namespace longhaul {
namespace {

constexpr double kSampleTemperature = 0.8;
constexpr double kClipEpsilon = 1e-6;
constexpr uint16_t kLineEnd = 10;

// LibTorch's exceptions end here.
template <class Function>
auto Fenced(Function&& function) -> decltype(function()) {
  try {
    return function();
  } catch (const c10::OutOfMemoryError& e) {
    return absl::ResourceExhaustedError(
        absl::StrCat("out of memory; a smaller per_device_train_batch_size needs less: ",
                     e.what_without_backtrace()));
  } catch (const c10::Error& e) {
    return absl::InternalError(absl::StrCat("LibTorch: ", e.what_without_backtrace()));
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(
        "out of memory; a smaller per_device_train_batch_size needs less");
  } catch (const std::exception& e) {
    return absl::InternalError(absl::StrCat("LibTorch: ", e.what()));
  }
}

// Each step asks for the same large blocks again. By default the C library gives them back to the
// kernel and pays page faults to get them anew: 1,400 a step for a model of a million parameters,
// about 2 % of the time.
void KeepFreedMemory() {
  constexpr int kLargeBytes = 1 << 30;
  mallopt(M_MMAP_THRESHOLD, kLargeBytes);
  mallopt(M_TRIM_THRESHOLD, kLargeBytes);
}

// What is computed in it on CUDA has its products of matrices in bf16.
class Bf16Scope {
 public:
  explicit Bf16Scope(const at::Device& device) : on_(device.is_cuda()) {
    if (!on_) return;
    at::autocast::increment_nesting();
    at::autocast::set_autocast_dtype(at::kCUDA, at::kBFloat16);
    at::autocast::set_autocast_enabled(at::kCUDA, true);
  }
  ~Bf16Scope() {
    if (!on_) return;
    at::autocast::set_autocast_enabled(at::kCUDA, false);
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
  }
  Bf16Scope(const Bf16Scope&) = delete;
  Bf16Scope& operator=(const Bf16Scope&) = delete;

 private:
  const bool on_;
};

// As deterministic as CUDA's kernels can be; one that cannot says so and goes on.
void PreferDeterminism() {
  at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/true);
  at::globalContext().setBenchmarkCuDNN(false);
}

// Tells the buckets when a leaf's gradient is complete.
class ReadyHook final : public torch::autograd::PostAccumulateGradHook {
 public:
  ReadyHook(GradientBuckets& buckets, size_t parameter)
      : buckets_(buckets), parameter_(parameter) {}
  void operator()(const at::Tensor&) override { buckets_.Ready(parameter_); }

 private:
  GradientBuckets& buckets_;
  const size_t parameter_;
};

constexpr int64_t kStagingFloats = 1 << 20;

// Inputs and targets of whole sequences, row after row.
struct Batch {
  std::vector<int64_t> inputs, targets;
};

int64_t CountTargets(std::span<const int64_t> targets) {
  return static_cast<int64_t>(targets.size()) -
         std::count(targets.begin(), targets.end(), kIgnoredTarget);
}

// A view of host memory as a tensor; never written through.
template <class T>
at::Tensor HostView(std::span<const T> values, at::IntArrayRef sizes, at::ScalarType type) {
  return at::from_blob(const_cast<T*>(values.data()), sizes, type);
}

at::Tensor HostFloats(std::span<const float> values) {
  return HostView(values, {static_cast<int64_t>(values.size())}, at::kFloat);
}

// The token whose slice of the distribution holds `u` of [0, 1).
uint16_t Draw(std::span<const float> logits, double u) {
  const double highest = *std::max_element(logits.begin(), logits.end());
  std::vector<double> weights;
  double total = 0;
  for (float v : logits) {
    weights.push_back(std::exp((v - highest) / kSampleTemperature));
    total += weights.back();
  }
  double left = u * total;
  for (size_t i = 0; i < weights.size(); ++i) {
    left -= weights[i];
    if (left < 0) return static_cast<uint16_t>(i);
  }
  return static_cast<uint16_t>(weights.size() - 1);
}

}  // namespace

struct LlamaTrainer::State {
  State(const LlamaShape& s, const TrainOptions& o, const std::string& device_name)
      : shape(s), options(o), table(MakeParameterTable(s)), device(device_name), buckets(table) {
    if (device.is_cuda()) {
      PreferDeterminism();
      staging = at::empty({kStagingFloats}, at::TensorOptions(at::kFloat).pinned_memory(true));
    }
    flat =
        at::zeros({static_cast<int64_t>(table.elements)}, at::TensorOptions(at::kFloat)).to(device);
    gradient = at::zeros_like(flat);
    weights = ViewWeights(shape, table, flat, &gradient, [&](size_t i, const at::Tensor& leaf) {
      torch::autograd::impl::set_post_acc_grad_hooks(leaf, std::make_unique<ReadyHook>(buckets, i));
    });
    rotary = MakeRotaryTable(options.sequence_length, shape.head_size(), shape.rope_theta);
    rotary.cosine = rotary.cosine.to(device);
    rotary.sine = rotary.sine.to(device);
    optimizer = MakeInnerOptimizer(table, options.optimizer, flat);
  }

  absl::Status CheckTokens(std::span<const uint16_t> tokens) const {
    for (uint16_t t : tokens) {
      if (t >= shape.vocab_size) {
        return absl::InvalidArgumentError(
            absl::StrCat("token ", t, " is outside the vocabulary of ", shape.vocab_size));
      }
    }
    return absl::OkStatus();
  }

  absl::StatusOr<Batch> Cut(std::span<const uint16_t> tokens) const {
    if (tokens.empty() || tokens.size() % options.sample_tokens != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(tokens.size(), " tokens are not whole samples of ", options.sample_tokens));
    }
    RETURN_IF_ERROR(CheckTokens(tokens));
    Batch batch;
    batch.inputs.assign(tokens.begin(), tokens.end());
    batch.targets.assign(tokens.begin() + 1, tokens.end());
    batch.targets.push_back(kIgnoredTarget);
    for (size_t last = options.sample_tokens - 1; last < tokens.size();
         last += options.sample_tokens) {
      batch.targets[last] = kIgnoredTarget;
    }
    return batch;
  }

  absl::Status CheckRows(std::span<const int64_t> inputs, std::span<const int64_t> targets) const {
    if (inputs.empty() || inputs.size() != targets.size() ||
        inputs.size() % options.sequence_length != 0) {
      return absl::InvalidArgumentError("inputs and targets must be whole sequences");
    }
    if (CountTargets(targets) == 0) return absl::InvalidArgumentError("a batch without a target");
    return absl::OkStatus();
  }

  // Sum of the loss over one micro-batch's targets.
  at::Tensor LossSum(const LlamaWeights& w, std::span<const int64_t> inputs,
                     std::span<const int64_t> targets) const {
    const int64_t length = options.sequence_length;
    const int64_t rows = static_cast<int64_t>(inputs.size()) / length;
    const at::Tensor tokens = HostView(inputs, {rows, length}, at::kLong).to(device);
    const at::Tensor wanted = HostView(targets, {rows * length}, at::kLong).to(device);
    const Bf16Scope scope(device);
    return at::cross_entropy_loss(LlamaLogits(shape, w, rotary, tokens), wanted, {},
                                  at::Reduction::Sum, kIgnoredTarget);
  }

  // Calls `use(sum of losses, targets in it)` for each micro-batch and returns the mean loss.
  template <class Use>
  StepOutput ForMicroBatches(const LlamaWeights& w, std::span<const int64_t> inputs,
                             std::span<const int64_t> targets, Use&& use) const {
    const size_t micro = size_t{options.micro_batch_size} * options.sequence_length;
    const int64_t total = CountTargets(targets);
    double sum = 0;
    for (size_t at = 0; at < inputs.size(); at += micro) {
      const size_t n = std::min(micro, inputs.size() - at);
      const at::Tensor loss = LossSum(w, inputs.subspan(at, n), targets.subspan(at, n));
      sum += loss.item<float>();
      use(loss);
    }
    return {sum / static_cast<double>(total), static_cast<uint64_t>(total)};
  }

  // The gradient of the mean over ALL targets, whatever the micro-batches.
  StepOutput Backward(std::span<const int64_t> inputs, std::span<const int64_t> targets) {
    gradient.zero_();
    const at::Tensor share =
        at::full({}, 1.0 / static_cast<double>(CountTargets(targets)), flat.options());
    return ForMicroBatches(weights, inputs, targets,
                           [&](const at::Tensor& loss) { loss.backward(share); });
  }

  // This rank's part of a gradient over `all_targets` targets; the last micro-batch gives its
  // buckets to the sums while it goes backward. Its share of the mean loss.
  double BackwardPart(const Batch& batch, uint64_t all_targets, DeviceGroup& sums) {
    gradient.zero_();
    const double per_target = 1.0 / static_cast<double>(all_targets);
    const at::Tensor share = at::full({}, per_target, flat.options());
    const std::span<float> whole(gradient.mutable_data_ptr<float>(), table.elements);
    const size_t micro = size_t{options.micro_batch_size} * options.sequence_length;
    double sum = 0;
    for (size_t at = 0; at < batch.inputs.size(); at += micro) {
      const size_t n = std::min(micro, batch.inputs.size() - at);
      const at::Tensor loss = LossSum(weights, std::span(batch.inputs).subspan(at, n),
                                      std::span(batch.targets).subspan(at, n));
      sum += loss.item<float>();
      if (at + n == batch.inputs.size()) buckets.Begin(sums, whole);
      loss.backward(share);
    }
    if (batch.inputs.empty()) buckets.Begin(sums, whole);
    buckets.Finish();
    return sum * per_target;
  }

  // θ and host memory; through pinned memory where the device is not the host.
  void Write(at::Tensor to, std::span<const float> values) {
    if (!staging.defined()) {
      to.copy_(HostFloats(values));
      return;
    }
    for (size_t at = 0; at < values.size(); at += kStagingFloats) {
      const std::span<const float> part =
          values.subspan(at, std::min<size_t>(kStagingFloats, values.size() - at));
      const auto n = static_cast<int64_t>(part.size());
      at::Tensor pinned = staging.narrow(0, 0, n);
      pinned.copy_(HostFloats(part));
      to.narrow(0, static_cast<int64_t>(at), n).copy_(pinned);
    }
  }
  void Read(const at::Tensor& from, std::span<float> out) const {
    if (!staging.defined()) {
      HostFloats(out).copy_(from);
      return;
    }
    for (size_t at = 0; at < out.size(); at += kStagingFloats) {
      const std::span<float> part =
          out.subspan(at, std::min<size_t>(kStagingFloats, out.size() - at));
      const auto n = static_cast<int64_t>(part.size());
      at::Tensor pinned = staging.narrow(0, 0, n);
      pinned.copy_(from.narrow(0, static_cast<int64_t>(at), n));
      HostFloats(part).copy_(pinned);
    }
  }

  // Clips `gradient` and makes the step; false, and no step, when its norm is not finite.
  bool Update(uint64_t step) {
    at::NoGradGuard no_gradient;
    gradient_norm = at::linalg_vector_norm(gradient).item<float>();
    if (!std::isfinite(gradient_norm)) return false;
    const double limit = options.optimizer.max_grad_norm;
    const double scale = limit / (gradient_norm + kClipEpsilon);
    if (limit > 0 && scale < 1) gradient.mul_(scale);
    optimizer->Step(flat, gradient, ScheduleFactor(options.optimizer, step));
    return true;
  }

  // Everything in the inner state that is not a count.
  std::vector<at::Tensor> Moments() const {
    std::vector<at::Tensor> moments = optimizer->State();
    std::erase_if(moments, [](const at::Tensor& t) { return t.dim() == 0; });
    return moments;
  }

  // A second set of weights, alive as long as the result.
  LlamaWeights Load(std::span<const float> values) const {
    LONGHAUL_CHECK(values.size() == table.elements, "wrong number of parameters");
    return ViewWeights(shape, table, HostFloats(values).to(device, at::kFloat, false, true),
                       nullptr);
  }

  std::vector<float> LogitsOf(const LlamaWeights& w, std::span<const uint16_t> tokens) const {
    at::NoGradGuard no_gradient;
    const std::vector<int64_t> wide(tokens.begin(), tokens.end());
    const at::Tensor input =
        HostView(std::span(wide), {1, static_cast<int64_t>(wide.size())}, at::kLong).to(device);
    const at::Tensor logits = LlamaLogits(shape, w, rotary, input).cpu().contiguous();
    const float* first = logits.const_data_ptr<float>();
    return std::vector<float>(first, first + logits.numel());
  }

  at::Tensor Slice(uint64_t offset, size_t elements) const {
    LONGHAUL_CHECK(offset <= table.elements && elements <= table.elements - offset,
                   "slice outside the parameters");
    return flat.narrow(0, static_cast<int64_t>(offset), static_cast<int64_t>(elements));
  }

  const LlamaShape shape;
  const TrainOptions options;
  const ParameterTable table;
  const at::Device device;
  at::Tensor flat, gradient;
  LlamaWeights weights;  // views into both
  RotaryTable rotary;
  at::Tensor staging;  // pinned; on CUDA only
  std::unique_ptr<InnerOptimizer> optimizer;
  GradientBuckets buckets;
  double gradient_norm = 0;
};

LlamaTrainer::LlamaTrainer(std::unique_ptr<State> state) : state_(std::move(state)) {}
LlamaTrainer::~LlamaTrainer() = default;

absl::StatusOr<std::unique_ptr<LlamaTrainer>> LlamaTrainer::Make(const LlamaShape& shape,
                                                                 const TrainOptions& options,
                                                                 const std::string& device) {
  RETURN_IF_ERROR(ValidateTrainOptions(shape, options));
  return Fenced([&]() -> absl::StatusOr<std::unique_ptr<LlamaTrainer>> {
    KeepFreedMemory();
    at::set_num_threads(static_cast<int>(options.threads));
    return std::unique_ptr<LlamaTrainer>(
        new LlamaTrainer(std::make_unique<State>(shape, options, device)));
  });
}

uint64_t LlamaTrainer::parameters() const { return state_->table.elements; }

void LlamaTrainer::SetParameters(uint64_t offset, std::span<const float> values) {
  state_->Write(state_->Slice(offset, values.size()), values);
}

void LlamaTrainer::GetParameters(uint64_t offset, std::span<float> out) const {
  state_->Read(state_->Slice(offset, out.size()), out);
}

void LlamaTrainer::ResetInnerState() { state_->optimizer->Reset(); }

std::string LlamaTrainer::SaveInnerState() const { return state_->optimizer->Save(); }

absl::Status LlamaTrainer::LoadInnerState(std::string_view bytes) {
  return Fenced([&] { return state_->optimizer->Load(bytes); });
}

double LlamaTrainer::gradient_norm() const { return state_->gradient_norm; }

uint64_t LlamaTrainer::MomentElements() const {
  uint64_t elements = 0;
  for (const at::Tensor& t : state_->Moments()) elements += static_cast<uint64_t>(t.numel());
  return elements;
}

void LlamaTrainer::GetMoments(std::span<float> out) const {
  LONGHAUL_CHECK(out.size() == MomentElements(), "wrong number of moments");
  for (const at::Tensor& t : state_->Moments()) {
    const auto n = static_cast<size_t>(t.numel());
    HostFloats(out.first(n)).copy_(t);
    out = out.subspan(n);
  }
}

void LlamaTrainer::SetMoments(std::span<const float> values) {
  LONGHAUL_CHECK(values.size() == MomentElements(), "wrong number of moments");
  for (const at::Tensor& t : state_->Moments()) {
    const auto n = static_cast<size_t>(t.numel());
    t.copy_(HostFloats(values.first(n)));
    values = values.subspan(n);
  }
}

absl::StatusOr<StepOutput> LlamaTrainer::Step(const StepInput& input) {
  ASSIGN_OR_RETURN(Batch batch, state_->Cut(input.tokens));
  return StepOnBatch(input.step, batch.inputs, batch.targets);
}

absl::StatusOr<StepOutput> LlamaTrainer::StepOnBatch(uint64_t step, std::span<const int64_t> inputs,
                                                     std::span<const int64_t> targets) {
  RETURN_IF_ERROR(state_->CheckRows(inputs, targets));
  return Fenced([&]() -> absl::StatusOr<StepOutput> {
    const StepOutput output = state_->Backward(inputs, targets);
    if (std::isfinite(output.loss)) state_->Update(step);
    return output;
  });
}

uint64_t LlamaTrainer::Targets(const StepInput& input) const {
  const uint32_t sample = state_->options.sample_tokens;
  return input.tokens.size() / sample * (sample - 1);
}

absl::StatusOr<double> LlamaTrainer::Backward(const StepInput& input, uint64_t all_targets,
                                              DeviceGroup& sums) {
  Batch batch;
  if (!input.tokens.empty()) {
    ASSIGN_OR_RETURN(batch, state_->Cut(input.tokens));
    RETURN_IF_ERROR(state_->CheckRows(batch.inputs, batch.targets));
  }
  return Fenced(
      [&]() -> absl::StatusOr<double> { return state_->BackwardPart(batch, all_targets, sums); });
}

absl::Status LlamaTrainer::Update(uint64_t step) {
  return Fenced([&]() -> absl::Status {
    state_->Update(step);  // false: the norm is not finite, and nothing was changed
    return absl::OkStatus();
  });
}

absl::StatusOr<StepOutput> LlamaTrainer::LossAndGradient(std::span<const int64_t> inputs,
                                                         std::span<const int64_t> targets,
                                                         std::span<float> gradient) {
  LONGHAUL_CHECK(gradient.size() == parameters(), "wrong number of parameters");
  RETURN_IF_ERROR(state_->CheckRows(inputs, targets));
  return Fenced([&]() -> absl::StatusOr<StepOutput> {
    const StepOutput output = state_->Backward(inputs, targets);
    HostFloats(gradient).copy_(state_->gradient);
    return output;
  });
}

absl::Status LlamaTrainer::ApplyGradient(uint64_t step, std::span<const float> gradient) {
  LONGHAUL_CHECK(gradient.size() == parameters(), "wrong number of parameters");
  return Fenced([&]() -> absl::Status {
    state_->gradient.copy_(HostFloats(gradient));
    return state_->Update(step) ? absl::OkStatus()
                                : absl::InvalidArgumentError("the gradient is not finite");
  });
}

absl::StatusOr<StepOutput> LlamaTrainer::Evaluate(std::span<const float> values,
                                                  std::span<const uint16_t> tokens) {
  ASSIGN_OR_RETURN(Batch batch, state_->Cut(tokens));
  return EvaluateOnBatch(values, batch.inputs, batch.targets);
}

absl::StatusOr<StepOutput> LlamaTrainer::EvaluateOnBatch(std::span<const float> values,
                                                         std::span<const int64_t> inputs,
                                                         std::span<const int64_t> targets) {
  RETURN_IF_ERROR(state_->CheckRows(inputs, targets));
  return Fenced([&]() -> absl::StatusOr<StepOutput> {
    at::NoGradGuard no_gradient;
    return state_->ForMicroBatches(state_->Load(values), inputs, targets, [](const at::Tensor&) {});
  });
}

absl::StatusOr<std::vector<uint16_t>> LlamaTrainer::Sample(std::span<const float> values,
                                                           std::span<const uint16_t> prompt,
                                                           uint32_t count, uint64_t seed) {
  RETURN_IF_ERROR(state_->CheckTokens(prompt));
  std::vector<uint16_t> text(prompt.begin(), prompt.end());
  if (text.empty()) text.push_back(kLineEnd < state_->shape.vocab_size ? kLineEnd : 0);
  const size_t first = text.size();
  return Fenced([&]() -> absl::StatusOr<std::vector<uint16_t>> {
    const LlamaWeights weights = state_->Load(values);
    for (uint32_t i = 0; i < count; ++i) {
      const size_t context = std::min<size_t>(text.size(), state_->options.sequence_length - 1);
      const std::vector<float> logits = state_->LogitsOf(weights, std::span(text).last(context));
      const double u = static_cast<double>(longhaul::Draw(seed, {i}) >> 11) * 0x1p-53;
      text.push_back(Draw(std::span(logits).last(state_->shape.vocab_size), u));
    }
    return std::vector<uint16_t>(text.begin() + static_cast<int64_t>(first), text.end());
  });
}

absl::StatusOr<std::vector<float>> LlamaTrainer::Logits(std::span<const float> values,
                                                        std::span<const uint16_t> tokens) {
  if (tokens.empty() || tokens.size() > state_->options.sequence_length) {
    return absl::InvalidArgumentError("logits: 1 to sequence_length tokens");
  }
  RETURN_IF_ERROR(state_->CheckTokens(tokens));
  return Fenced([&]() -> absl::StatusOr<std::vector<float>> {
    return state_->LogitsOf(state_->Load(values), tokens);
  });
}

absl::StatusOr<std::unique_ptr<GradientTrainer>> MakeLlamaTrainer(const LlamaShape& shape,
                                                                  const TrainOptions& options,
                                                                  const std::string& device) {
  ASSIGN_OR_RETURN(std::unique_ptr<LlamaTrainer> trainer,
                   LlamaTrainer::Make(shape, options, device));
  return std::unique_ptr<GradientTrainer>(std::move(trainer));
}

}  // namespace longhaul
