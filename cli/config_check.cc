// Conditions that tie several keys together.
#include <numeric>

#include "cli/config.h"
#include "model/llama.h"
#include "pcn/rules/rule_options.h"
#include "proto/run_config.h"
#include "sync/schedule.h"
#include "worker/pcn_options.h"

namespace longhaul {
namespace {

class Checker {
 public:
  Checker(const RunConfig& config, const ConfigOrigins& origins)
      : config_(config), origins_(origins) {}

  absl::Status Run() {
    Ranges();
    if (problems_.empty()) {
      Model();
      Data();
      Sync();
      Pcn();
      Network();
    }
    return problems_.empty() ? absl::OkStatus() : absl::InvalidArgumentError(problems_);
  }

 private:
  void Ranges();
  void Model();
  void Data();
  void Sync();
  void Pcn();
  void Network();

  void Problem(const char* section, const char* name, const std::string& text) {
    const ConfigKey* key = FindConfigKey(section, name);
    if (!problems_.empty()) problems_ += '\n';
    problems_ += PlaceAndValue(*key, GetConfigValue(*key, config_), origins_);
    problems_ += ": " + text;
  }

  const RunConfig& config_;
  const ConfigOrigins& origins_;
  std::string problems_;
};

void Checker::Ranges() {
  for (const ConfigKey& key : ConfigKeys()) {
    const std::string problem = ValueProblem(key, GetConfigValue(key, config_));
    if (!problem.empty()) Problem(key.section.c_str(), key.name.c_str(), problem);
  }
}

// "8", or "8 or 16": the multiples of `unit` next to `value`.
std::string NearestMultiples(uint64_t value, uint64_t unit) {
  const uint64_t below = value / unit * unit;
  const std::string above = std::to_string(below + unit);
  return below == 0 ? above : std::to_string(below) + " or " + above;
}

std::string NearestDivisors(uint32_t value, uint32_t of) {
  uint32_t below = 1, above = of;
  for (uint32_t d = 1; d <= of; ++d) {
    if (of % d != 0) continue;
    if (d < value) below = d;
    if (d > value && d < above) above = d;
  }
  return std::to_string(below) + " or " + std::to_string(above);
}

void Checker::Model() {
  const ModelSection& m = config_.model;
  const bool sizes = m.hidden_size || m.intermediate_size || m.num_hidden_layers ||
                     m.num_attention_heads || m.num_key_value_heads;
  const int ways = (m.preset.empty() ? 0 : 1) + (m.init_from.empty() ? 0 : 1) + (sizes ? 1 : 0);
  if (ways != 1) {
    return Problem("model", "preset",
                   ways == 0 ? "give a preset, or hidden_size and the other sizes, or init_from"
                             : "give only one of: preset, sizes (hidden_size, ...), init_from");
  }
  const bool is_block = m.preset.starts_with(kDensePreset);
  if (is_block != (config_.train.mode == "relay")) {
    return Problem(
        "train", "mode",
        "\"relay\" and a model.preset of dense layers (dense:784,256,...) need each other");
  }
  if (is_block) {
    const auto shape = PresetShape(m.preset);
    const absl::Status status = shape.ok() ? ValidateShape(*shape) : shape.status();
    if (!status.ok()) Problem("model", "preset", std::string(status.message()));
    return;
  }
  if (config_.data.tokenizer == "bytes" && m.vocab_size < 256) {
    Problem("model", "vocab_size", "the tokenizer \"bytes\" needs at least 256");
  }
  if (!sizes) return;
  for (const char* name : {"hidden_size", "intermediate_size", "num_hidden_layers",
                           "num_attention_heads", "num_key_value_heads"}) {
    const ConfigValue value = GetConfigValue(*FindConfigKey("model", name), config_);
    if (value == ConfigValue(int64_t{0})) {
      return Problem("model", name, "must be given too, or use a preset");
    }
  }
  if (m.hidden_size % m.num_attention_heads != 0) {
    Problem("model", "hidden_size",
            "must be a multiple of num_attention_heads (" + std::to_string(m.num_attention_heads) +
                "); nearest: " + NearestMultiples(m.hidden_size, m.num_attention_heads));
  } else if (m.hidden_size / m.num_attention_heads % 2 != 0) {
    Problem(
        "model", "hidden_size",
        "hidden_size / num_attention_heads must be even (rotary embedding turns pairs); it is " +
            std::to_string(m.hidden_size / m.num_attention_heads));
  }
  if (m.num_attention_heads % m.num_key_value_heads != 0) {
    Problem("model", "num_key_value_heads",
            "must divide num_attention_heads (" + std::to_string(m.num_attention_heads) + ")");
  }
}

void Checker::Data() {
  const DataSection& d = config_.data;
  const TrainSection& t = config_.train;
  if (!d.manifest.empty() && !d.train.empty()) {
    Problem("data", "manifest", "give only one of: train, manifest");
  } else if (d.train.empty() && d.manifest.empty() && t.optimizer != "toy" && t.mode != "relay") {
    Problem("data", "train",
            "give a text file, a nanoGPT .bin file, or \"wheel\" for the built-in text; or "
            "data.manifest");
  }
  if (d.manifest.empty() && !d.mixture.empty())
    Problem("data", "mixture", "is about the domains of data.manifest, which is not given");
  if (kSampleTokens % d.sequence_length != 0) {
    return Problem("data", "sequence_length",
                   "must divide " + std::to_string(kSampleTokens) + ", the tokens of a sample; " +
                       "nearest: " + NearestDivisors(d.sequence_length, kSampleTokens));
  }
  const uint64_t tokens_per_sequence = uint64_t{t.gradient_accumulation_steps} * d.sequence_length;
  const uint64_t unit = kSampleTokens / std::gcd(uint64_t{kSampleTokens}, tokens_per_sequence);
  if (t.per_device_train_batch_size % unit != 0) {
    Problem("train", "per_device_train_batch_size",
            "batch x gradient_accumulation_steps x sequence_length = " +
                std::to_string(t.per_device_train_batch_size) + " x " +
                std::to_string(t.gradient_accumulation_steps) + " x " +
                std::to_string(d.sequence_length) + " tokens must be a multiple of " +
                std::to_string(kSampleTokens) +
                "; nearest batch size: " + NearestMultiples(t.per_device_train_batch_size, unit));
  }
}

void Checker::Sync() {
  const SyncSection& s = config_.sync;
  const uint32_t updates = UpdatesPerStep(config_);
  if (s.inner_steps % updates != 0) {
    return Problem("sync", "inner_steps",
                   "counts weight updates, of which a step of rule ipc makes " +
                       std::to_string(updates) + " (pcn.sweeps x gradient_accumulation_steps); " +
                       "nearest: " + NearestMultiples(s.inner_steps, updates));
  }
  if (s.overlap_steps >= StepsPerRound(config_)) {
    Problem("sync", "overlap_steps",
            "must be less than sync.inner_steps = " + std::to_string(StepsPerRound(config_)));
  }
  if (s.bits_down > 0 && s.bits_down < 0.05) {
    Problem("sync", "bits_down", "must be 0 or at least 0.05");
  }
  const bool contributor = s.aggregator == "contributor_mean";
  if (contributor && s.norm_cap) {
    Problem("sync", "norm_cap", "goes with sync.aggregator = \"mean\" only");
  }
  if (s.delta_per_step && (contributor || s.norm_cap || s.restore_norm)) {
    Problem("sync", "delta_per_step",
            "goes with sync.aggregator = \"mean\" and without norm_cap and restore_norm");
  }
  if (config_.reduce.placement == "workers" && (s.norm_cap || s.restore_norm)) {
    Problem("reduce", "placement",
            "norm_cap and restore_norm look at whole tensors: \"star\" only");
  }
  if (s.mixing >= 0 && !MixingAllowed(s.error_feedback, config_.round.quorum)) {
    Problem("sync", "mixing", "needs sync.error_feedback = -1 and round.quorum = 1");
  }
  if (!StepsPerWorker(s.steps_per_worker)) {
    Problem("sync", "steps_per_worker", "must be NAME=STEPS, NAME=STEPS, ..., each name once");
  }
}

void Checker::Pcn() {
  if (config_.train.mode != "pcn") {
    const bool trains_blocks = config_.train.mode == "relay";
    if (trains_blocks && config_.train.optimizer == "toy") {
      return Problem("train", "mode", "the toy trainer has no blocks");
    }
    if (config_.pcn == PcnSection()) return;
    return Problem("train", "mode", "section pcn is given, so it must be \"pcn\"");
  }
  if (config_.train.optimizer == "toy") {
    return Problem("train", "mode", "the toy trainer has no credit rule");
  }
  const absl::StatusOr<pcn::RuleOptions> rule = RuleOptionsFrom(config_.pcn);
  if (!rule.ok()) Problem("pcn", "rule", std::string(rule.status().message()));
}

void Checker::Network() {
  const auto bad_address = [](const std::string& text) { return !SplitAddress(text).ok(); };
  const char* expected = "must be address:port, for example 0.0.0.0:7443";
  const NetworkSection& n = config_.network;
  if (bad_address(n.listen)) Problem("network", "listen", expected);
  if (!n.advertise.empty() && bad_address(n.advertise)) Problem("network", "advertise", expected);
  if (!n.http.empty() && bad_address(n.http)) Problem("network", "http", expected);
}

}  // namespace

absl::Status ValidateRunConfig(const RunConfig& config, const ConfigOrigins& origins) {
  return Checker(config, origins).Run();
}

absl::StatusOr<HostPort> SplitAddress(const std::string& text) {
  const size_t colon = text.rfind(':');
  const auto refuse = [&text] {
    return absl::InvalidArgumentError("\"" + text +
                                      "\" is not an address: write host:port or [v6]:port");
  };
  if (colon == std::string::npos || colon == 0) return refuse();
  HostPort out;
  out.host = text.substr(0, colon);
  if (out.host.front() == '[' && out.host.back() == ']') {
    out.host = out.host.substr(1, out.host.size() - 2);
  } else if (out.host.find(':') != std::string::npos) {
    return refuse();
  }
  const std::string port = text.substr(colon + 1);
  if (out.host.empty() || port.empty() || port.size() > 5) return refuse();
  uint32_t number = 0;
  for (const char c : port) {
    if (c < '0' || c > '9') return refuse();
    number = number * 10 + static_cast<uint32_t>(c - '0');
  }
  if (number > 65'535) return refuse();
  out.port = static_cast<uint16_t>(number);
  return out;
}

}  // namespace longhaul
