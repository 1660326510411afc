// What the learning benchmark compares: the size of the experiment (tier) and one way of training
// in it (method). Plain values; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "sync/outer_schedule.h"

namespace longhaul {

struct LearningTier {
  std::string name;
  std::string model;  // preset of model/
  uint32_t length;    // tokens of a sequence
  uint32_t workers;
  uint32_t sequences;    // per worker and step
  uint32_t inner_steps;  // H of methods that do not say
  uint32_t steps;        // inner steps of the whole run
  uint32_t warmup_steps;
  uint64_t validation_windows;  // 0: all
  uint32_t vocab = 256;         // bytes; else words (learning_text.h)
};
// "tiny" (for tests of the benchmark itself), "smoke", "bench", "words"; NotFound names them.
absl::StatusOr<LearningTier> FindLearningTier(const std::string& name);

enum class Exchange {
  kGradients,  // every step: data parallel
  kRounds,     // every H steps: pseudo-gradients
  kNothing,    // one worker on its own share of the data
};
enum class Aggregation { kMean, kContributorMean };
enum class Exclusion {
  kNone,
  kResidualAsBefore,  // every second worker comes too late, in turns; its residual stays as it was
  kResidualKept,      // a planted mistake: it also keeps what it sent in the residual
};

struct LearningMethod {
  std::string name;
  Exchange exchange = Exchange::kRounds;
  std::string optimizer = "muon";
  double lr = 0.01;          // of all parameters under adamw, of the matrices under muon
  double adamw_lr = 0.003;   // of the rest under muon
  uint32_t workers = 0;      // 0: the tier's. All tokens of a step are shared among them.
  uint32_t inner_steps = 0;  // 0: the tier's
  uint32_t fragments = 1;
  uint32_t overlap_steps = 0;
  double mixing = -1;                            // negative: rebase
  std::string up = "float32", down = "float32";  // MakeSpanCoder
  double feedback_up = -1, feedback_down = -1;   // decay of the residual; negative: none
  Aggregation aggregation = Aggregation::kMean;
  // Inner moments are averaged in every round, too: the coder, which of them ("all", "momentum":
  // Muon's), and the share of the way to the mean that a worker goes. "": they are not averaged.
  std::string moments;
  std::string moments_of = "all";
  double moments_share = 1;
  double inner_momentum = 0.95;  // Muon's
  // Sequences per step grow linearly from (1 - growth) to (1 + growth) times the tier's.
  double batch_growth = 0;
  bool norm_cap = false;
  bool restore_norm = false;
  OuterSchedule outer{.lr = 0.7};
  double momentum = 0.6;
  Exclusion exclusion = Exclusion::kNone;
};

// What the benchmark runs when nothing is asked for, baselines first; a name with its settings.
const std::vector<LearningMethod>& LearningMethods();
// The presets of run files (cli/presets/), under their names.
const std::vector<LearningMethod>& PresetMethods();
// "NAME" or "NAME:key=value:key=value...": a named method or preset, changed. Keys are the members'
// names; the result is called by the whole text. NotFound for a name or key that does not exist
// (with those that do), InvalidArgument for a value that cannot be.
absl::StatusOr<LearningMethod> ParseLearningMethod(const std::string& text);

}  // namespace longhaul
