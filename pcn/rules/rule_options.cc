#include "pcn/rules/rule_options.h"

#include <array>
#include <utility>

#include "absl/strings/str_cat.h"

namespace longhaul::pcn {
namespace {

constexpr std::array<std::pair<Rule, const char*>, 7> kNames = {{{Rule::kBackprop, "backprop"},
                                                                 {Rule::kZil, "zil"},
                                                                 {Rule::kFpa, "fpa"},
                                                                 {Rule::kSpc, "spc"},
                                                                 {Rule::kIpc, "ipc"},
                                                                 {Rule::kEpc, "epc"},
                                                                 {Rule::kPcAlm, "pcalm"}}};

}  // namespace

std::vector<std::string> RuleNames() {
  std::vector<std::string> names;
  for (const auto& [rule, name] : kNames) names.push_back(name);
  return names;
}

std::string RuleName(Rule rule) {
  for (const auto& [value, name] : kNames) {
    if (value == rule) return name;
  }
  return "";
}

absl::StatusOr<Rule> ParseRule(const std::string& name) {
  std::string all;
  for (const auto& [value, known] : kNames) {
    if (name == known) return value;
    all += std::string(all.empty() ? "" : ", ") + known;
  }
  return absl::InvalidArgumentError(absl::StrCat("no credit rule '", name, "'; there are ", all));
}

uint32_t UpdatesPerBatch(const RuleOptions& options) {
  return options.rule == Rule::kIpc ? options.sweeps : 1;
}

absl::Status Validate(const RuleOptions& o, OutputLoss loss) {
  const std::string rule = RuleName(o.rule);
  const bool anchored = o.rule == Rule::kFpa || o.rule == Rule::kZil || o.rule == Rule::kBackprop;
  const bool sweeps = o.rule != Rule::kBackprop && o.rule != Rule::kZil;
  auto refuse = [&](const std::string& why) {
    return absl::InvalidArgumentError(absl::StrCat("rule ", rule, ": ", why));
  };
  if (sweeps && o.sweeps == 0) return refuse("sweeps must be at least 1");
  if (sweeps && !(o.rate > 0)) return refuse("rate must be above 0");
  if ((o.rule == Rule::kFpa || o.rule == Rule::kEpc) && o.rate > 1) {
    return refuse("rate must be at most 1");
  }
  if (!(o.momentum >= 0 && o.momentum < 1)) return refuse("momentum must be in [0, 1)");
  if (o.momentum > 0 && o.rule != Rule::kSpc && o.rule != Rule::kIpc) {
    return refuse("only spc and ipc have a momentum of states");
  }
  if (!(o.output_weight > 0)) return refuse("output_weight must be above 0");
  if (o.nudge != NudgeSign::kNone) {
    if (anchored) return refuse("exact credit does not depend on a nudge");
    if (!(o.beta > 0)) return refuse("beta must be above 0; the sign is the nudge's");
    if (o.nudge_of == NudgeOf::kTarget && loss == OutputLoss::kCrossEntropy) {
      return refuse("a moved target needs the squared loss; nudge the cost instead");
    }
    if (o.rule == Rule::kPcAlm) return refuse("multipliers and a nudge do not go together");
  }
  if (o.rule == Rule::kPcAlm && !(o.multiplier_rate > 0 && o.penalty > 0)) {
    return refuse("multiplier_rate and penalty must be above 0");
  }
  return absl::OkStatus();
}

}  // namespace longhaul::pcn
