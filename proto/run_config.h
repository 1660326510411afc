// Everything that defines a run. The coordinator reads it from run.toml (cli/), journals it once,
// and hands it to every worker in Welcome; nobody else parses the file. Defaults here are the
// defaults of the file.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace longhaul {

// Running text is cut into samples of this many tokens, whatever the sequence length; leases count
// samples.
inline constexpr uint32_t kSampleTokens = 1024;

struct RunSection {
  std::string name = "run";
  uint64_t seed = 7;
  uint32_t rounds = 30;
  uint32_t min_workers = 2;
  double patience = 1.5;   // scales every timeout
  std::string output_dir;  // "" = runs/<name>
  auto operator<=>(const RunSection&) const = default;
};

struct ModelSection {
  std::string preset = "llama-1m";  // "" when the sizes below are given, or init_from
  std::string init_from;            // a Hugging Face folder
  uint32_t vocab_size = 256;
  uint32_t hidden_size = 0;
  uint32_t intermediate_size = 0;
  uint32_t num_hidden_layers = 0;
  uint32_t num_attention_heads = 0;
  uint32_t num_key_value_heads = 0;
  double rope_theta = 10000.0;
  double rms_norm_eps = 1e-5;
  bool tie_word_embeddings = false;
  auto operator<=>(const ModelSection&) const = default;
};

struct DataSection {
  std::string train;  // a text file, a nanoGPT .bin, or "wheel": the Python sources inside the
                      // pinned torch wheel
  double validation = 0.05;
  std::string tokenizer = "bytes";
  uint32_t sequence_length = 128;
  uint64_t max_bytes = 0;  // 0 = all
  // Instead of `train`: a prepared folder, or http://... of one. Workers get its blocks from the
  // coordinator, or from their own --data.
  std::string manifest;
  // Shares of the manifest's domains, "web=3 code=1"; "" = by their samples. "; 100: web=1 code=1"
  // changes them from a macro-block of positions on.
  std::string mixture;
  auto operator<=>(const DataSection&) const = default;
};

struct TrainSection {
  std::string optimizer = "adamw";
  double learning_rate = 0.003;
  uint32_t warmup_steps = 50;
  std::string lr_schedule = "cosine";  // cosine to 10 % over rounds * inner_steps, or constant
  uint32_t per_device_train_batch_size = 8;
  uint32_t gradient_accumulation_steps = 1;
  double weight_decay = 0.1;
  double max_grad_norm = 1.0;
  double adam_beta1 = 0.9;
  double adam_beta2 = 0.95;
  double adam_epsilon = 1e-8;
  // Toy trainer only (longhaul-worker-toy).
  uint32_t toy_step_ms = 0;
  // Muon only.
  double adamw_learning_rate = 0.003;  // of embedding, head and norms
  double muon_momentum = 0.95;
  std::string mode = "backprop";  // or "pcn": section pcn says where gradients come from
  auto operator<=>(const TrainSection&) const = default;
};

struct SyncSection {
  uint32_t inner_steps = 20;
  uint32_t fragments = 1;
  uint32_t overlap_steps = 0;
  // float32 | bf16 | int8 | int4 | int2 | top-k | bit-budget, up
  std::string codec = "int8";
  std::string codec_down = "int8";  // the same, down
  double bits = 2.0;                // per parameter, of top-k and bit-budget, up
  double bits_down = 0.0;           // the same, down; 0: BitsDown(config)
  double error_feedback = 0.9;      // decay of the residual; negative = none
  double outer_lr = 0.7;
  double outer_momentum = 0.6;
  std::string weights = "tokens";   // tokens | equal | tokens2_per_step
  std::string preset = "none";      // where values came from that the file does not give
  bool delta_per_step = false;      // contributions count by what they moved per inner step
  std::string aggregator = "mean";  // mean | contributor_mean
  bool norm_cap = false;
  bool restore_norm = false;
  uint32_t outer_warmup_rounds = 0;
  uint32_t outer_drop_round = 0;  // the first one with outer_lr * outer_drop; 0: none
  double outer_drop = 0.65;
  double mixing = -1.0;  // share of the local parameters that an outer step keeps; negative: the
                         // local progress is carried over
  std::string steps_per_worker;  // "NAME=H, NAME=H": instead of inner_steps
  auto operator<=>(const SyncSection&) const = default;
};

