// What late, lost and repeated neighbour messages cost. Staleness is set by ticks, so a result does
// not depend on the machine: delay d gives stage 1 a staleness of 6 (d + 1) updates.
#include <ATen/Parallel.h>

#include <limits>

#include "absl/strings/str_cat.h"
#include "bench/pcn_training.h"
#include "common/check.h"
#include "pcn/rules/builders.h"
#include "pcn/rules/image_files.h"
#include "pcn/rules/relay_world.h"

namespace longhaul {
namespace {

constexpr uint64_t kUpdates = 2340, kQuickUpdates = 120;
constexpr int64_t kRows = 128;
constexpr double kLearningRate = 3e-4;
constexpr uint64_t kNoLimit = std::numeric_limits<uint32_t>::max();

struct Case {
  std::string name;
  uint64_t delay = 0;
  uint64_t full_rate_gap = kNoLimit;  // G
  bool synchronous = false, stash = false, kill = false;
  uint32_t loss_permille = 0;
};

pcn::RelayOptions OptionsFor(const Case& c, uint64_t updates, uint64_t seed) {
  pcn::RelayOptions o;
  o.first_layers = {0, 2, 4, 6};
  o.synchronous = c.synchronous;
  o.block.stash = c.stash;
  o.block.adam.weight_decay = 1e-4;
  o.link = {.delay = c.delay, .loss_permille = c.loss_permille, .seed = seed};
  o.stage.max_in_flight = static_cast<uint32_t>(6 * (c.delay + 1) + 2);
  o.stage.hop_ticks = c.delay + 2;
  o.stage.full_rate_gap = c.full_rate_gap;
  o.stage.gap_limit = 8 * 54;
  o.stage.max_queries = 10;
  o.stage.snapshot_every = 50;
  o.stage.warm_up = 10;
  o.learning_rate = [updates](uint64_t t) { return kLearningRate * pcn::WarmCosine(t, updates); };
  if (c.kill) o.kill = pcn::RelayOptions::Kill{1, updates / 2, updates / 2 + 60};
  return o;
}

class RelaySuite {
 public:
  RelaySuite(const PcnPlan& plan, std::string set_name, const pcn::ImageSet& set)
      : updates_(plan.quick ? kQuickUpdates : kUpdates),
        seeds_(plan.quick ? 1 : 2),
        set_name_(std::move(set_name)),
        set_(set),
        network_(pcn::MakeMlp({set.pixels, 256, 256, 256, 256, 256, 256, 256, set.classes},
                              pcn::Activation::kGelu)) {}

  // Test accuracy of each fold, in percent.
  std::vector<double> Run(const Case& c, std::vector<Result>& results) const {
    std::vector<double> accuracy;
    std::string note;
    for (uint64_t seed = 0; seed < seeds_; ++seed) {
      const Fold fold = MakeFold(set_, static_cast<int64_t>(seed));
      auto world = pcn::RelayWorld::Make(
          network_, network_.InitialParameters(100 + seed, at::kFloat).mul(1.7),
          OptionsFor(c, updates_, seed));
      LONGHAUL_CHECK(world.ok(), "blocks of a chain");
      (*world)->Run(updates_, [&](uint64_t m) {
        const pcn::Batch batch = DrawBatch(fold, kRows, 7 + seed, m);
        return pcn::RelayWorld::MicroBatch{batch.input, batch.target};
      });
      accuracy.push_back(100 * Accuracy(network_, network_.View((*world)->parameters()), fold));
      const auto totals = (*world)->totals(0);
      note = absl::StrCat("stage 1: median gap ", (*world)->stage(0).gaps().Percentile(0.5),
                          ", trained ", totals.trained, ", discarded ", totals.discarded);
    }
    results.push_back(PcnResult(set_name_ + "_" + c.name, "%", Mean(accuracy), note));
    return accuracy;
  }

  // `a` may be at most `margin` points below `b`.
  void Within(const std::string& name, const std::vector<double>& a, const std::vector<double>& b,
              double margin, std::vector<Result>& results) const {
    results.push_back(PcnGoal(PcnResult(set_name_ + "_" + name, "points", Mean(a) - Mean(b)),
                              Relation::kAtLeast, -margin));
  }

