#include "bench/learning_run.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "absl/strings/str_cat.h"
#include "bench/learning_exchange.h"
#include "cli/run_inputs.h"
#include "common/status_macros.h"
#include "model/parameter_table.h"
#include "sync/error_feedback.h"
#include "sync/exact_sum.h"
#include "sync/fragments.h"
#include "sync/schedule.h"
#include "worker/train/llama_trainer.h"

namespace longhaul {
namespace {

constexpr uint32_t kMostRows = 32;  // of one forward pass
constexpr uint32_t kFirstLosses = 5;
constexpr int64_t kDeciles = 10;

std::vector<TensorPlace> PlacesOf(const ParameterTable& table) {
  std::vector<TensorPlace> places;
  for (const Parameter& p : table.parameters) places.push_back({p.offset, p.elements, p.layer});
  return places;
}

class Simulation {
 public:
  Simulation(const LearningRequest& request, const LearningText& text)
      : tier_(request.tier),
        method_(request.method),
        seed_(request.seed),
        curve_every_(request.curve_every),
        text_(text) {}

  absl::StatusOr<LearningOutcome> Run() {
    RETURN_IF_ERROR(Start());
    for (uint32_t t = 0; t < tier_.steps; ++t) {
      RETURN_IF_ERROR(Step(t));
      if (curve_every_ == 0 || (t + 1) % curve_every_ != 0) continue;
      ASSIGN_OR_RETURN(const double loss, ValidationLoss());
      outcome_.curve.emplace_back(t + 1, loss);
    }
    if (!outcome_.curve.empty() && outcome_.curve.back().first == tier_.steps) {
      outcome_.loss = outcome_.curve.back().second;
    } else {
      ASSIGN_OR_RETURN(outcome_.loss, ValidationLoss());
    }
    if (tier_.vocab > 256) RETURN_IF_ERROR(LossByDecile());
    Finish();
    return outcome_;
  }

 private:
  bool coded_gradients() const {
    return method_.exchange == Exchange::kGradients && method_.up != "float32";
  }

  absl::Status Start() {
    ASSIGN_OR_RETURN(LlamaShape shape, PresetShape(tier_.model));
    shape.vocab_size = tier_.vocab;
    table_ = MakeParameterTable(shape);
    RETURN_IF_ERROR(ChooseWorkers());
    RETURN_IF_ERROR(MakeTrainers(shape));
    validation_ = text_.Validation(tier_.length, tier_.validation_windows);
    const FragmentSchedule s{method_.inner_steps == 0 ? tier_.inner_steps : method_.inner_steps,
                             method_.fragments, method_.overlap_steps};
    if (const auto problem = ScheduleProblem(s)) return absl::InvalidArgumentError(*problem);
    schedule_ = s;
    return method_.exchange == Exchange::kRounds ? MakeExchanges() : MakeGradientCoder();
  }

  absl::Status ChooseWorkers() {
    const bool joined = method_.exchange == Exchange::kGradients && !coded_gradients();
    workers_ = method_.workers;
    if (workers_ == 0) workers_ = tier_.workers;
    if (joined || method_.exchange == Exchange::kNothing) workers_ = 1;
    if (workers_ > tier_.workers || tier_.workers % workers_ != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("workers must divide the tier's ", tier_.workers));
    }
    streams_ = method_.exchange == Exchange::kNothing ? 1 : tier_.workers / workers_;
    return absl::OkStatus();
  }

  // Coded data parallel holds one model, whose gradients are taken on every worker's data.
  absl::Status MakeTrainers(const LlamaShape& shape) {
    TrainOptions options;
    options.optimizer.name = method_.optimizer;
    options.optimizer.learning_rate = method_.lr;
    options.optimizer.adamw_learning_rate = method_.adamw_lr;
    options.optimizer.muon_momentum = method_.inner_momentum;
    options.optimizer.warmup_steps = tier_.warmup_steps;
    options.optimizer.total_steps = tier_.steps;
    options.micro_batch_size = kMostRows;
    options.sequence_length = tier_.length;
    const std::vector<float> initial = InitialParameters(table_, seed_);
    for (uint32_t m = 0; m < (coded_gradients() ? 1 : workers_); ++m) {
      ASSIGN_OR_RETURN(auto trainer, LlamaTrainer::Make(shape, options, "cpu"));
      trainer->SetParameters(0, initial);
      trainers_.push_back(std::move(trainer));
    }
    return absl::OkStatus();
  }

