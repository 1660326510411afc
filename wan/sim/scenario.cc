#include "wan/sim/scenario.h"

#include <algorithm>

#include "common/rng.h"
#include "model/parameter_table.h"

namespace longhaul::sim {
namespace {

template <class T>
T OneOf(Rng& rng, std::initializer_list<T> choices) {
  return choices.begin()[rng.Below(choices.size())];
}

Duration Between(Rng& rng, Duration least, Duration most) {
  return least + Duration(rng.Below(static_cast<uint64_t>((most - least).count()) + 1));
}

LlamaShape TinyShape(Rng& rng) {
  const uint32_t hidden = OneOf<uint32_t>(rng, {4, 8});
  return {.vocab_size = 8,
          .hidden_size = hidden,
          .intermediate_size = OneOf<uint32_t>(rng, {4, 8}),
          .num_hidden_layers = static_cast<uint32_t>(1 + rng.Below(2)),
          .num_attention_heads = 2,
          .num_key_value_heads = 2};
}

RunConfig DrawConfig(Rng& rng) {
  RunConfig c;
  c.run.name = "sim";
  c.run.seed = rng.Next();
  c.run.rounds = rng.Chance(1, 4) ? static_cast<uint32_t>(5 + rng.Below(8)) : 1'000'000;
  c.run.min_workers = static_cast<uint32_t>(1 + rng.Below(3));
  c.run.patience = 0.001 * static_cast<double>(800 + rng.Below(1200));
  c.data.sequence_length = 128;
  c.train.optimizer = "toy";
  c.train.per_device_train_batch_size = static_cast<uint32_t>(8 * (1 + rng.Below(2)));
  // A round takes longer than some round trips: else a late joiner never gets to the newest state.
  c.sync.inner_steps = static_cast<uint32_t>(2 + rng.Below(4));
  c.sync.fragments = rng.Chance(1, 2) ? 1 : static_cast<uint32_t>(2 + rng.Below(2));
  c.sync.overlap_steps = static_cast<uint32_t>(rng.Below(c.sync.inner_steps + 1));
  c.sync.codec = OneOf<const char*>(rng, {"float32", "bf16", "int8", "int8", "int4"});
  c.sync.codec_down = OneOf<const char*>(rng, {"float32", "bf16", "int8", "int8", "int4"});
  c.sync.error_feedback = OneOf<double>(rng, {-1.0, 0.5, 0.9, 1.0});
  c.sync.outer_lr = OneOf<double>(rng, {0.5, 0.7, 1.0});
  c.sync.outer_momentum = OneOf<double>(rng, {0.0, 0.6});
  c.sync.weights = OneOf<const char*>(rng, {"tokens", "equal"});
  c.round.quorum = OneOf<double>(rng, {0.34, 0.5, 0.75, 1.0});
  c.round.carry = static_cast<uint32_t>(rng.Below(4));
  c.round.grace = OneOf<double>(rng, {0.1, 0.5, 1.0});
  c.checkpoint.every_rounds = static_cast<uint32_t>(1 + rng.Below(6));
  c.checkpoint.keep = static_cast<uint32_t>(2 + rng.Below(2));
  return c;
}

// The participation contract: one required worker, or tokens, or both.
void DrawContract(Rng& rng, RunConfig& c) {
  const uint64_t what = 1 + rng.Below(3);
  if (what & 1) c.round.required_workers = MachineName(WorkerKey{{1}});
  // What min_workers bring at least, so that a healthy round keeps it.
  if (what & 2)
    c.round.min_tokens = SamplesPerStep(c) * kSampleTokens * (1 + rng.Below(c.run.min_workers));
  c.round.broken_contract = rng.Chance(3, 4) ? "degrade" : "stop";
}

std::vector<FragmentLayout> LayoutOf(const LlamaShape& shape, uint32_t fragments) {
  std::vector<TensorPlace> places;
  for (const Parameter& p : MakeParameterTable(shape).parameters)
    places.push_back({p.offset, p.elements, p.layer});
  return MakeFragments(places, fragments);
}

Machine DrawMachine(Rng& rng, Duration step_time) {
  Machine m;
  m.link.delay = Between(rng, Milliseconds(5), Milliseconds(150));
  m.link.jitter = Between(rng, Milliseconds(0), Milliseconds(50));
  m.link.bytes_per_s = 20'000 << rng.Below(10);
  m.step_time = step_time * static_cast<int64_t>(700 + rng.Below(900)) / 1000;
  m.joins_at = rng.Chance(3, 4) ? Duration(0) : Between(rng, Seconds(0), Seconds(60));
  return m;
}

}  // namespace

std::string MachineName(const WorkerKey& key) { return "w" + std::to_string(key.bytes[0]); }

Scenario DrawScenario(uint64_t seed) {
  Rng rng(Draw(seed, {0x5ce9a}));
  Scenario s;
  s.seed = seed;
  s.config = DrawConfig(rng);
  s.shape = TinyShape(rng);
  s.layout = LayoutOf(s.shape, s.config.sync.fragments);
  s.positions = rng.Chance(1, 10) ? 200 + rng.Below(400) : 1'000'000;
  const uint64_t machines =
      std::max<uint64_t>(s.config.run.min_workers + 1, 2 + rng.Below(rng.Chance(1, 8) ? 20 : 8));
  const Duration step_time = Between(rng, Milliseconds(500), Milliseconds(1500));
  for (uint64_t i = 0; i < machines; ++i) s.machines.push_back(DrawMachine(rng, step_time));
  // Drawn apart, so that what else a seed says stays as it was.
  Rng reducers(Draw(seed, {0x5e0}));
  if (reducers.Chance(1, 3)) {
    s.config.reduce.placement = "workers";
    s.config.reduce.trusted = "*";
  }
  for (Machine& m : s.machines) m.reduces = reducers.Chance(1, 2);
  s.journal.segment_bytes = 2'000 << rng.Below(8);
  s.journal.snapshot_bytes = 4'000 << rng.Below(8);
  s.faulty = Between(rng, Seconds(120), Seconds(400));
  Rng more(Draw(seed, {0x5ce9b}));
  s.worker_snapshots = more.Chance(3, 4);
  if (more.Chance(1, 6)) DrawContract(more, s.config);
  if (more.Chance(1, 6)) {  // slow machines: a round takes longer than any slack
    for (Machine& m : s.machines) m.step_time = 8 * m.step_time;
  }
  Rng late(Draw(seed, {0x5ce9d}));
  if (late.Chance(1, 10)) {  // rounds become much longer than those before, and wait for everybody
    s.config.round.quorum = 1;
    s.machines.back().step_time = 20 * s.machines.back().step_time;
    s.machines.back().joins_at = Between(late, Seconds(20), Seconds(60));
  }
  return s;
}

SliceHost::Options SliceOptions(const Scenario& scenario, Storage* storage, std::string folder) {
  const SyncSection& sync = scenario.config.sync;
  SliceHost::Options o;
  o.storage = storage;
  o.folder = std::move(folder);
  for (const FragmentLayout& layout : scenario.layout) o.fragments.push_back({layout.elements, {}});
  o.codec_up = *CodecByName(sync.codec);
  o.codec_down = *CodecByName(sync.codec_down);
  o.beta_down = static_cast<float>(sync.error_feedback);
  o.rules = RulesOf(sync);
  return o;
}

Duration ProgressBound(const Scenario& s, Duration round_limit) {
  const double patience = s.config.run.patience;
  Duration slowest{0};
  uint64_t slowest_link = UINT64_MAX;
  for (const Machine& m : s.machines) {
    slowest = std::max(slowest, m.step_time);
    slowest_link = std::min(slowest_link, m.link.bytes_per_s);
  }
  const auto patient = [&](Duration d) {
    return Duration(static_cast<int64_t>(static_cast<double>(d.count()) * patience));
  };
  // A silent session must expire, the coordinator's restart moves deadlines, the open round may
  // have to run into its limit, then everybody loads a state and trains one whole round; twice,
  // because a round may have been opened just before the last of the lost was missed.
  const Duration round = s.config.sync.inner_steps * (2 + s.config.round.carry) * slowest;
  const Duration state(static_cast<int64_t>(64 * 1024) * 1'000'000'000 /
                       static_cast<int64_t>(slowest_link));
  // Silence may be frozen for three times its limit; a closed round has several attempts.
  // A reducer may be late once while collecting and once after it.
  const int attempts = s.config.reduce.placement == "workers" ? 6 : 4;
  const Duration once =
      patient(Seconds(10 + 10 + 30)) + attempts * round_limit + round + state + Seconds(30);
  return 2 * once + kMaxReducerStall + Seconds(30);
}

}  // namespace longhaul::sim
