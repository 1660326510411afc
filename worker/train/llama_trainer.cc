#include "worker/train/llama_trainer.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <malloc.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/rng.h"
#include "common/status_macros.h"
#include "model/parameter_table.h"
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
      : shape(s), options(o), table(MakeParameterTable(s)), device(device_name) {
    flat =
        at::zeros({static_cast<int64_t>(table.elements)}, at::TensorOptions(at::kFloat)).to(device);
    gradient = at::zeros_like(flat);
    weights = ViewWeights(shape, table, flat, &gradient);
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
  std::unique_ptr<InnerOptimizer> optimizer;
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
  state_->Slice(offset, values.size()).copy_(HostFloats(values));
}

void LlamaTrainer::GetParameters(uint64_t offset, std::span<float> out) const {
  HostFloats(out).copy_(state_->Slice(offset, out.size()));
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

absl::StatusOr<std::unique_ptr<Trainer>> MakeLlamaTrainer(const LlamaShape& shape,
                                                          const TrainOptions& options,
                                                          const std::string& device) {
  ASSIGN_OR_RETURN(std::unique_ptr<LlamaTrainer> trainer,
                   LlamaTrainer::Make(shape, options, device));
  return std::unique_ptr<Trainer>(std::move(trainer));
}

}  // namespace longhaul