  absl::Status MakeExchanges() {
    const std::vector<TensorPlace> places = PlacesOf(table_);
    if (method_.fragments > MostFragments(places)) {
      return absl::InvalidArgumentError("more fragments than layers");
    }
    layouts_ = MakeFragments(places, method_.fragments);
    const std::vector<float> initial = InitialParameters(table_, seed_);
    for (const FragmentLayout& layout : layouts_) {
      std::vector<float> part(layout.elements);
      Gather(layout, initial, 0, part);
      ASSIGN_OR_RETURN(auto exchange,
                       LearningExchange::Make(method_, workers_, TensorsIn(table_, layout), part));
      exchanges_.push_back(std::move(exchange));
      in_flight_.push_back(false);
    }
    if (method_.moments.empty()) return absl::OkStatus();
    const uint64_t moments = trainers_[0]->MomentElements();
    uint64_t momentum = 0;  // of the matrices, the last of the moments under muon
    for (const Parameter& p : table_.parameters) {
      if (p.parameter_class == ParameterClass::kMatrix) momentum += p.elements;
    }
    if (method_.moments_of == "momentum") {
      if (method_.optimizer != "muon") return absl::InvalidArgumentError("only muon has momentum");
      first_moment_ = moments - momentum;
    }
    ASSIGN_OR_RETURN(moment_coder_, MakeSpanCoder(method_.moments, {{0, moments - first_moment_}}));
    return absl::OkStatus();
  }

  absl::Status MakeGradientCoder() {
    if (!coded_gradients()) return absl::OkStatus();
    const FragmentLayout whole = {{{0, table_.elements}}, table_.elements};
    ASSIGN_OR_RETURN(gradient_coder_, MakeSpanCoder(method_.up, TensorsIn(table_, whole)));
    residuals_.assign(workers_, std::vector<float>(table_.elements));
    return absl::OkStatus();
  }

  LearningRows Rows(uint32_t worker, uint32_t step) const {
    LearningRows rows;
    for (uint32_t s = 0; s < streams_; ++s) {
      text_.AddWindows(seed_, uint64_t{worker} * streams_ + s, step, Sequences(step), tier_.length,
                       rows);
    }
    return rows;
  }

  uint32_t Sequences(uint32_t step) const {
    const double way = 2.0 * step / std::max(1u, tier_.steps - 1) - 1;  // from -1 to 1
    const double sequences = tier_.sequences * (1 + method_.batch_growth * way);
    return std::max(1u, static_cast<uint32_t>(std::lround(sequences)));
  }

  absl::Status Step(uint32_t t) {
    if (coded_gradients()) return CodedGradientStep(t);
    for (uint32_t m = 0; m < workers_; ++m) {
      const LearningRows rows = Rows(m, t);
      ASSIGN_OR_RETURN(const StepOutput out,
                       trainers_[m]->StepOnBatch(t, rows.inputs, rows.targets));
      if (!std::isfinite(out.loss)) return absl::InternalError("the loss is not finite");
      if (m == 0 && t < kFirstLosses) outcome_.first_losses.push_back(out.loss);
    }
    for (uint32_t f = 0; f < exchanges_.size(); ++f) {
      if (SendsAfter(schedule_, f, t + 1)) RETURN_IF_ERROR(Send(f));
      const bool last = t + 1 == tier_.steps;  // nothing stays on its way
      if (in_flight_[f] && (last || AppliesAfter(schedule_, f, t + 1))) Apply(f);
    }
    return absl::OkStatus();
  }

