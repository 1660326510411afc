#include "worker/train/pcn_trainer.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/log.h"
#include "common/status_macros.h"
#include "model/parameter_table.h"
#include "pcn/rules/autograd_layer.h"
#include "pcn/rules/rule.h"
#include "pcn/rules/spectrum.h"
#include "worker/pcn_options.h"
#include "worker/train/inner_optimizer.h"
#include "worker/train/llama_model.h"
#include "worker/train/llama_trainer.h"

namespace longhaul {
namespace {

constexpr double kClipEpsilon = 1e-6;

// ---- the model as a chain of layers ----

class EmbeddingLayer final : public pcn::Layer {
 public:
  explicit EmbeddingLayer(const LlamaShape& s) : shape_(s) {}
  std::vector<pcn::ParameterSpec> Parameters() const override {
    return {{"embedding", {shape_.vocab_size, shape_.hidden_size}}};
  }
  at::Tensor Predict(pcn::LayerWeights w, const at::Tensor& in, pcn::Tape* tape) const override {
    const at::Tensor tokens = in.reshape({-1});
    if (tape != nullptr) tape->saved = {tokens};
    return at::embedding(w[0], tokens);
  }
  at::Tensor Credit(pcn::LayerWeights, const pcn::Tape& tape, const at::Tensor& error, bool,
                    pcn::LayerWeights gradient) const override {
    if (!gradient.empty()) gradient[0].index_add_(0, tape.saved[0], error);
    return {};
  }

 private:
  const LlamaShape shape_;
};

class BlockLayer final : public pcn::AutogradLayer {
 public:
  BlockLayer(const LlamaShape& s, const RotaryTable& rotary, int64_t positions)
      : shape_(s), rotary_(rotary), positions_(positions) {}
  std::vector<pcn::ParameterSpec> Parameters() const override {
    const int64_t d = shape_.hidden_size, kv = shape_.key_value_size();
    const int64_t m = shape_.intermediate_size;
    return {{"attention_norm", {d}}, {"mlp_norm", {d}}, {"q", {d, d}},
            {"k", {kv, d}},          {"v", {kv, d}},    {"o", {d, d}},
            {"gate", {m, d}},        {"up", {m, d}},    {"down", {d, m}}};
  }

 protected:
  at::Tensor Forward(pcn::LayerWeights w, const at::Tensor& x) const override {
    const LlamaLayerWeights weights{w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7], w[8]};
    return LlamaBlock(shape_, weights, rotary_, x.contiguous(), positions_);
  }

 private:
  const LlamaShape shape_;
  const RotaryTable rotary_;
  const int64_t positions_;
};

class HeadLayer final : public pcn::AutogradLayer {
 public:
  explicit HeadLayer(const LlamaShape& s) : shape_(s) {}
  std::vector<pcn::ParameterSpec> Parameters() const override {
    return {{"norm", {shape_.hidden_size}}, {"head", {shape_.vocab_size, shape_.hidden_size}}};
  }

 protected:
  at::Tensor Forward(pcn::LayerWeights w, const at::Tensor& x) const override {
    return at::linear(RmsNorm(x.contiguous(), w[0], shape_.rms_norm_eps), w[1]);
  }