 private:
  const uint64_t updates_, seeds_;
  const std::string set_name_;
  const pcn::ImageSet& set_;
  const pcn::Network network_;
};

void JudgeSet(const RelaySuite& suite, std::vector<Result>& results) {
  constexpr uint64_t kG = 18;
  const auto synchronous = suite.Run({.name = "synchronous", .synchronous = true}, results);
  suite.Run({.name = "staleness_6", .full_rate_gap = kG}, results);
  const auto at_18 = suite.Run({.name = "staleness_18", .delay = 2, .full_rate_gap = kG}, results);
  const auto plain = suite.Run({.name = "staleness_54_no_rule", .delay = 8}, results);
  const auto ruled =
      suite.Run({.name = "staleness_54_rule", .delay = 8, .full_rate_gap = kG}, results);
  suite.Run({.name = "staleness_54_stash_rule", .delay = 8, .full_rate_gap = kG, .stash = true},
            results);
  const auto lossy = suite.Run({.name = "staleness_18_loss_10_percent_resent",
                                .delay = 2,
                                .full_rate_gap = kG,
                                .loss_permille = 100},
                               results);
  const auto killed = suite.Run(
      {.name = "staleness_18_stage_2_killed", .delay = 2, .full_rate_gap = kG, .kill = true},
      results);
  suite.Within("staleness_18_minus_synchronous", at_18, synchronous, 3, results);
  suite.Within("staleness_54_rule_minus_synchronous", ruled, synchronous, 4, results);
  suite.Within("staleness_54_rule_minus_no_rule", ruled, plain, 0, results);
  suite.Within("lossy_minus_synchronous", lossy, synchronous, 3, results);
  suite.Within("killed_minus_synchronous", killed, synchronous, 3, results);
}

// G is chosen on one set and judged on another.
void ChooseG(const RelaySuite& suite, std::vector<Result>& results) {
  for (uint64_t g : {6u, 18u, 36u}) {
    suite.Run({.name = absl::StrCat("staleness_54_g_", g), .delay = 8, .full_rate_gap = g},
              results);
  }
}

// Both ways over the lowest boundary, per micro-batch, against 2 B d q and headers.
Result BytesGate() {
  const pcn::Network network = pcn::MakeMlp({8, 16, 16, 4}, pcn::Activation::kTanh);
  pcn::RelayOptions options;
  options.first_layers = {0, 1};
  options.block.codec = pcn::RowCodec::kBf16;
  auto world = pcn::RelayWorld::Make(network, network.InitialParameters(1, at::kFloat), options);
  LONGHAUL_CHECK(world.ok(), "blocks of a chain");
  constexpr uint64_t kCount = 50;
  const at::Tensor zeros = network.InitialParameters(1, at::kFloat).zero_();
  (*world)->Run(kCount, [&](uint64_t) {
    return pcn::RelayWorld::MicroBatch{zeros.narrow(0, 0, 32).view({4, 8}).add(1),
                                       zeros.narrow(0, 0, 16).view({4, 4})};
  });
  const double expected = 2.0 * (4 * 16 * 2 + pcn::kRowHeaderBytes + pcn::kMessageHeaderBytes);
  const double found = static_cast<double>((*world)->bytes_between(0)) / kCount;
  return PcnGate(PcnResult("bytes_per_micro_batch_beyond_2Bdq", "bytes", found - expected,
                           absl::StrCat("bf16, B 4, d 16: ", found, " with two headers of ",
                                        pcn::kRowHeaderBytes + pcn::kMessageHeaderBytes)),
                 Relation::kAtMost, 0);
}

}  // namespace

std::vector<Result> RunPcnRelay(const PcnPlan& plan) {
  at::set_num_threads(static_cast<int>(plan.threads));
  std::vector<Result> results = {BytesGate()};
  const absl::StatusOr<pcn::ImageSet> digits = pcn::LoadIdxDigits(plan.images);
  const pcn::ImageSet generated = pcn::GeneratedDigits(plan.quick ? 1000 : 10000, 1);
  if (plan.quick || !digits.ok()) {
    JudgeSet(RelaySuite(plan, "generated_digits", generated), results);
    return results;
  }
  JudgeSet(RelaySuite(plan, "digits", *digits), results);
  ChooseG(RelaySuite(plan, "generated_digits", generated), results);
  if (const auto cifar = pcn::LoadGrayCifar(plan.images); cifar.ok()) {
    JudgeSet(RelaySuite(plan, "cifar_gray", *cifar), results);
  }
  return results;
}

}  // namespace longhaul
