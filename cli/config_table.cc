#include "cli/config.h"
#include "cli/presets.h"
#include "pcn/rules/rule_options.h"
#include "proto/messages.h"

namespace longhaul {
namespace {

template <auto kSection, auto kMember>
FieldRef Ref(RunConfig& config) {
  return &((config.*kSection).*kMember);
}

template <auto kMember>
constexpr auto kRun = &Ref<&RunConfig::run, kMember>;
template <auto kMember>
constexpr auto kModel = &Ref<&RunConfig::model, kMember>;
template <auto kMember>
constexpr auto kData = &Ref<&RunConfig::data, kMember>;
template <auto kMember>
constexpr auto kTrain = &Ref<&RunConfig::train, kMember>;
template <auto kMember>
constexpr auto kSync = &Ref<&RunConfig::sync, kMember>;
template <auto kMember>
constexpr auto kRound = &Ref<&RunConfig::round, kMember>;
template <auto kMember>
constexpr auto kReduce = &Ref<&RunConfig::reduce, kMember>;
template <auto kMember>
constexpr auto kNetwork = &Ref<&RunConfig::network, kMember>;
template <auto kMember>
constexpr auto kCheckpoint = &Ref<&RunConfig::checkpoint, kMember>;

template <auto kMember>
constexpr auto kPcn = &Ref<&RunConfig::pcn, kMember>;

constexpr bool kCommon = true;
constexpr bool kRare = false;
constexpr uint64_t kLargestTomlInteger = INT64_MAX;
constexpr uint64_t kMillion = 1'000'000;

using Keys = std::vector<ConfigKey>;

void AddRunKeys(Keys& keys) {
  using S = RunSection;
  const auto add = [&keys](std::string name, auto field, ValueRule rule, bool common,
                           std::string help) {
    keys.push_back({"run", std::move(name), field, std::move(rule), common, std::move(help)});
  };
  add("name", kRun<&S::name>, PlainName{}, kCommon, "shown everywhere; names the run folder");
  add("seed", kRun<&S::seed>, WholeNumber{0, kLargestTomlInteger}, kCommon,
      "initial values and data order follow from it");
  add("rounds", kRun<&S::rounds>, WholeNumber{1, kMillion}, kCommon,
      "committed rounds until the run is finished");
  add("min_workers", kRun<&S::min_workers>, WholeNumber{1, 10'000}, kCommon,
      "training waits until this many have joined");
  add("patience", kRun<&S::patience>, RealNumber{1.0, 100.0}, kRare,
      "scales every timeout; larger for shaky machines");
  add("output_dir", kRun<&S::output_dir>, AnyText{}, kRare, "run folder; \"\" = runs/<name>");
}

void AddModelKeys(Keys& keys) {
  using S = ModelSection;
  const auto add = [&keys](std::string name, auto field, ValueRule rule, bool common,
                           std::string help) {
    keys.push_back({"model", std::move(name), field, std::move(rule), common, std::move(help)});
  };
  add("preset", kModel<&S::preset>, AnyText{64}, kCommon,
      "named size; \"\" when the sizes below or init_from are given");
  add("init_from", kModel<&S::init_from>, AnyText{}, kRare,
      "Hugging Face folder to start from; \"\" = own initial values");
  add("vocab_size", kModel<&S::vocab_size>, WholeNumber{2, 65'536}, kRare,
      "token ids; 256 for bytes");
  add("hidden_size", kModel<&S::hidden_size>, WholeNumber{0, 65'536}, kRare, "width of the model");
  add("intermediate_size", kModel<&S::intermediate_size>, WholeNumber{0, 1 << 20}, kRare,
      "width of the feed-forward part");
  add("num_hidden_layers", kModel<&S::num_hidden_layers>, WholeNumber{0, 1024}, kRare, "blocks");
  add("num_attention_heads", kModel<&S::num_attention_heads>, WholeNumber{0, 1024}, kRare,
      "must divide hidden_size");
  add("num_key_value_heads", kModel<&S::num_key_value_heads>, WholeNumber{0, 1024}, kRare,
      "must divide num_attention_heads; 0 = the same");
  add("rope_theta", kModel<&S::rope_theta>, RealNumber{1.0, 1e9}, kRare,
      "base of the rotary position embedding");
  add("rms_norm_eps", kModel<&S::rms_norm_eps>, RealNumber{0.0, 0.1, true}, kRare,
      "keeps the norm's division finite");
  add("tie_word_embeddings", kModel<&S::tie_word_embeddings>, AnyBool{}, kRare,
      "one matrix for embedding and head");
}

void AddDataKeys(Keys& keys) {
  using S = DataSection;
  const auto add = [&keys](std::string name, auto field, ValueRule rule, bool common,
                           std::string help) {
    keys.push_back({"data", std::move(name), field, std::move(rule), common, std::move(help)});
  };
  add("train", kData<&S::train>, AnyText{}, kCommon,
      "text file, nanoGPT .bin, or \"wheel\" (text inside the torch wheel)");
  add("validation", kData<&S::validation>, RealNumber{0.0, 0.5}, kCommon,
      "share of the samples kept for validation");
  add("tokenizer", kData<&S::tokenizer>, OneOf{{"bytes"}}, kCommon, "text to token ids");
  add("sequence_length", kData<&S::sequence_length>, WholeNumber{1, kSampleTokens}, kCommon,
      "tokens the model sees at once; must divide 1024");
  add("max_bytes", kData<&S::max_bytes>, WholeNumber{0, kLargestTomlInteger}, kRare,
      "use only the first bytes of the data; 0 = all");
  add("manifest", kData<&S::manifest>, AnyText{}, kRare,
      "instead of train: a folder made by longhaul data prepare, or its http:// address");
  add("mixture", kData<&S::mixture>, AnyText{}, kRare,
      "shares of the manifest's domains, \"web=3 code=1\"; \"\" = by their samples");
}

void AddTrainKeys(Keys& keys) {
  using S = TrainSection;
  const auto add = [&keys](std::string name, auto field, ValueRule rule, bool common,
                           std::string help) {
    keys.push_back({"train", std::move(name), field, std::move(rule), common, std::move(help)});
  };
  add("optimizer", kTrain<&S::optimizer>, OneOf{{"adamw", "muon", "toy"}}, kRare,
      "inner optimizer; toy: no neural network, for tests of the network (longhaul-worker-toy)");
  add("learning_rate", kTrain<&S::learning_rate>, RealNumber{0.0, 100.0, true}, kRare,
      "of the inner optimizer, after warm-up; muon: 0.01 to 0.02");
  add("warmup_steps", kTrain<&S::warmup_steps>, WholeNumber{0, kMillion}, kCommon,
      "inner steps until the full learning rate");
  add("lr_schedule", kTrain<&S::lr_schedule>, OneOf{{"cosine", "constant"}}, kCommon,
      "cosine falls to 10 % over rounds x inner_steps");
  add("per_device_train_batch_size", kTrain<&S::per_device_train_batch_size>,
      WholeNumber{1, 65'536}, kCommon, "sequences per forward pass");
  add("gradient_accumulation_steps", kTrain<&S::gradient_accumulation_steps>,
      WholeNumber{1, 65'536}, kCommon, "forward passes per inner step");
  add("weight_decay", kTrain<&S::weight_decay>, RealNumber{0.0, 10.0}, kCommon,
      "decoupled, on matrices");
  add("max_grad_norm", kTrain<&S::max_grad_norm>, RealNumber{0.0, 1e6}, kCommon,
      "gradients are clipped to this norm; 0 = not");
  add("adam_beta1", kTrain<&S::adam_beta1>, RealNumber{0.0, 0.99999}, kRare,
      "decay of the first moment");
  add("adam_beta2", kTrain<&S::adam_beta2>, RealNumber{0.0, 0.99999999}, kRare,
      "decay of the second moment");
  add("adam_epsilon", kTrain<&S::adam_epsilon>, RealNumber{0.0, 1.0, true}, kRare,
      "keeps Adam's division finite");
  add("adamw_learning_rate", kTrain<&S::adamw_learning_rate>, RealNumber{0.0, 100.0, true}, kRare,
      "muon only: of embedding, head and norms");
  add("muon_momentum", kTrain<&S::muon_momentum>, RealNumber{0.0, 0.99999}, kRare,
      "muon only: decay of the momentum");
  add("mode", kTrain<&S::mode>, OneOf{{"backprop", "pcn", "relay"}}, kRare,
      "where gradients come from; pcn: predictive coding, see section pcn; relay: from the stages "
      "that hold this block (longhaul pcn relay --block-runs)");
  add("toy_step_ms", kTrain<&S::toy_step_ms>, WholeNumber{0, 600'000}, kRare,
      "longhaul-worker-toy only: time of one step");
}

void AddSyncKeys(Keys& keys) {
  using S = SyncSection;
  const std::vector<std::string> codecs = {"float32", "bf16",  "int8",      "int4",
                                           "int2",    "top-k", "bit-budget"};
  const auto add = [&keys](std::string name, auto field, ValueRule rule, bool common,
                           std::string help) {
    keys.push_back({"sync", std::move(name), field, std::move(rule), common, std::move(help)});
  };
  add("preset", kSync<&S::preset>, OneOf{SyncPresetChoices()}, kCommon,
      "named method; sets keys of [train] and [sync] that are not given here");
  add("inner_steps", kSync<&S::inner_steps>, WholeNumber{1, kMillion}, kRare,
      "H: local steps between two synchronisations");
  add("fragments", kSync<&S::fragments>, WholeNumber{1, 64}, kRare,
      "parts of the model that are synchronised in turn");
  add("overlap_steps", kSync<&S::overlap_steps>, WholeNumber{0, kMillion}, kRare,
      "local steps made while a synchronisation travels");
  add("codec", kSync<&S::codec>, OneOf{codecs}, kRare, "what workers send");
  add("codec_down", kSync<&S::codec_down>, OneOf{codecs}, kRare, "what workers receive");
  add("bits", kSync<&S::bits>, RealNumber{0.05, 8.0}, kRare,
      "top-k, bit-budget: bits per parameter that workers send");
  add("bits_down", kSync<&S::bits_down>, RealNumber{0.0, 8.0}, kRare,
      "the same, that workers receive; 0 = min(4, max(1, run.min_workers x bits))");
  add("error_feedback", kSync<&S::error_feedback>, RealNumber{-1.0, 1.0}, kRare,
      "share of the coding error that is sent later; negative = none");
  add("outer_lr", kSync<&S::outer_lr>, RealNumber{0.0, 10.0, true}, kRare,
      "step size of the outer optimizer (Nesterov)");
  add("outer_momentum", kSync<&S::outer_momentum>, RealNumber{0.0, 0.9999}, kRare,
      "momentum of the outer optimizer; 0 = plain SGD");
  add("weights", kSync<&S::weights>, OneOf{{"tokens", "equal", "tokens2_per_step"}}, kRare,
      "how much a contribution counts in the mean");
  add("delta_per_step", kSync<&S::delta_per_step>, AnyBool{}, kRare,
      "count what each worker moved per step, times the mean steps: for unequal steps");
  add("aggregator", kSync<&S::aggregator>, OneOf{{"mean", "contributor_mean"}}, kRare,
      "contributor_mean: of each value, over those who sent it; for sparse codes");
  add("norm_cap", kSync<&S::norm_cap>, AnyBool{}, kRare,
      "in each tensor nobody counts with more than the median norm");
  add("restore_norm", kSync<&S::restore_norm>, AnyBool{}, kRare,
      "lengthen each tensor's mean to the workers' mean norm, at most 4 times");
  add("outer_warmup_rounds", kSync<&S::outer_warmup_rounds>, WholeNumber{0, kMillion}, kRare,
      "outer steps until the full outer_lr");
  add("outer_drop_round", kSync<&S::outer_drop_round>, WholeNumber{0, kMillion}, kRare,
      "outer steps after which outer_lr is multiplied by outer_drop; 0 = never");
  add("outer_drop", kSync<&S::outer_drop>, RealNumber{0.0, 1.0, true}, kRare,
      "the factor late in the run");
  add("mixing", kSync<&S::mixing>, RealNumber{-1.0, 1.0}, kRare,
      "share of the local parameters kept at an outer step; negative = carry progress over");
  add("steps_per_worker", kSync<&S::steps_per_worker>, AnyText{}, kRare,
      "NAME=STEPS, with commas: workers with another number of steps than inner_steps");
}

void AddOtherKeys(Keys& keys) {
  const auto add = [&keys](std::string section, std::string name, auto field, ValueRule rule,
                           bool common, std::string help) {
    keys.push_back(
        {std::move(section), std::move(name), field, std::move(rule), common, std::move(help)});
  };
  add("round", "quorum", kRound<&RoundSection::quorum>, RealNumber{0.0, 1.0, true}, kCommon,
      "share of the workers a round needs to close");
  add("round", "carry", kRound<&RoundSection::carry>, WholeNumber{0, 100}, kRare,
      "rounds a late worker's progress may wait");
  add("round", "grace", kRound<&RoundSection::grace>, RealNumber{0.0, 100.0}, kRare,
      "wait this share of the quorum's time for the others");
  add("round", "required_workers", kRound<&RoundSection::required_workers>, AnyText{}, kRare,
      "names, with commas: workers that every round must include");
  add("round", "min_tokens", kRound<&RoundSection::min_tokens>, WholeNumber{0, kLargestTomlInteger},
      kRare, "tokens that every round must include; 0 = any");
  add("round", "broken_contract", kRound<&RoundSection::broken_contract>,
      OneOf{{"stop", "degrade"}}, kRare,
      "when a round misses these two: end the run, or go on without success");
  add("round", "plan", kRound<&RoundSection::plan>, OneOf{{"fixed", "auto"}}, kRare,
      "steps per worker: sync.inner_steps for all, or planned so that all are ready together");
  add("reduce", "placement", kReduce<&ReduceSection::placement>, OneOf{{"star", "workers"}}, kRare,
      "who adds up: the coordinator, or trusted workers that offer it (longhaul join --peer)");
  add("reduce", "trusted", kReduce<&ReduceSection::trusted>, AnyText{}, kRare,
      "workers only: names or keys in hex, with commas; * = every worker");
  add("reduce", "slices", kReduce<&ReduceSection::slices>, WholeNumber{0, kMaxSlices}, kRare,
      "equal parts of a fragment, each added up and coded on its own; 0 = one for each reducer, "
      "sized "
      "by what links carry");
  add("network", "listen", kNetwork<&NetworkSection::listen>, AnyText{256}, kCommon,
      "address:port for workers; port 0 = any free one");
  add("network", "advertise", kNetwork<&NetworkSection::advertise>, AnyText{256}, kCommon,
      "host:port written in invitations; \"\" = a guess from listen");
  add("network", "http", kNetwork<&NetworkSection::http>, AnyText{256}, kCommon,
      "address:port of the status page; \"\" = none");
  add("checkpoint", "every_rounds", kCheckpoint<&CheckpointSection::every_rounds>,
      WholeNumber{1, kMillion}, kCommon, "rounds between two checkpoints");
  add("checkpoint", "keep", kCheckpoint<&CheckpointSection::keep>, WholeNumber{1, 1000}, kCommon,
      "newest checkpoints that stay on disk");
}

void AddPcnKeys(Keys& keys) {
  using S = PcnSection;
  const auto add = [&keys](std::string name, auto field, ValueRule rule, std::string help) {
    keys.push_back({"pcn", std::move(name), field, std::move(rule), kRare, std::move(help)});
  };
  add("rule", kPcn<&S::rule>, OneOf{pcn::RuleNames()},
      "credit rule of train.mode = \"pcn\"; zil is backprop's gradient");
  add("sweeps", kPcn<&S::sweeps>, WholeNumber{1, 10'000},
      "of states, per batch; ipc: each is a weight update");
  add("rate", kPcn<&S::rate>, RealNumber{0.0, 1e6, true}, "step of states or errors");
  add("momentum", kPcn<&S::momentum>, RealNumber{0.0, 0.99999}, "of states; spc and ipc only");
  add("output_weight", kPcn<&S::output_weight>, RealNumber{0.0, 1e6, true},
      "weight of the loss in the energy");
  add("nudge", kPcn<&S::nudge>, RealNumber{-1e6, 1e6},
      "weighs the cost, with a sign; 0 = none; not for exact rules");
}

Keys MakeKeys() {
  Keys keys;
  AddRunKeys(keys);
  AddModelKeys(keys);
  AddDataKeys(keys);
  AddTrainKeys(keys);
  AddSyncKeys(keys);
  AddOtherKeys(keys);
  AddPcnKeys(keys);
  return keys;
}

}  // namespace

const std::vector<ConfigKey>& ConfigKeys() {
  static const Keys keys = MakeKeys();
  return keys;
}

}  // namespace longhaul