struct RoundSection {
  double quorum = 0.75;
  uint32_t carry = 2;
  double grace = 0.5;  // wait this share of the time the quorum took for the others
  // The participation contract, of every round: these workers are included (names, separated by
  // commas), with at least so many tokens together. Broken: "stop" ends the run; "degrade" goes on,
  // but the run ends without success.
  std::string required_workers;
  uint64_t min_tokens = 0;
  std::string broken_contract = "stop";
  // Steps per worker and round: "fixed" = sync.inner_steps, "auto" = planned from measured speeds,
  // so that all are ready at one time.
  std::string plan = "fixed";
  auto operator<=>(const RoundSection&) const = default;
};

// Who adds contributions up.
struct ReduceSection {
  std::string placement = "star";  // star: the coordinator; workers: trusted workers that offer it
  // Names or public keys in hex, separated by commas; "*": every worker. A name counts for the
  // worker that enrolled with it first.
  std::string trusted;
  // Parts of a fragment that are reduced (and coded) each on its own; 0: with star one, with
  // workers one for each reducer.
  uint32_t slices = 0;
  auto operator<=>(const ReduceSection&) const = default;
};

struct NetworkSection {
  std::string listen = "0.0.0.0:7443";  // port 0: any free one
  std::string advertise;
  std::string http = "127.0.0.1:8787";  // "" = none
  auto operator<=>(const NetworkSection&) const = default;
};

struct CheckpointSection {
  uint32_t every_rounds = 10;
  uint32_t keep = 2;
  auto operator<=>(const CheckpointSection&) const = default;
};

// Only with train.mode = "pcn": the credit rule of pcn/rules/rule_options.h.
struct PcnSection {
  std::string rule = "zil";
  uint32_t sweeps = 1;
  double rate = 0.1;  // of states or errors
  double momentum = 0;
  double output_weight = 1;
  double nudge = 0;  // of the cost: size and sign; 0 = none
  auto operator<=>(const PcnSection&) const = default;
};

struct RunConfig {
  RunSection run;
  ModelSection model;
  DataSection data;
  TrainSection train;
  SyncSection sync;
  RoundSection round;
  ReduceSection reduce;
  NetworkSection network;
  CheckpointSection checkpoint;
  PcnSection pcn;
  auto operator<=>(const RunConfig&) const = default;
};

// The default of sync.bits_down: a mean of many coded contributions holds more than one of them.
double BitsDown(const RunConfig& config);

// SyncSection::steps_per_worker as a map. Nothing: it is not a list of NAME=STEPS with different
// names and 1 to a million steps.
std::optional<std::map<std::string, uint32_t>> StepsPerWorker(const std::string& list);

// Samples (of kSampleTokens) that one inner step consumes. Validation of the config guarantees that
// this divides evenly.
inline uint64_t SamplesPerStep(const RunConfig& c) {
  return uint64_t{c.train.per_device_train_batch_size} * c.train.gradient_accumulation_steps *
         c.data.sequence_length / kSampleTokens;
}

// Weight updates of one inner step: above 1 for a rule that updates at every sweep.
inline uint32_t UpdatesPerStep(const RunConfig& c) {
  const bool incremental = c.train.mode == "pcn" && c.pcn.rule == "ipc";
  return incremental ? std::max(1u, c.pcn.sweeps * c.train.gradient_accumulation_steps) : 1;
}

// sync.inner_steps counts weight updates; a worker counts steps. Validation of the config
// guarantees that this divides evenly.
inline uint32_t StepsPerRound(const RunConfig& c) { return c.sync.inner_steps / UpdatesPerStep(c); }

}  // namespace longhaul
