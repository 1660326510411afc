#include "worker/pcn_options.h"

#include <cmath>

#include "common/status_macros.h"

namespace longhaul {

absl::StatusOr<pcn::RuleOptions> RuleOptionsFrom(const PcnSection& section) {
  pcn::RuleOptions rule{
      .sweeps = section.sweeps, .rate = section.rate, .momentum = section.momentum};
  ASSIGN_OR_RETURN(rule.rule, pcn::ParseRule(section.rule));
  rule.output_weight = section.output_weight;
  rule.nudge_of = pcn::NudgeOf::kCost;  // a moved target needs the squared loss
  if (section.nudge != 0) {
    rule.nudge = section.nudge > 0 ? pcn::NudgeSign::kPositive : pcn::NudgeSign::kNegative;
    rule.beta = std::abs(section.nudge);
  }
  RETURN_IF_ERROR(pcn::Validate(rule, pcn::OutputLoss::kCrossEntropy));
  return rule;
}

}  // namespace longhaul
