#include "bench/learning_method.h"

#include <functional>
#include <map>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "cli/config.h"
#include "cli/presets.h"
#include "common/check.h"
#include "common/status_macros.h"
#include "compression/codec.h"
#include "sync/schedule.h"

namespace longhaul {
namespace {

using Method = LearningMethod;
using Change = std::function<void(Method&)>;

const std::vector<LearningTier>& Tiers() {
  static const std::vector<LearningTier> tiers = {
      {"tiny", "llama-130k", 32, 2, 2, 4, 12, 2, 64},
      {"smoke", "llama-130k", 32, 8, 4, 10, 500, 50, 0},
      {"bench", "llama-670k", 64, 4, 4, 20, 800, 80, 0},
      {"words", "llama-130k", 32, 8, 4, 10, 500, 50, 0, 8192},
  };
  return tiers;
}

Method Muon(const std::string& name, const Change& change) {
  Method m{.name = name};
  change(m);
  return m;
}

Method AdamW(const std::string& name, const Change& change) {
  Method m{.name = name, .optimizer = "adamw", .lr = 0.003};
  change(m);
  return m;
}

void Code(Method& m, const std::string& up, double feedback) {
  m.up = up;
  m.feedback_up = feedback;
}

// Few bits: no momentum, the length of the step restored, a residual that decays more slowly, and
// smaller inner steps (tuned on seed 11, which is in no table).
void Thin(Method& m, double bits, uint32_t inner_steps) {
  Code(m, absl::StrCat("bit-budget:", bits), 0.97);
  m.lr = 0.008;
  m.inner_steps = inner_steps;
  m.restore_norm = true;
  m.outer.lr = 1;
  m.momentum = 0;
}

void Sparse(Method& m) {
  Code(m, "top-k:0.15", 0.95);
  m.aggregation = Aggregation::kContributorMean;
  m.outer.lr = 1;
  m.momentum = 0;
}

void Streaming(Method& m) {
  m.fragments = 3;
  m.overlap_steps = 1;
}

std::vector<Method> Baselines() {
  const auto every_step = [](Method& m) { m.exchange = Exchange::kGradients; };
  const auto alone = [](Method& m) { m.exchange = Exchange::kNothing; };
  return {
      AdamW("dp-adamw", every_step),
      Muon("dp-muon", every_step),
      Muon("dp-muon-coded",
           [&](Method& m) {
             every_step(m);
             Code(m, "bit-budget:0.2", 1.0);
           }),
      Muon("dp-muon-thin",
           [&](Method& m) {
             every_step(m);
             Code(m, "bit-budget:0.05", 1.0);
           }),
      AdamW("alone-adamw", alone),
      Muon("alone-muon", alone),
  };
}

std::vector<Method> Rounds() {
  const auto same = [](Method&) {};
  // One pseudo-gradient has nothing to average: an outer step with a gain, lr / (1 - momentum), of
  // about 1.
  const auto one_worker = [](float outer_lr) {
    return [=](Method& m) {
      m.workers = 1;
      m.outer.lr = outer_lr;
    };
  };
  return {
      AdamW("diloco", same),
      Muon("muon", same),
      Muon("muon-int4", [](Method& m) { m.up = "int4"; }),
      Muon("muon-2bit", [](Method& m) { Code(m, "bit-budget:2", 0.9); }),
      Muon("muon-2bit-down4",
           [](Method& m) {
             Code(m, "bit-budget:2", 0.9);
             m.down = "bit-budget:4";
             m.feedback_down = 0.9;
           }),
      Muon("muon-int2", [](Method& m) { Code(m, "int2", 0.9); }),
      Muon("muon-e3m0", [](Method& m) { m.up = "ref-e3m0"; }),
      Muon("muon-half-bit", [](Method& m) { Code(m, "bit-budget:0.5", 0.9); }),
      Muon("thin-0.06", [](Method& m) { Thin(m, 0.29, 5); }),
      Muon("thin-0.02", [](Method& m) { Thin(m, 0.19, 10); }),
      AdamW("sparseloco", Sparse),
      AdamW("streaming-adamw", Streaming),
      Muon("streaming-muon", Streaming),
      AdamW("one-worker-adamw", one_worker(0.4F)),
      Muon("one-worker-muon", one_worker(0.5F)),
  };
}

// Mistakes that are known to cost, and what each is compared with.
std::vector<Method> Traps() {
  return {
      Muon("trap-momentum", [](Method& m) { m.momentum = 0.9; }),
      AdamW("trap-topk-no-feedback",
            [](Method& m) {
              Sparse(m);
              m.feedback_up = -1;
            }),
      Muon("late-workers",
           [](Method& m) {
             Code(m, "bit-budget:2", 0.9);
             m.exclusion = Exclusion::kResidualAsBefore;
           }),
      Muon("trap-late-workers",
           [](Method& m) {
             Code(m, "bit-budget:2", 0.9);
             m.exclusion = Exclusion::kResidualKept;
           }),
  };
}

// ---- presets ----

std::string CoderName(const std::string& codec, double bits) {
  const auto spec = CodecSpecByName(codec, bits);
  return HasBitBudget(spec->id) ? absl::StrCat(codec, ":", bits) : codec;
}

Method PresetMethod(const std::string& name) {
  const auto loaded = ParseRunConfig("", "", {{}, {"sync.preset=" + name, "data.train=wheel"}});
  LONGHAUL_CHECK(loaded.ok(), "presets are checked by their tests");
  const SyncSection& s = loaded->config.sync;
  const TrainSection& t = loaded->config.train;
  Method m{.name = name, .optimizer = t.optimizer, .lr = t.learning_rate};
  m.adamw_lr = t.adamw_learning_rate;
  m.inner_momentum = t.muon_momentum;
  m.inner_steps = s.inner_steps;
  m.fragments = s.fragments;
  m.overlap_steps = s.overlap_steps;
  m.mixing = s.mixing;
  m.up = CoderName(s.codec, s.bits);
  m.down = CoderName(s.codec_down, BitsDown(loaded->config));
  m.feedback_up = m.feedback_down = s.error_feedback;
  if (s.aggregator == "contributor_mean") m.aggregation = Aggregation::kContributorMean;
  m.norm_cap = s.norm_cap;
  m.restore_norm = s.restore_norm;
  m.outer.lr = s.outer_lr;
  m.outer.warmup_rounds = s.outer_warmup_rounds;
  if (s.outer_drop_round > 0) m.outer.drop_from = s.outer_drop_round;
  m.outer.drop = s.outer_drop;
  m.momentum = s.outer_momentum;
  return m;
}

// ---- changes ----

using Setter = std::function<bool(Method&, const std::string&)>;

bool SetNumber(double& out, const std::string& text) { return absl::SimpleAtod(text, &out); }
bool SetNumber(uint32_t& out, const std::string& text) { return absl::SimpleAtoi(text, &out); }
bool SetNumber(uint64_t& out, const std::string& text) { return absl::SimpleAtoi(text, &out); }
bool SetNumber(bool& out, const std::string& text) { return absl::SimpleAtob(text, &out); }
bool SetNumber(std::string& out, const std::string& text) {
  out = text;
  return true;
}

template <auto kMember>
Setter Of() {
  return [](Method& m, const std::string& text) { return SetNumber(m.*kMember, text); };
}
template <auto kMember>
Setter OfOuter() {
  return [](Method& m, const std::string& text) { return SetNumber(m.outer.*kMember, text); };
}

const std::map<std::string, Setter>& Setters() {
  static const std::map<std::string, Setter> setters = {
      {"optimizer", Of<&Method::optimizer>()},
      {"lr", Of<&Method::lr>()},
      {"adamw_lr", Of<&Method::adamw_lr>()},
      {"workers", Of<&Method::workers>()},
      {"inner_steps", Of<&Method::inner_steps>()},
      {"fragments", Of<&Method::fragments>()},
      {"overlap_steps", Of<&Method::overlap_steps>()},
      {"mixing", Of<&Method::mixing>()},
      {"up", Of<&Method::up>()},
      {"down", Of<&Method::down>()},
      {"feedback_up", Of<&Method::feedback_up>()},
      {"feedback_down", Of<&Method::feedback_down>()},
      {"moments", Of<&Method::moments>()},
      {"moments_of",
       [](Method& m, const std::string& text) {
         m.moments_of = text;
         return text == "all" || text == "momentum";
       }},
      {"moments_share", Of<&Method::moments_share>()},
      {"batch_growth", Of<&Method::batch_growth>()},
      {"inner_momentum", Of<&Method::inner_momentum>()},
      {"norm_cap", Of<&Method::norm_cap>()},
      {"restore_norm", Of<&Method::restore_norm>()},
      {"momentum", Of<&Method::momentum>()},
      {"outer_lr", OfOuter<&OuterSchedule::lr>()},
      {"outer_warmup", OfOuter<&OuterSchedule::warmup_rounds>()},
      {"outer_drop_from", OfOuter<&OuterSchedule::drop_from>()},
      {"outer_drop", OfOuter<&OuterSchedule::drop>()},
      {"aggregation",
       [](Method& m, const std::string& text) {
         m.aggregation = text == "mean" ? Aggregation::kMean : Aggregation::kContributorMean;
         return text == "mean" || text == "contributor_mean";
       }},
  };
  return setters;
}

template <class Named>
std::string NamesOf(const Named& list) {
  std::string names;
  for (const auto& entry : list) {
    absl::StrAppend(&names, names.empty() ? "" : ", ", entry.name);
  }
  return names;
}

absl::Status ChangeMethod(const std::string& change, Method& m) {
  const std::vector<std::string> parts = absl::StrSplit(change, absl::MaxSplits('=', 1));
  const auto setter = Setters().find(parts[0]);
  if (setter == Setters().end() || parts.size() != 2) {
    std::string keys;
    for (const auto& [key, unused] : Setters()) absl::StrAppend(&keys, " ", key);
    return absl::NotFoundError("\"" + change + "\" must be key=value; keys:" + keys);
  }
  if (!setter->second(m, parts[1])) {
    return absl::InvalidArgumentError("\"" + change + "\": no such value");
  }
  return absl::OkStatus();
}

// A codec's own parameter follows a colon, too: "up=bit-budget:0.5".
std::vector<std::string> SplitChanges(const std::string& text) {
  std::vector<std::string> out;
  for (const std::string& part : std::vector<std::string>(absl::StrSplit(text, ':'))) {
    if (out.size() > 1 && part.find('=') == std::string::npos) {
      out.back() += ":" + part;
    } else {
      out.push_back(part);
    }
  }
  return out;
}

}  // namespace

absl::StatusOr<LearningTier> FindLearningTier(const std::string& name) {
  for (const LearningTier& tier : Tiers()) {
    if (tier.name == name) return tier;
  }
  return absl::NotFoundError("no tier \"" + name + "\"; there are " + NamesOf(Tiers()));
}

const std::vector<LearningMethod>& LearningMethods() {
  static const std::vector<LearningMethod> methods = [] {
    std::vector<Method> all = Baselines();
    for (const auto& list : {Rounds(), Traps()}) all.insert(all.end(), list.begin(), list.end());
    return all;
  }();
  return methods;
}

const std::vector<LearningMethod>& PresetMethods() {
  static const std::vector<LearningMethod> methods = [] {
    std::vector<Method> all;
    for (const std::string& name : SyncPresetChoices()) {
      if (name != kNoPreset) all.push_back(PresetMethod(name));
    }
    return all;
  }();
  return methods;
}

absl::StatusOr<LearningMethod> ParseLearningMethod(const std::string& text) {
  const std::vector<std::string> parts = SplitChanges(text);
  for (const auto* methods : {&LearningMethods(), &PresetMethods()}) {
    for (const LearningMethod& named : *methods) {
      if (named.name != parts[0]) continue;
      LearningMethod m = named;
      m.name = text;
      for (size_t i = 1; i < parts.size(); ++i) RETURN_IF_ERROR(ChangeMethod(parts[i], m));
      if (m.mixing >= 0 && !MixingAllowed(m.feedback_up, 1.0)) {
        return absl::InvalidArgumentError(text + ": mixing goes without error feedback only");
      }
      return m;
    }
  }
  return absl::NotFoundError("no method \"" + parts[0] + "\"; there are " +
                             NamesOf(LearningMethods()) + ", and the presets " +
                             NamesOf(PresetMethods()));
}

}  // namespace longhaul
