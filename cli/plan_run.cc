#include "cli/plan_run.h"

#include <algorithm>
#include <memory>

#include "cli/run_inputs.h"
#include "common/status_macros.h"
#include "compression/codec.h"
#include "proto/chunk.h"

namespace longhaul {
absl::StatusOr<double> CodedBytes(const std::string& codec_name, double bits, uint64_t parameters) {
  const auto spec = CodecSpecByName(codec_name, bits);
  if (!spec) return absl::InvalidArgumentError("no codec " + codec_name);
  const std::unique_ptr<const Codec> codec = MakeCodec(*spec);
  if (!codec) return absl::InvalidArgumentError("no codec " + codec_name + " of these bits");
  if (!codec->fixed_size()) return bits / 8 * static_cast<double>(parameters);
  double bytes = 0;
  for (uint64_t at = 0; at < parameters; at += kChunkElements) {
    bytes += static_cast<double>(codec->EncodedBytes(std::min(kChunkElements, parameters - at)));
  }
  return bytes;
}

absl::StatusOr<MemoryModel> MemoryModelOf(const RunConfig& config, const LlamaShape& s) {
  MemoryModel m;
  m.parameters = ParameterCount(s);
  const uint64_t h = s.hidden_size, kv = s.key_value_size(), wide = s.intermediate_size;
  m.matrix_parameters = s.num_hidden_layers * (2 * h * h + 2 * h * kv + 3 * h * wide);
  m.hidden_size = h;
  m.intermediate_size = wide;
  m.layers = s.num_hidden_layers;
  m.heads = s.num_attention_heads;
  m.key_value_size = kv;
  m.vocab_size = s.vocab_size;
  m.sequence_length = config.data.sequence_length;
  m.optimizer = config.train.optimizer == "muon"    ? InnerOptimizerKind::kMuon
                : config.train.optimizer == "adamw" ? InnerOptimizerKind::kAdamW
                                                    : InnerOptimizerKind::kSgd;
  ASSIGN_OR_RETURN(const double up, CodedBytes(config.sync.codec, config.sync.bits, m.parameters));
  ASSIGN_OR_RETURN(const double down,
                   CodedBytes(config.sync.codec_down, config.sync.bits_down, m.parameters));
  m.coded_bytes = static_cast<uint64_t>(std::max(up, down));
  return m;
}

absl::StatusOr<FleetRun> FleetRunOf(const RunConfig& config) {
  FleetRun run;
  ASSIGN_OR_RETURN(run.memory, MemoryModelOf(config, ShapeOf(config)));
  ASSIGN_OR_RETURN(run.up_bytes,
                   CodedBytes(config.sync.codec, config.sync.bits, run.memory.parameters));
  ASSIGN_OR_RETURN(run.down_bytes, CodedBytes(config.sync.codec_down, config.sync.bits_down,
                                              run.memory.parameters));
  run.batch_sequences =
      uint64_t{config.train.per_device_train_batch_size} * config.train.gradient_accumulation_steps;
  run.inner_steps = StepsPerRound(config);
  run.max_steps = run.inner_steps;
  run.overlap = config.sync.overlap_steps > 0;
  run.fragments.fragments = config.sync.fragments;
  run.least_quorum = config.round.quorum;
  return run;
}

}  // namespace longhaul