 private:
  const LlamaShape shape_;
};

pcn::Network MakeNetwork(const LlamaShape& s, const RotaryTable& rotary, int64_t positions) {
  pcn::Network::Layers layers = {std::make_shared<EmbeddingLayer>(s)};
  for (uint32_t l = 0; l < s.num_hidden_layers; ++l) {
    layers.push_back(std::make_shared<BlockLayer>(s, rotary, positions));
  }
  layers.push_back(std::make_shared<HeadLayer>(s));
  absl::StatusOr<pcn::Network> network = pcn::Network::Make(std::move(layers));
  LONGHAUL_CHECK(network.ok(), "a Llama model has layers");
  return *std::move(network);
}

// The chain's views in the parameter table's order, which is not the chain's.
pcn::Weights ViewChain(const LlamaShape& s, const ParameterTable& table, const at::Tensor& flat) {
  const LlamaWeights w = ViewWeights(s, table, flat, nullptr);
  pcn::Weights chain{flat, {{w.embedding}}};
  for (const LlamaLayerWeights& l : w.layers) {
    chain.of_layer.push_back(
        {l.attention_norm, l.mlp_norm, l.q, l.k, l.v, l.o, l.gate, l.up, l.down});
  }
  chain.of_layer.push_back({w.final_norm, w.head});
  return chain;
}

template <class Function>
auto Fenced(Function&& function) -> decltype(function()) {
  try {
    return function();
  } catch (const c10::OutOfMemoryError& e) {
    return absl::ResourceExhaustedError(
        absl::StrCat("out of memory: ", e.what_without_backtrace()));
  } catch (const c10::Error& e) {
    return absl::InternalError(absl::StrCat("LibTorch: ", e.what_without_backtrace()));
  } catch (const std::exception& e) {
    return absl::InternalError(absl::StrCat("LibTorch: ", e.what()));
  }
}

struct MicroBatch {
  std::vector<int64_t> inputs, labels;
  int64_t targets() const {
    const auto none = std::count(labels.begin(), labels.end(), pcn::kNoLabel);
    return static_cast<int64_t>(labels.size()) - none;
  }
};

RotaryTable RotaryOn(const LlamaShape& s, int64_t positions, const at::Device& device) {
  RotaryTable table = MakeRotaryTable(positions, s.head_size(), s.rope_theta);
  return {table.cosine.to(device), table.sine.to(device)};
}

}  // namespace

class PcnTrainer::State {
 public:
  State(const LlamaShape& s, const TrainOptions& o, const std::string& device_name,
        pcn::CreditRule credit_rule)
      : shape(s),
        options(o),
        device_text(device_name),
        table(MakeParameterTable(s)),
        device(device_name),
        network(MakeNetwork(s, RotaryOn(s, o.sequence_length, device), o.sequence_length)),
        weights(ViewChain(s, table, Zeros())),
        gradient(ViewChain(s, table, Zeros())),
        sum(Zeros()),
        optimizer(MakeInnerOptimizer(table, o.optimizer, weights.flat)),
        rule(std::move(credit_rule)) {}

