#include "wan/sim/goodput.h"

#include "common/rng.h"
#include "model/parameter_table.h"

namespace longhaul::sim {
namespace {

constexpr Duration kStep = Seconds(1);
constexpr uint32_t kStepsPerRound = 30;
constexpr Duration kRound = kStep * (kStepsPerRound + 2);  // with what a healthy exchange takes

Scenario HealthyScenario(const GoodputOptions& options) {
  Scenario s;
  s.seed = options.seed;
  s.config.run.name = "goodput";
  s.config.run.seed = options.seed;
  s.config.run.rounds = 1'000'000;
  s.config.run.min_workers = 2;
  s.config.data.sequence_length = 128;
  s.config.train.optimizer = "toy";
  s.config.sync.inner_steps = kStepsPerRound;
  s.config.sync.codec = s.config.sync.codec_down = "int8";
  s.shape = {.vocab_size = 8,
             .hidden_size = 8,
             .intermediate_size = 8,
             .num_hidden_layers = 1,
             .num_attention_heads = 2,
             .num_key_value_heads = 2};
  std::vector<TensorPlace> places;
  for (const Parameter& p : MakeParameterTable(s.shape).parameters)
    places.push_back({p.offset, p.elements, p.layer});
  s.layout = MakeFragments(places, 1);
  s.positions = 100'000'000;
  for (uint32_t i = 0; i < options.workers; ++i) {
    Machine m{.step_time =
                  kStep * static_cast<int64_t>(950 + Draw(options.seed, {8, i}) % 100) / 1000};
    s.machines.push_back(m);
  }
  s.faulty = kRound * options.rounds;
  return s;
}

double TokensPerSecond(const WorldResult& r) {
  const double seconds = static_cast<double>(r.simulated.count()) * 1e-9;
  return static_cast<double>(r.committed * kSampleTokens) / seconds;
}

}  // namespace

Goodput MeasureGoodput(const GoodputOptions& options) {
  const Scenario scenario = HealthyScenario(options);
  WorldOptions world{.seed = options.seed, .faults_off = ~uint64_t{0}, .scenario = &scenario};
  Goodput goodput;
  goodput.healthy = World(world).Run();
  world.churn = {kRound, options.failing_per_mille};
  goodput.failing = World(world).Run();
  goodput.healthy_tokens_per_s = TokensPerSecond(goodput.healthy);
  goodput.failing_tokens_per_s = TokensPerSecond(goodput.failing);
  goodput.kills = goodput.failing.faults[static_cast<size_t>(FaultKind::kWorkerKill)];
  return goodput;
}

}  // namespace longhaul::sim
