// Which credit rule, and its numbers, without LibTorch: run.toml is checked with it on machines
// that have none. docs/PCN.md says what each rule computes and costs.
//
// Thread rule: plain values and pure functions; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace longhaul::pcn {

// kSquared: 1/2 |target - mu|^2. kCrossEntropy: -sum target * log softmax(mu).
enum class OutputLoss { kSquared, kCrossEntropy };

enum class Rule {
  kBackprop,  // exact credit, each layer once
  kZil,       // Z-IL (Song et al. 2020): states at rate 1, each layer's weights at the sweep when
              // its credit arrives; the same numbers as kBackprop, computed in that order
  kFpa,       // fixed predictions (Millidge et al. 2020, Rosenbaum 2021): anchored sweeps
  kSpc,       // free states, then one weight step (Whittington and Bogacz 2017)
  kIpc,       // free states, a weight step at every sweep (arXiv 2212.00720)
  kEpc,       // free errors (arXiv 2505.20137)
  kPcAlm,     // free states with multipliers (arXiv 2605.31022)
};
enum class NudgeSign { kNone, kPositive, kNegative, kCentred };  // centred: alternates by batch
enum class NudgeOf { kTarget, kCost };  // move the clamped target, or weigh the cost

struct RuleOptions {
  Rule rule = Rule::kZil;
  uint32_t sweeps = 1;       // not used by kBackprop and kZil
  double rate = 0.1;         // of states, or of errors
  double momentum = 0;       // of states (kSpc, kIpc)
  double output_weight = 1;  // lambda
  NudgeSign nudge = NudgeSign::kNone;
  NudgeOf nudge_of = NudgeOf::kTarget;
  double beta = 0.5;             // size of the nudge, above 0
  double multiplier_rate = 1;    // kPcAlm
  double penalty = 1;            // kPcAlm
  bool normalise_credit = true;  // false: gradients of the plain energy
};

std::vector<std::string> RuleNames();
// Its name as in configuration and reports: "spc". ParseRule: InvalidArgument, listing all names.
std::string RuleName(Rule rule);
absl::StatusOr<Rule> ParseRule(const std::string& name);
// InvalidArgument, naming option and rule, for values that mean nothing or do not go together.
absl::Status Validate(const RuleOptions& options, OutputLoss loss);
// Weight updates that one batch makes: `sweeps` for kIpc, otherwise 1.
uint32_t UpdatesPerBatch(const RuleOptions& options);

}  // namespace longhaul::pcn