  // A token's target is the next one; the last token of a sample has none.
  absl::StatusOr<std::vector<MicroBatch>> Cut(std::span<const uint16_t> tokens) const {
    if (tokens.empty() || tokens.size() % options.sample_tokens != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(tokens.size(), " tokens are not whole samples of ", options.sample_tokens));
    }
    const size_t most = size_t{options.micro_batch_size} * options.sequence_length;
    std::vector<MicroBatch> parts;
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (tokens[i] >= shape.vocab_size) {
        return absl::InvalidArgumentError(
            absl::StrCat("token ", tokens[i], " is outside the vocabulary of ", shape.vocab_size));
      }
      if (i % most == 0) parts.emplace_back();
      parts.back().inputs.push_back(tokens[i]);
      const bool is_last = (i + 1) % options.sample_tokens == 0;
      parts.back().labels.push_back(is_last ? pcn::kNoLabel : tokens[i + 1]);
    }
    return parts;
  }

  absl::StatusOr<StepOutput> Step(uint64_t step, const std::vector<MicroBatch>& parts) {
    at::NoGradGuard no_gradient;
    int64_t total = 0;
    for (const MicroBatch& part : parts) total += part.targets();
    sum.zero_();
    double loss = 0;
    const bool incremental = rule.options().rule == pcn::Rule::kIpc;
    // The schedule counts weight updates.
    uint64_t update = step * (incremental ? parts.size() * rule.options().sweeps : 1);
    for (const MicroBatch& part : parts) {
      if (part.targets() == 0) continue;
      ASSIGN_OR_RETURN(pcn::Batch batch, Load(part));
      batch.rows = static_cast<double>(incremental ? part.targets() : total);
      Guard(batch);
      const pcn::BatchReport report = rule.RunBatch(network, weights, batch, gradient, [&] {
        if (incremental) return ClipAndUpdate(gradient.flat, update++);
        sum.add_(gradient.flat);
      });
      loss += report.loss * batch.rows / static_cast<double>(total);
      if (report.diverged) Diverged(report);
    }
    if (!incremental && std::isfinite(loss)) ClipAndUpdate(sum, update);
    return StepOutput{loss, static_cast<uint64_t>(total)};
  }

  at::Tensor Slice(uint64_t offset, size_t elements) const {
    LONGHAUL_CHECK(offset <= table.elements && elements <= table.elements - offset,
                   "slice outside the parameters");
    return weights.flat.narrow(0, static_cast<int64_t>(offset), static_cast<int64_t>(elements));
  }

  const LlamaShape shape;
  const TrainOptions options;
  const std::string device_text;
  const ParameterTable table;
  const at::Device device;
  const pcn::Network network;
  const pcn::Weights weights, gradient;
  const at::Tensor sum;  // of the micro-batches' gradients
  std::unique_ptr<InnerOptimizer> optimizer;
  pcn::CreditRule rule;
  PcnEvents events;

 private:
  at::Tensor Zeros() const {
    return at::zeros({static_cast<int64_t>(table.elements)}, at::TensorOptions(at::kFloat))
        .to(device);
  }

  absl::StatusOr<pcn::Batch> Load(const MicroBatch& part) const {
    pcn::Batch batch;
    ASSIGN_OR_RETURN(batch.target, pcn::OneHot(part.labels, shape.vocab_size, at::kFloat));
    batch.target = batch.target.to(device);
    batch.input = at::from_blob(const_cast<int64_t*>(part.inputs.data()),
                                {static_cast<int64_t>(part.inputs.size())}, at::kLong)
                      .clone()
                      .to(device);
    return batch;
  }

  // Free states only: the other rules cannot diverge from too large a rate.
  void Guard(const pcn::Batch& batch) {
    const pcn::Rule kind = rule.options().rule;
    if (kind != pcn::Rule::kSpc && kind != pcn::Rule::kIpc && kind != pcn::Rule::kPcAlm) return;
    const pcn::SpectralGuard::Look look = guard_.Check(
        batches_++, network, weights, batch.input,
        {pcn::OutputLoss::kCrossEntropy, batch.target, rule.options().output_weight}, rule.rate());
    if (!look.looked) return;
    events.rate_times_lambda = look.product;
    if (!look.event) return;
    LogWarning(absl::StrCat("predictive coding: rate x lambda_max is ", look.product,
                            "; states converge slowly above 1 and diverge above 2"));
    if (look.rate_scale < 1) {
      rule.ScaleRate(look.rate_scale);
      ++events.rate_reductions;
      LogWarning(absl::StrCat("predictive coding: the rate is now ", rule.rate()));
    }
  }

  void Diverged(const pcn::BatchReport& report) {
    constexpr double kSmaller = 0.5;
    ++events.diverged;
    rule.ScaleRate(kSmaller);
    ++events.rate_reductions;
    LogWarning(absl::StrCat("predictive coding: inference diverged (energy ", report.energy_before,
                            " to ", report.energy_after, "); left out, the rate is now ",
                            rule.rate()));
  }

  void ClipAndUpdate(const at::Tensor& g, uint64_t update) {
    const double norm = at::linalg_vector_norm(g).item<float>();
    if (!std::isfinite(norm)) return;
    const double limit = options.optimizer.max_grad_norm;
    const double scale = limit / (norm + kClipEpsilon);
    if (limit > 0 && scale < 1) g.mul_(scale);
    optimizer->Step(weights.flat, g, ScheduleFactor(options.optimizer, update));
  }

  pcn::SpectralGuard guard_{{}};
  uint64_t batches_ = 0;
};

