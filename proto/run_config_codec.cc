// The canonical encoding of a RunConfig: format version, then every field in the order of
// run_config.h. One list of fields serves both directions, so they cannot drift apart.
#include <type_traits>

#include "proto/codec.h"

namespace longhaul {

namespace {

constexpr uint32_t kFormat = 3;
constexpr size_t kMaxTextBytes = 4096;

class FieldWriter {
 public:
  void operator()(const std::string& v) { out_.String(v); }
  void operator()(bool v) { out_.Bool(v); }
  void operator()(uint32_t v) { out_.U32(v); }
  void operator()(uint64_t v) { out_.U64(v); }
  void operator()(double v) { out_.F64(v); }
  std::string Take() { return out_.Take(); }

 private:
  ByteWriter out_;
};

class FieldReader {
 public:
  explicit FieldReader(ByteSpan bytes) : in_(bytes) {}
  void operator()(std::string& v) { v = in_.String(kMaxTextBytes); }
  void operator()(bool& v) { v = in_.Bool(); }
  void operator()(uint32_t& v) { v = in_.U32(); }
  void operator()(uint64_t& v) { v = in_.U64(); }
  void operator()(double& v) { v = in_.F64(); }
  bool AtEnd() const { return in_.AtEnd(); }

 private:
  ByteReader in_;
};

template <class F, class... Fields>
void Each(F& f, Fields&... fields) {
  (f(fields), ...);
}

// Config is RunConfig or const RunConfig. A new field goes to the end of its section, with a new
// format number.
template <class F, class Config>
void VisitFields(F& f, Config& c) {
  Each(f, c.run.name, c.run.seed, c.run.rounds, c.run.min_workers, c.run.patience,
       c.run.output_dir);
  Each(f, c.model.preset, c.model.init_from, c.model.vocab_size, c.model.hidden_size,
       c.model.intermediate_size, c.model.num_hidden_layers, c.model.num_attention_heads,
       c.model.num_key_value_heads, c.model.rope_theta, c.model.rms_norm_eps,
       c.model.tie_word_embeddings);
  Each(f, c.data.train, c.data.validation, c.data.tokenizer, c.data.sequence_length,
       c.data.max_bytes, c.data.manifest, c.data.mixture);
  Each(f, c.train.optimizer, c.train.learning_rate, c.train.warmup_steps, c.train.lr_schedule,
       c.train.per_device_train_batch_size, c.train.gradient_accumulation_steps,
       c.train.weight_decay, c.train.max_grad_norm, c.train.adam_beta1, c.train.adam_beta2,
       c.train.adam_epsilon, c.train.toy_step_ms, c.train.adamw_learning_rate,
       c.train.muon_momentum, c.train.mode);
  Each(f, c.sync.inner_steps, c.sync.fragments, c.sync.overlap_steps, c.sync.codec,
       c.sync.codec_down, c.sync.bits, c.sync.bits_down, c.sync.error_feedback, c.sync.outer_lr,
       c.sync.outer_momentum, c.sync.weights, c.sync.preset, c.sync.delta_per_step,
       c.sync.aggregator, c.sync.norm_cap, c.sync.restore_norm, c.sync.outer_warmup_rounds,
       c.sync.outer_drop_round, c.sync.outer_drop, c.sync.mixing, c.sync.steps_per_worker);
  Each(f, c.round.quorum, c.round.carry, c.round.grace, c.round.required_workers,
       c.round.min_tokens, c.round.broken_contract, c.round.plan);
  Each(f, c.reduce.placement, c.reduce.trusted, c.reduce.slices);
  Each(f, c.network.listen, c.network.advertise, c.network.http);
  Each(f, c.checkpoint.every_rounds, c.checkpoint.keep);
  Each(f, c.pcn.rule, c.pcn.sweeps, c.pcn.rate, c.pcn.momentum, c.pcn.output_weight, c.pcn.nudge);
}

}  // namespace

std::string EncodeRunConfig(const RunConfig& config) {
  FieldWriter out;
  out(kFormat);
  VisitFields(out, config);
  return out.Take();
}

absl::StatusOr<RunConfig> DecodeRunConfig(ByteSpan bytes) {
  FieldReader in(bytes);
  uint32_t format = 0;
  in(format);
  if (format != kFormat) return absl::InvalidArgumentError("unknown format of a run's config");
  RunConfig config;
  VisitFields(in, config);
  if (!in.AtEnd()) return absl::InvalidArgumentError("a run's config is damaged");
  return config;
}

}  // namespace longhaul