  absl::Status CodedGradientStep(uint32_t t) {
    std::vector<float> gradient(table_.elements), decoded(table_.elements);
    std::vector<uint64_t> sum(table_.elements);
    for (uint32_t m = 0; m < workers_; ++m) {
      const LearningRows rows = Rows(m, t);
      RETURN_IF_ERROR(trainers_[0]->LossAndGradient(rows.inputs, rows.targets, gradient).status());
      AddResidual(static_cast<float>(method_.feedback_up), residuals_[m], gradient);
      ASSIGN_OR_RETURN(const CodedSize size, gradient_coder_->Code(gradient, decoded));
      if (method_.feedback_up >= 0) ResidualOf(gradient, decoded, residuals_[m]);
      AddWeighted(decoded, 1, sum);
      if (m > 0) continue;
      gradient_size_.payload_bits += size.payload_bits;
      gradient_size_.header_bits += size.header_bits;
    }
    MeanFromSum(sum, workers_, gradient);
    return trainers_[0]->ApplyGradient(t, gradient);
  }

  std::vector<float> Local(uint32_t worker, uint32_t fragment) const {
    std::vector<float> local(layouts_[fragment].elements);
    uint64_t at = 0;
    for (const ParameterSpan& span : layouts_[fragment].spans) {
      trainers_[worker]->GetParameters(span.offset, std::span(local).subspan(at, span.count));
      at += span.count;
    }
    return local;
  }

  absl::Status Send(uint32_t fragment) {
    for (uint32_t m = 0; m < workers_; ++m) {
      RETURN_IF_ERROR(exchanges_[fragment]->Send(m, Local(m, fragment)));
    }
    in_flight_[fragment] = true;
    if (moment_coder_ != nullptr && fragment == 0) RETURN_IF_ERROR(AverageMoments());
    return exchanges_[fragment]->Close();
  }

  // Every worker replaces what it sent by the coded mean, or a share of it; what coding dropped
  // stays with it. Moments stay on the workers, so float64 is exact enough.
  absl::Status AverageMoments() {
    const uint64_t all = trainers_[0]->MomentElements(), elements = all - first_moment_;
    std::vector<std::vector<float>> own(workers_, std::vector<float>(all));
    std::vector<std::vector<float>> sent(workers_, std::vector<float>(elements));
    std::vector<double> sum(elements);
    for (uint32_t m = 0; m < workers_; ++m) {
      trainers_[m]->GetMoments(own[m]);
      const auto averaged = std::span(own[m]).subspan(first_moment_);
      ASSIGN_OR_RETURN(moment_size_up_, moment_coder_->Code(averaged, sent[m]));
      for (size_t i = 0; i < elements; ++i) sum[i] += sent[m][i];
    }
    std::vector<float> mean(elements), decoded(elements);
    for (size_t i = 0; i < elements; ++i) mean[i] = static_cast<float>(sum[i] / workers_);
    ASSIGN_OR_RETURN(moment_size_down_, moment_coder_->Code(mean, decoded));
    const auto share = static_cast<float>(method_.moments_share);
    for (uint32_t m = 0; m < workers_; ++m) {
      for (size_t i = 0; i < elements; ++i) {
        own[m][first_moment_ + i] += share * (decoded[i] - sent[m][i]);
      }
      trainers_[m]->SetMoments(own[m]);
    }
    return absl::OkStatus();
  }

  void Apply(uint32_t fragment) {
    for (uint32_t m = 0; m < workers_; ++m) {
      std::vector<float> local = Local(m, fragment);
      exchanges_[fragment]->Apply(m, local);
      uint64_t at = 0;
      for (const ParameterSpan& span : layouts_[fragment].spans) {
        trainers_[m]->SetParameters(span.offset, std::span(local).subspan(at, span.count));
        at += span.count;
      }
    }
    exchanges_[fragment]->Install();
    in_flight_[fragment] = false;
  }

