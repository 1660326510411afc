#include "cli/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "cli/presets.h"
#include "common/rng.h"

namespace longhaul {
namespace {

using ::testing::HasSubstr;

const char* const kMinimal = "[data]\ntrain = \"corpus.txt\"\n";

absl::StatusOr<LoadedConfig> Parse(const std::string& toml, ConfigOverrides overrides = {}) {
  return ParseRunConfig(toml, "run.toml", overrides);
}
std::string ErrorOf(const std::string& toml, ConfigOverrides overrides = {}) {
  const auto loaded = Parse(toml, std::move(overrides));
  if (loaded.ok()) return "accepted";
  EXPECT_EQ(loaded.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(loaded.status().message());
}

TEST(ConfigTable, DescribesEveryFieldOnce) {
  std::set<std::string> names, environment;
  std::set<const void*> fields;
  RunConfig config;
  for (const ConfigKey& key : ConfigKeys()) {
    EXPECT_TRUE(names.insert(key.FullName()).second) << key.FullName();
    EXPECT_TRUE(environment.insert(key.EnvironmentName()).second) << key.EnvironmentName();
    EXPECT_FALSE(key.help.empty()) << key.FullName();
    EXPECT_TRUE(std::visit([&](auto* p) { return fields.insert(p).second; }, key.field(config)))
        << key.FullName();
  }
  EXPECT_EQ(FindConfigKey("sync", "inner_steps")->EnvironmentName(), "LONGHAUL_SYNC_INNER_STEPS");
}

// A field added to proto/run_config.h needs its line in the table, then here.
TEST(ConfigTable, CoversTheStruct) {
  constexpr size_t kFieldsOfRunConfig = 6 + 11 + 7 + 15 + 21 + 7 + 3 + 3 + 2 + 6;
  EXPECT_EQ(ConfigKeys().size(), kFieldsOfRunConfig);
}

TEST(ConfigParse, MinimalFileHasDefaults) {
  const auto loaded = Parse(kMinimal);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  RunConfig expected;
  expected.data.train = "corpus.txt";
  EXPECT_EQ(loaded->config, expected);
  EXPECT_EQ(loaded->origins.at("data.train"), "run.toml:2");
  EXPECT_EQ(loaded->origins.size(), 1u);
}

TEST(ConfigParse, LaterSourcesWin) {
  ConfigOverrides overrides;
  overrides.environment = {{"LONGHAUL_RUN_SEED", "2"}, {"LONGHAUL_RUN_ROUNDS", "9"}};
  overrides.sets = {"run.seed=3", "data.train=a=b.txt", "model.tie_word_embeddings=true"};
  const auto loaded = Parse("[run]\nseed = 1\nrounds = 5\npatience = 2\n", overrides);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->config.run.seed, 3u);
  EXPECT_EQ(loaded->config.run.rounds, 9u);
  EXPECT_EQ(loaded->config.run.patience, 2.0);
  EXPECT_EQ(loaded->config.data.train, "a=b.txt");
  EXPECT_TRUE(loaded->config.model.tie_word_embeddings);
  EXPECT_EQ(loaded->origins.at("run.seed"), "--set");
  EXPECT_EQ(loaded->origins.at("run.rounds"), "LONGHAUL_RUN_ROUNDS");
}

TEST(ConfigParse, NamesPlaceValueAndRange) {
  EXPECT_EQ(ErrorOf("[train]\nlearning_rate = -1\n"),
            "run.toml:2: train.learning_rate = -1.0: must be a number above 0, at most 100");
  EXPECT_EQ(ErrorOf("[run]\n\nrounds = \"many\"\n"),
            "run.toml:3: run.rounds = \"many\": must be a whole number from 1 to 1000000");
  EXPECT_EQ(ErrorOf("[sync]\ncodec = \"int9\"\n"),
            "run.toml:2: sync.codec = \"int9\": must be one of float32, bf16, int8, int4, int2, "
            "top-k, bit-budget; "
            "did you mean \"int8\"?");
  EXPECT_THAT(ErrorOf("[run]\nrounds = 4294967297\n"), HasSubstr("from 1 to 1000000"));
  EXPECT_THAT(ErrorOf("[run]\nseed = -1\n"), HasSubstr("run.seed = -1"));
  EXPECT_THAT(ErrorOf("[run]\npatience = nan\n"), HasSubstr("run.patience = nan: must be"));
  EXPECT_THAT(ErrorOf("[run]\nrounds = 3.5\n"), HasSubstr("whole number"));
  EXPECT_THAT(ErrorOf("[run]\nrounds = [3]\n"), HasSubstr("run.toml:2: run.rounds: must be"));
  EXPECT_THAT(ErrorOf("[run]\nname = \"a/b\"\n"), HasSubstr("letters"));
  EXPECT_THAT(ErrorOf("[round]\nquorum = 0\n"), HasSubstr("above 0, at most 1"));
  EXPECT_THAT(ErrorOf("[round]\nquorum = 1.01\n"), HasSubstr("above 0, at most 1"));
}

TEST(ConfigParse, UnknownNamesGetTheNearestValidOne) {
  EXPECT_EQ(ErrorOf("[run]\nsede = 1\n"),
            "run.toml:2: unknown key \"run.sede\"; did you mean \"seed\"?");
  EXPECT_EQ(ErrorOf("[trian]\nseed = 1\n"),
            "run.toml:1: unknown section \"trian\"; did you mean \"train\"?");
  EXPECT_THAT(ErrorOf("[train]\ninner_steps = 1\n"), HasSubstr("sync.inner_steps"));
  EXPECT_THAT(ErrorOf("seed = 1\n"), HasSubstr("the key is run.seed"));
  EXPECT_THAT(ErrorOf("run = 1\n"), HasSubstr("write [run]"));
  EXPECT_THAT(ErrorOf(kMinimal, {{}, {"run.sed=1"}}),
              HasSubstr("--set run.sed: no such key; did you mean \"run.seed\"?"));
  EXPECT_THAT(ErrorOf(kMinimal, {{}, {"inner_steps=1"}}), HasSubstr("\"sync.inner_steps\"?"));
  EXPECT_THAT(ErrorOf(kMinimal, {{}, {"run.seed"}}), HasSubstr("section.key=value"));
  EXPECT_THAT(ErrorOf(kMinimal, {{{"LONGHAUL_RUN_SEDE", "1"}}, {}}),
              HasSubstr("did you mean \"LONGHAUL_RUN_SEED\"?"));
}

TEST(ConfigParse, OtherVariablesOfOursAreLeftAlone) {
  EXPECT_TRUE(Parse(kMinimal, {{{"LONGHAUL_TORCH_DIR", "x"}}, {}}).ok());
  char a[] = "PATH=/bin", b[] = "LONGHAUL_RUN_SEED=4=5", c[] = "LONGHAUL_BROKEN";
  char* block[] = {a, b, c, nullptr};
  const auto collected = CollectEnvironment(block);
  ASSERT_EQ(collected.size(), 1u);
  EXPECT_EQ(collected[0].second, "4=5");
}

TEST(ConfigParse, PredictiveCoding) {
  const std::string pcn = "[data]\ntrain = \"a.txt\"\n[train]\nmode = \"pcn\"\n[pcn]\n";
  const auto loaded = Parse(pcn + "rule = \"ipc\"\nsweeps = 5\nrate = 0.5\n");
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(UpdatesPerStep(loaded->config), 5u);
  EXPECT_EQ(StepsPerRound(loaded->config), 4u);
  EXPECT_EQ(StepsPerRound(Parse(pcn + "rule = \"spc\"\nsweeps = 3\n")->config), 20u);
  EXPECT_EQ(ErrorOf(pcn + "rule = \"ipc\"\nsweeps = 3\n"),
            "sync.inner_steps = 20: counts weight updates, of which a step of rule ipc "
            "makes 3 (pcn.sweeps x gradient_accumulation_steps); nearest: 18 or 21");
  EXPECT_THAT(ErrorOf(pcn + "rule = \"ibc\"\n"), HasSubstr("did you mean \"ipc\"?"));
  EXPECT_THAT(ErrorOf(pcn + "rule = \"zil\"\nnudge = 0.5\n"),
              HasSubstr("rule zil: exact credit does not depend on a nudge"));
  EXPECT_THAT(ErrorOf(pcn + "rule = \"epc\"\nmomentum = 0.5\n"), HasSubstr("momentum"));
  EXPECT_THAT(ErrorOf(pcn + "sweeps = 0\n"), HasSubstr("pcn.sweeps = 0"));
  EXPECT_THAT(ErrorOf("[data]\ntrain = \"a\"\n[pcn]\nrule = \"spc\"\n"),
              HasSubstr("train.mode = \"backprop\": section pcn is given"));
  EXPECT_THAT(ErrorOf("[train]\nmode = \"pcn\"\noptimizer = \"toy\"\n"), HasSubstr("toy"));
}

TEST(ConfigParse, BlocksOfRelay) {
  const std::string relay = "[train]\nmode = \"relay\"\n";
  EXPECT_EQ(ErrorOf("[model]\npreset = \"dense:784,24,10\"\n" + relay), "accepted");
  EXPECT_THAT(ErrorOf("[data]\ntrain = \"a\"\n" + relay), HasSubstr("need each other"));
  EXPECT_THAT(ErrorOf("[model]\npreset = \"dense:784,10\"\n[data]\ntrain = \"a\"\n"),
              HasSubstr("need each other"));
  EXPECT_THAT(ErrorOf("[model]\npreset = \"dense:784,x\"\n" + relay),
              HasSubstr("dense:784,256,10"));
  EXPECT_THAT(ErrorOf("[model]\npreset = \"dense:784\"\n" + relay), HasSubstr("1 to 1024 layers"));
  EXPECT_THAT(ErrorOf("[model]\npreset = \"dense:7,2\"\n" + relay + "optimizer = \"toy\"\n"),
              HasSubstr("the toy trainer has no blocks"));
}

TEST(ConfigParse, ListsEveryMistake) {
  const std::string error = ErrorOf("[run]\nsede = 1\nrounds = 0\n[foo]\nx = 1\n");
  EXPECT_THAT(error, HasSubstr("run.sede"));
  EXPECT_THAT(error, HasSubstr("run.rounds = 0"));
  EXPECT_THAT(error, HasSubstr("foo"));
}

TEST(ConfigParse, BadTomlAndBadText) {
  EXPECT_THAT(ErrorOf("[run]\nseed = \n"), HasSubstr("run.toml:2: not valid TOML"));
  EXPECT_THAT(ErrorOf("[run]\nseed = 1\nseed = 2\n"), HasSubstr("run.toml:3: not valid TOML"));
  EXPECT_THAT(ErrorOf(kMinimal, {{}, {"data.train=a\nb"}}), HasSubstr("must be text"));
  EXPECT_THAT(ErrorOf(kMinimal, {{}, {"data.train=\xff"}}), HasSubstr("must be text"));
  EXPECT_THAT(ErrorOf(kMinimal, {{}, {"run.seed=1x"}}), HasSubstr("run.seed = \"1x\""));
}

TEST(ConfigValidate, TiesBetweenKeys) {
  EXPECT_THAT(ErrorOf(""), HasSubstr("data.train = \"\": give a text file"));
  const std::string minimal = kMinimal;
  EXPECT_THAT(ErrorOf(minimal + "sequence_length = 100\n"),
              HasSubstr("run.toml:3: data.sequence_length = 100: must divide 1024, the tokens of a "
                        "sample; nearest: 64 or 128"));
  EXPECT_THAT(ErrorOf(minimal + "[train]\nper_device_train_batch_size = 12\n"),
              HasSubstr("12 x 1 x 128 tokens must be a multiple of 1024; nearest batch size: 8 or "
                        "16"));
  EXPECT_THAT(ErrorOf(minimal + "[train]\nper_device_train_batch_size = 1\n"),
              HasSubstr("nearest batch size: 8"));
  EXPECT_TRUE(Parse(minimal + "[train]\nper_device_train_batch_size = 2\n"
                              "gradient_accumulation_steps = 4\n")
                  .ok());
  EXPECT_THAT(ErrorOf(minimal + "[sync]\noverlap_steps = 20\n"),
              HasSubstr("less than sync.inner_steps"));
  EXPECT_THAT(ErrorOf(minimal + "[model]\nvocab_size = 100\n"), HasSubstr("at least 256"));
  EXPECT_THAT(ErrorOf(minimal + "[network]\nlisten = \"7443\"\n"), HasSubstr("address:port"));
  EXPECT_THAT(ErrorOf(minimal + "[network]\nhttp = \"localhost:99999\"\n"),
              HasSubstr("address:port"));
  EXPECT_TRUE(Parse(minimal + "[network]\nhttp = \"\"\nlisten = \"[::]:0\"\n").ok());
}

TEST(ConfigValidate, ModelSizes) {
  const std::string sizes = std::string(kMinimal) +
                            "[model]\nhidden_size = 64\nintermediate_size = 128\n"
                            "num_hidden_layers = 2\n";
  const auto loaded = Parse(sizes + "num_attention_heads = 4\n");
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->config.model.preset, "");  // sizes replace the default preset
  EXPECT_EQ(loaded->config.model.num_key_value_heads, 4u);
  EXPECT_THAT(ErrorOf(sizes), HasSubstr("num_attention_heads = 0: must be given"));
  EXPECT_THAT(ErrorOf(sizes + "num_attention_heads = 6\n"), HasSubstr("nearest: 60 or 66"));
  EXPECT_THAT(ErrorOf(sizes + "num_attention_heads = 64\n"), HasSubstr("must be even"));
  EXPECT_THAT(ErrorOf(sizes + "num_attention_heads = 4\nnum_key_value_heads = 3\n"),
              HasSubstr("must divide num_attention_heads"));
  EXPECT_THAT(ErrorOf(sizes + "num_attention_heads = 4\npreset = \"llama-1m\"\n"),
              HasSubstr("only one of"));
  EXPECT_THAT(ErrorOf(std::string(kMinimal) + "[model]\npreset = \"\"\n"),
              HasSubstr("give a preset"));
  EXPECT_EQ(Parse(std::string(kMinimal) + "[model]\ninit_from = \"dir\"\n")->config.model.preset,
            "");
}

TEST(ConfigValidate, SyncRulesThatExcludeEachOther) {
  const std::string sync = std::string(kMinimal) + "[sync]\n";
  EXPECT_THAT(ErrorOf(sync + "norm_cap = true\naggregator = \"contributor_mean\"\n"),
              HasSubstr("sync.norm_cap"));
  for (const char* rule :
       {"norm_cap = true", "restore_norm = true", "aggregator = \"contributor_mean\""}) {
    EXPECT_THAT(ErrorOf(sync + "delta_per_step = true\n" + rule + "\n"),
                HasSubstr("sync.delta_per_step"));
  }
  for (const char* rule : {"norm_cap = true", "restore_norm = true"}) {
    EXPECT_THAT(ErrorOf(sync + rule + "\n[reduce]\nplacement = \"workers\"\n"),
                HasSubstr("reduce.placement"));
  }
  EXPECT_THAT(ErrorOf(sync + "mixing = 0.5\nerror_feedback = -1.0\n"), HasSubstr("round.quorum"));
  EXPECT_EQ(ErrorOf(sync + "mixing = 0.5\nerror_feedback = -1.0\n[round]\nquorum = 1.0\n"),
            "accepted");
  EXPECT_THAT(ErrorOf(sync + "bits_down = 0.01\n"), HasSubstr("sync.bits_down"));
  EXPECT_THAT(ErrorOf(sync + "weights = \"speed\"\n"), HasSubstr("tokens2_per_step"));
  for (const char* bad : {"w1", "=3", "w1=", "w1=0", "w1=1000001", "w1=2,w1=3", "w1=2,,w2=3",
                          "w1=x", "w1=99999999999"}) {
    EXPECT_THAT(ErrorOf(sync + "steps_per_worker = \"" + bad + "\"\n"),
                HasSubstr("sync.steps_per_worker"))
        << bad;
  }
}

TEST(ConfigValidate, BitsDownFollowFromTheWorkers) {
  RunConfig config;
  config.run.min_workers = 3;
  for (const auto& [bits, down] : std::map<double, double>{{0.1, 1}, {1, 3}, {2, 4}}) {
    config.sync.bits = bits;
    EXPECT_EQ(BitsDown(config), down) << bits;
  }
  config.sync.bits_down = 0.7;
  EXPECT_EQ(BitsDown(config), 0.7);
  EXPECT_EQ(StepsPerWorker(" a = 5, b=70 "),
            (std::map<std::string, uint32_t>{{"a", 5}, {"b", 70}}));
  EXPECT_TRUE(StepsPerWorker("")->empty());
}

TEST(ConfigValidate, ChecksRangesOfConfigsMadeInCode) {
  RunConfig config;
  config.data.train = "x";
  EXPECT_TRUE(ValidateRunConfig(config).ok());
  config.run.rounds = 0;
  EXPECT_THAT(std::string(ValidateRunConfig(config).message()), HasSubstr("run.rounds = 0"));
  config.run.rounds = 1;
  config.run.seed = UINT64_MAX;
  EXPECT_FALSE(ValidateRunConfig(config).ok());
}

// A random value that the rule accepts.
ConfigValue RandomValue(const ValueRule& rule, Rng& rng) {
  if (std::holds_alternative<AnyBool>(rule)) return rng.Chance(1, 2);
  if (const auto* r = std::get_if<WholeNumber>(&rule)) {
    return static_cast<int64_t>(r->min + rng.Below(r->max - r->min + 1));
  }
  if (const auto* r = std::get_if<RealNumber>(&rule)) {
    return r->max - (r->max - r->min) * static_cast<double>(rng.Below(1 << 30)) / (1 << 30);
  }
  if (const auto* r = std::get_if<OneOf>(&rule)) return r->choices[rng.Below(r->choices.size())];
  if (std::holds_alternative<PlainName>(rule)) return "n" + std::to_string(rng.Next());
  const char* pieces[] = {"\"", "\\", "#", "θ", " ", "'", "\\u", "=", "[x]", "\xF0\x9F\x98\x80"};
  std::string text = "t";
  for (uint64_t n = rng.Below(8); n > 0; --n) text += pieces[rng.Below(std::size(pieces))];
  return text;
}

// Values that pass the ties between keys, where a random one would not.
void RepairTies(RunConfig& config, Rng& rng) {
  config.data.sequence_length = 1u << rng.Below(11);
  if (rng.Chance(1, 2)) {
    config.data.train.clear();
    config.data.manifest = "sets/mix";
  } else {
    config.data.manifest.clear();
    config.data.mixture.clear();
  }
  config.train.per_device_train_batch_size = 1024 * static_cast<uint32_t>(1 + rng.Below(64));
  if (config.train.optimizer == "toy" || config.train.mode == "relay")
    config.train.mode = "backprop";
  config.train.gradient_accumulation_steps = 1 + static_cast<uint32_t>(rng.Below(4));
  config.pcn.sweeps = 1 + static_cast<uint32_t>(rng.Below(20));
  if (config.pcn.rule != "spc") config.pcn = {.rule = "ipc", .sweeps = config.pcn.sweeps};
  if (config.train.mode == "backprop") config.pcn = PcnSection();
  config.sync.inner_steps = UpdatesPerStep(config) * (1 + static_cast<uint32_t>(rng.Below(9)));
  config.sync.overlap_steps = static_cast<uint32_t>(rng.Below(StepsPerRound(config)));
  config.sync.bits_down = 0.05 + static_cast<double>(rng.Below(7));
  config.sync.delta_per_step = config.sync.norm_cap = false;
  if (config.reduce.placement == "workers") config.sync.restore_norm = false;
  config.sync.mixing = -1;
  config.sync.steps_per_worker = "w" + std::to_string(rng.Next()) + "=7";
  config.network = NetworkSection{"[::1]:" + std::to_string(rng.Below(65536)), "", ""};
  config.model.vocab_size = 256 + static_cast<uint32_t>(rng.Below(1000));
  config.model.num_hidden_layers = 1;
  config.model.intermediate_size = 8;
  config.model.num_key_value_heads = 1 + static_cast<uint32_t>(rng.Below(4));
  config.model.num_attention_heads = 2 * config.model.num_key_value_heads;
  config.model.hidden_size = 8 * config.model.num_attention_heads;
  config.model.preset.clear();
  config.model.init_from.clear();
}

// ---- presets ----

// What a preset asks for may be ahead of what the programs do, which is refused by name.
bool AcceptedOrNotYet(const absl::Status& status) {
  return status.ok() ||
         std::string(status.message()).find("not supported yet") != std::string::npos;
}

TEST(ConfigPreset, EachIsValidAndSaysWhy) {
  EXPECT_EQ(SyncPresetChoices(), (std::vector<std::string>{"none", "diloco", "muloco", "sparseloco",
                                                           "standard", "streaming", "thin"}));
  for (const SyncPreset& preset : SyncPresets()) {
    SCOPED_TRACE(preset.name);
    EXPECT_TRUE(preset.toml.starts_with("# " + preset.name + ": "));
    const auto alone = Parse(preset.toml, {{}, {"data.train=wheel"}});
    EXPECT_TRUE(AcceptedOrNotYet(alone.status())) << alone.status();
    for (const std::string line : {"fragments", "overlap_steps"}) {
      EXPECT_THAT(preset.toml, HasSubstr("\n" + line + " = "));
    }
    const auto one = Parse(
        kMinimal, {{}, {"sync.preset=" + preset.name, "sync.fragments=1", "sync.overlap_steps=0"}});
    ASSERT_TRUE(one.ok()) << one.status();
    for (const auto& [key, place] : one->origins) {
      if (place != "preset " + preset.name) continue;
      EXPECT_TRUE(key.starts_with("train.") || key.starts_with("sync.")) << key;
      const size_t dot = key.find('.');
      EXPECT_FALSE(FindConfigKey(key.substr(0, dot), key.substr(dot + 1))->common)
          << key << " live in a starting file would keep every preset from setting it";
    }
    EXPECT_EQ(one->origins.at("sync.inner_steps"), "preset " + preset.name);
  }
}

TEST(ConfigPreset, EverythingGivenWins) {
  const std::string file = std::string(kMinimal) + "[sync]\npreset = \"diloco\"\nouter_lr = 0.5\n";
  const auto loaded = Parse(file, {{{"LONGHAUL_SYNC_CODEC", "int8"}}, {"sync.inner_steps=7"}});
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  const SyncSection& s = loaded->config.sync;
  EXPECT_EQ(s.preset, "diloco");
  EXPECT_EQ(s.outer_lr, 0.5);
  EXPECT_EQ(s.codec, "int8");
  EXPECT_EQ(s.inner_steps, 7u);
  EXPECT_EQ(s.codec_down, "float32");
  EXPECT_EQ(s.weights, "equal");
  EXPECT_THAT(ErrorOf(std::string(kMinimal) + "[sync]\npreset = \"dilocko\"\n"),
              HasSubstr("one of none, diloco"));
}

TEST(ConfigPrint, ResolvedFileParsesBackToTheSameConfig) {
  Rng rng(11);
  for (int i = 0; i < 200; ++i) {
    RunConfig config;
    for (const ConfigKey& key : ConfigKeys()) {
      SetConfigValue(key, RandomValue(key.rule, rng), config);
    }
    RepairTies(config, rng);
    const std::string text = ResolvedToml(config, {{"run.seed", "a\\b"}, {"run.name", "a\nb"}});
    const auto loaded = Parse(text);
    ASSERT_TRUE(loaded.ok()) << loaded.status() << "\n" << text;
    ASSERT_EQ(loaded->config, config) << text;
    ASSERT_EQ(loaded->origins.size(), ConfigKeys().size());
  }
}

TEST(ConfigPrint, TemplateIsAValidFileWithEveryKey) {
  const auto text = InitTemplate("tiny-llama");
  ASSERT_TRUE(text.ok());
  const auto loaded = Parse(*text);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  RunConfig expected;
  expected.run.name = "tiny-llama";
  expected.data.train = "wheel";
  EXPECT_EQ(loaded->config, expected);
  for (const ConfigKey& key : ConfigKeys()) EXPECT_THAT(*text, HasSubstr(key.name + " = "));
  EXPECT_FALSE(InitTemplate("../up").ok());
  EXPECT_FALSE(InitTemplate("").ok());
  // The lines that are comments hold valid values, too.
  std::string live;
  for (size_t at = 0; at < text->size();) {
    const size_t end = text->find('\n', at);
    std::string line = text->substr(at, end - at);
    if (line.starts_with("# ") && line.find(" = ") != std::string::npos) line.erase(0, 2);
    live += line + "\n";
    at = end + 1;
  }
  const auto all_live = Parse(live);
  ASSERT_TRUE(all_live.ok()) << all_live.status();
  EXPECT_EQ(all_live->config, expected);
  EXPECT_EQ(all_live->origins.size(), ConfigKeys().size());
}

TEST(ConfigPrint, HelpNamesEveryKey) {
  const std::string help = ConfigHelp();
  for (const ConfigKey& key : ConfigKeys()) {
    EXPECT_THAT(help, HasSubstr(key.FullName()));
    EXPECT_THAT(help, HasSubstr(key.EnvironmentName()));
  }
}

TEST(ConfigFile, MissingFileSaysWhy) {
  const auto loaded = LoadRunConfig("/no/such/run.toml", {});
  EXPECT_EQ(loaded.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(loaded.status().message()), HasSubstr("/no/such/run.toml"));
  EXPECT_EQ(LoadRunConfig("/tmp", {}).status().code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(LoadRunConfig("", {{}, {"data.train=wheel"}}).ok());
}

}  // namespace
}  // namespace longhaul