uint64_t PcnMemoryBytes(const LlamaShape& shape, const TrainOptions& options) {
  const uint64_t rows = uint64_t{options.micro_batch_size} * options.sequence_length;
  const uint64_t states = 4 * uint64_t{shape.num_hidden_layers + 1} * shape.hidden_size;
  return sizeof(float) * (ParameterCount(shape) + rows * (states + 2 * shape.vocab_size));
}

PcnTrainer::PcnTrainer(std::unique_ptr<State> state) : state_(std::move(state)) {}
PcnTrainer::~PcnTrainer() = default;

absl::StatusOr<std::unique_ptr<PcnTrainer>> PcnTrainer::Make(const LlamaShape& shape,
                                                             const TrainOptions& options,
                                                             const PcnSection& pcn,
                                                             const std::string& device) {
  RETURN_IF_ERROR(ValidateTrainOptions(shape, options));
  ASSIGN_OR_RETURN(pcn::RuleOptions options_of_rule, RuleOptionsFrom(pcn));
  ASSIGN_OR_RETURN(pcn::CreditRule rule,
                   pcn::CreditRule::Make(options_of_rule, pcn::OutputLoss::kCrossEntropy));
  return Fenced([&]() -> absl::StatusOr<std::unique_ptr<PcnTrainer>> {
    at::set_num_threads(static_cast<int>(options.threads));
    return std::unique_ptr<PcnTrainer>(
        new PcnTrainer(std::make_unique<State>(shape, options, device, std::move(rule))));
  });
}

uint64_t PcnTrainer::parameters() const { return state_->table.elements; }

void PcnTrainer::SetParameters(uint64_t offset, std::span<const float> values) {
  const at::Tensor source = at::from_blob(const_cast<float*>(values.data()),
                                          {static_cast<int64_t>(values.size())}, at::kFloat);
  state_->Slice(offset, values.size()).copy_(source);
}

void PcnTrainer::GetParameters(uint64_t offset, std::span<float> out) const {
  at::from_blob(out.data(), {static_cast<int64_t>(out.size())}, at::kFloat)
      .copy_(state_->Slice(offset, out.size()));
}

void PcnTrainer::ResetInnerState() { state_->optimizer->Reset(); }

std::string PcnTrainer::SaveInnerState() const { return state_->optimizer->Save(); }

absl::Status PcnTrainer::LoadInnerState(std::string_view bytes) {
  return Fenced([&] { return state_->optimizer->Load(bytes); });
}

const PcnEvents& PcnTrainer::events() const { return state_->events; }

absl::StatusOr<StepOutput> PcnTrainer::Step(const StepInput& input) {
  ASSIGN_OR_RETURN(std::vector<MicroBatch> parts, state_->Cut(input.tokens));
  return Fenced([&] { return state_->Step(input.step, parts); });
}

absl::StatusOr<StepOutput> PcnTrainer::Evaluate(std::span<const float> values,
                                                std::span<const uint16_t> tokens) {
  ASSIGN_OR_RETURN(std::unique_ptr<LlamaTrainer> reader,
                   LlamaTrainer::Make(state_->shape, state_->options, state_->device_text));
  return reader->Evaluate(values, tokens);
}

absl::StatusOr<std::vector<uint16_t>> PcnTrainer::Sample(std::span<const float> values,
                                                         std::span<const uint16_t> prompt,
                                                         uint32_t count, uint64_t seed) {
  ASSIGN_OR_RETURN(std::unique_ptr<LlamaTrainer> reader,
                   LlamaTrainer::Make(state_->shape, state_->options, state_->device_text));
  return reader->Sample(values, prompt, count, seed);
}

}  // namespace longhaul