  std::vector<float> GlobalParameters() const {
    std::vector<float> values(table_.elements);
    trainers_[0]->GetParameters(0, values);
    for (size_t f = 0; f < exchanges_.size(); ++f) {
      Scatter(layouts_[f], exchanges_[f]->global(), 0, values);
    }
    return values;
  }

  absl::StatusOr<double> ValidationLoss() {
    ASSIGN_OR_RETURN(
        const StepOutput out,
        trainers_[0]->EvaluateOnBatch(GlobalParameters(), validation_.inputs, validation_.targets));
    return out.loss;
  }

  absl::Status LossByDecile() {
    const std::vector<float> values = GlobalParameters();
    for (int64_t d = 0; d < kDeciles; ++d) {
      std::vector<int64_t> targets = validation_.targets;
      bool any = false;
      for (int64_t& t : targets) {
        const bool inside = t * kDeciles / tier_.vocab == d;
        any = any || inside;
        if (!inside) t = kIgnoredTarget;
      }
      outcome_.deciles.emplace_back();
      if (!any) continue;
      ASSIGN_OR_RETURN(const StepOutput out,
                       trainers_[0]->EvaluateOnBatch(values, validation_.inputs, targets));
      outcome_.deciles.back() = out.loss;
    }
    return absl::OkStatus();
  }

  // Data parallel without coding: float32 both ways in every step.
  void Finish() {
    CodedSize up = gradient_size_, down;
    double rounds = 0;
    for (const auto& exchange : exchanges_) {
      const LearningExchange::Totals& totals = exchange->totals();
      up.payload_bits += totals.up.payload_bits, up.header_bits += totals.up.header_bits;
      down.payload_bits += totals.down.payload_bits, down.header_bits += totals.down.header_bits;
      outcome_.cosine += totals.cosine;
      outcome_.residual += totals.residual;
      rounds += static_cast<double>(totals.rounds);
      outcome_.same_state = outcome_.same_state && exchange->SameState();
    }
    if (moment_coder_ != nullptr) {
      const auto times = static_cast<double>(exchanges_[0]->totals().rounds);
      up.payload_bits += times * moment_size_up_.payload_bits;
      up.header_bits += times * moment_size_up_.header_bits;
      down.payload_bits += times * moment_size_down_.payload_bits;
      down.header_bits += times * moment_size_down_.header_bits;
    }
    if (rounds > 0) outcome_.cosine /= rounds, outcome_.residual /= rounds;
    const double per = static_cast<double>(table_.elements) * tier_.steps;
    outcome_.up = {up.payload_bits / per, up.header_bits / per};
    outcome_.down = {down.payload_bits / per, down.header_bits / per};
    if (method_.exchange != Exchange::kGradients) return;
    outcome_.down.payload_bits = 32;
    if (!coded_gradients()) outcome_.up.payload_bits = 32;
  }

  const LearningTier tier_;
  const LearningMethod method_;
  const uint64_t seed_;
  const uint32_t curve_every_;
  const LearningText& text_;

  ParameterTable table_;
  uint32_t workers_ = 1;
  uint32_t streams_ = 1;  // of the tier's workers, whose data one worker reads
  std::vector<std::unique_ptr<LlamaTrainer>> trainers_;
  LearningRows validation_;
  FragmentSchedule schedule_;
  std::vector<FragmentLayout> layouts_;
  std::vector<std::unique_ptr<LearningExchange>> exchanges_;
  std::vector<bool> in_flight_;  // sent and not applied
  std::unique_ptr<SpanCoder> gradient_coder_;
  std::vector<std::vector<float>> residuals_;  // of coded gradients
  CodedSize gradient_size_;
  std::unique_ptr<SpanCoder> moment_coder_;      // null: moments are not averaged
  uint64_t first_moment_ = 0;                    // of those that are averaged
  CodedSize moment_size_up_, moment_size_down_;  // of the latest round
  LearningOutcome outcome_;
};

}  // namespace

absl::StatusOr<LearningOutcome> RunLearning(const LearningRequest& request,
                                            const LearningText& text) {
  return Simulation(request, text).Run();
}

}  // namespace longhaul
