// The parts of the learning benchmark, and runs of a few steps.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <set>

#include "bench/learning_plot.h"
#include "bench/learning_run.h"
#include "model/parameter_table.h"

namespace longhaul {
namespace {

// ---- coders ----

struct CoderValues {
  const char* name;
  double bits, error, nonzero;
  float first[8];
  double sum;
};

// Reference values from an independent implementation, for normal(4, 4, 0, i) with 256 zeros.
constexpr CoderValues kCoders[] = {
    {"ref-int8",
     67584,
     3.529916678427067e-05,
     7877,
     {-1.168212890625f, 1.6142578125f, 0.361083984375f, 1.06201171875f, -0.658447265625f,
      0.403564453125f, 0.33984375f, 0.80712890625f},
     -5.7783203125},
    {"ref-int4",
     34816,
     0.011423551717600955,
     6819,
     {-1.16015625f, 1.546875f, 0.38671875f, 1.16015625f, -0.7734375f, 0.38671875f, 0.38671875f,
      0.7734375f},
     -3.595703125},
    {"ref-2bit",
     17408,
     0.11381610772366803,
     8192,
     {-1.3046875f, 1.3046875f, 0.400390625f, 1.3046875f, -0.400390625f, 0.400390625f, 0.400390625f,
      0.400390625f},
     22.622802734375},
    {"ref-deadzone:2",
     16454.537577951836,
     0.08933893291669177,
     4319,
     {-1, 1.875f, 0, 1, -1, 0, 0, 1},
     -41.265625},
    {"ref-deadzone:0.5", 4115.956903989045, 0.6149258246252728, 687, {}, 36.125},
    {"ref-deadzone:0.13", 1082.2309314452057, 0.885924394489169, 125, {}, -24.328125},
    {"ref-topk:0.015625", 1230.5821629241455, 0.8829529842741034, 128, {}, -20.78125},
};

TEST(ReferenceCoders, FollowTheIndependentImplementation) {
  std::vector<float> in(8192), out(8192);
  for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<float>(NormalDraw(4, 4, 0, i));
  std::fill(in.begin() + 1000, in.begin() + 1256, 0.0f);
  for (const CoderValues& c : kCoders) {
    SCOPED_TRACE(c.name);
    const auto coder = MakeSpanCoder(c.name, {{0, in.size()}});
    ASSERT_TRUE(coder.ok()) << coder.status();
    const auto size = (*coder)->Code(in, out);
    ASSERT_TRUE(size.ok()) << size.status();
    EXPECT_NEAR(size->payload_bits, c.bits, 1e-3 * c.bits);
    double error = 0, energy = 0, sum = 0, nonzero = 0;
    for (size_t i = 0; i < in.size(); ++i) {
      error += std::pow(double{in[i]} - out[i], 2);
      energy += std::pow(in[i], 2);
      sum += out[i];
      nonzero += out[i] != 0;
    }
    EXPECT_NEAR(error / energy, c.error, 1e-3 * c.error);
    EXPECT_NEAR(nonzero, c.nonzero, 1e-3 * c.nonzero);
    for (int i = 0; i < 8; ++i) EXPECT_EQ(out[i], c.first[i]) << i;
    EXPECT_NEAR(sum, c.sum, 0.02 * std::sqrt(energy));
  }
}

// ---- methods ----

TEST(LearningMethod, ChangesAreReadAndRefused) {
  const auto m = ParseLearningMethod("muon:up=ref-deadzone:0.5:momentum=0.3:inner_steps=5");
  ASSERT_TRUE(m.ok()) << m.status();
  EXPECT_EQ(m->up, "ref-deadzone:0.5");
  EXPECT_EQ(m->momentum, 0.3);
  EXPECT_EQ(m->inner_steps, 5u);
  EXPECT_EQ(m->optimizer, "muon");
  for (const char* bad : {"no-such", "muon:no_such=1", "muon:momentum=x", "muon:momentum",
                          "muon:aggregation=median", "muon-2bit:mixing=0.5"}) {
    EXPECT_FALSE(ParseLearningMethod(bad).ok()) << bad;
  }
}

// The settings that cli/presets/ has in its files.
TEST(LearningMethod, PresetsAreMethods) {
  const auto standard = ParseLearningMethod("standard"), thin = ParseLearningMethod("thin");
  ASSERT_TRUE(standard.ok() && thin.ok());
  EXPECT_EQ(standard->up, "bit-budget:2");
  EXPECT_EQ(standard->down, "bit-budget:4");
  EXPECT_EQ(standard->inner_steps, 30u);
  EXPECT_EQ(standard->feedback_down, 0.9);
  EXPECT_TRUE(thin->restore_norm);
  EXPECT_EQ(ParseLearningMethod("sparseloco")->aggregation, Aggregation::kContributorMean);
}

TEST(LearningMethod, NamesAreDifferent) {
  std::set<std::string> names;
  for (const LearningMethod& m : LearningMethods()) EXPECT_TRUE(names.insert(m.name).second);
}

// ---- tiny runs, on whatever text there is ----

class LearningRun : public ::testing::Test {
 protected:
  LearningRun() {
    const char* folder = std::getenv("LONGHAUL_TEST_DATA");
    text_ = LearningText::Load(folder == nullptr ? "" : folder);
  }
  absl::StatusOr<LearningOutcome> Run(const std::string& method) const {
    EXPECT_TRUE(text_.ok()) << text_.status();
    const auto parsed = ParseLearningMethod(method);
    EXPECT_TRUE(parsed.ok()) << parsed.status();
    return RunLearning({*FindLearningTier("tiny"), *parsed, 1}, *text_);
  }
  LearningOutcome Outcome(const std::string& method) const {
    const auto outcome = Run(method);
    EXPECT_TRUE(outcome.ok()) << method << ": " << outcome.status();
    return outcome.ok() ? *outcome : LearningOutcome{};
  }

  absl::StatusOr<LearningText> text_ = absl::UnknownError("");
};

TEST_F(LearningRun, SameSeedSameResult) {
  const LearningOutcome a = Outcome("muon-2bit-down4"), b = Outcome("muon-2bit-down4");
  EXPECT_EQ(a.loss, b.loss);
  EXPECT_TRUE(a.same_state);
  EXPECT_GT(a.residual, 0);
  EXPECT_LT(a.loss, 4.5);  // of ln 256 = 5.5 at the start
}

TEST_F(LearningRun, CountsWhatTravels) {
  const LearningOutcome exact = Outcome("muon"), coded = Outcome("muon-int4");
  EXPECT_DOUBLE_EQ(exact.up.payload_bits, 32.0 / 4);  // H = 4
  EXPECT_DOUBLE_EQ(exact.down.payload_bits, 32.0 / 4);
  EXPECT_NEAR(coded.up.payload_bits, 4.25 / 4, 1e-3);
  EXPECT_GT(coded.up.header_bits, 0);
  // Momentum of the matrices, two moments of the rest: as bf16, 16 bits for each.
  const double with_moments = Outcome("muon:moments=bf16").up.payload_bits;
  EXPECT_GT(with_moments, exact.up.payload_bits + 16.0 / 4);
  EXPECT_LT(with_moments, exact.up.payload_bits + 32.0 / 4);
  const LearningOutcome baseline = Outcome("dp-muon"), alone = Outcome("alone-muon");
  EXPECT_EQ(baseline.up.total(), 32);
  EXPECT_EQ(alone.up.total() + alone.down.total(), 0);
}

// One worker whose only outer step is taken whole (lr 1, no momentum) is data parallel.
TEST_F(LearningRun, OneWorkerWithoutAnOuterOptimizerIsDataParallel) {
  const LearningOutcome one = Outcome("one-worker-muon:outer_lr=1:momentum=0");
  EXPECT_NEAR(one.loss, Outcome("dp-muon").loss, 1e-4);
}

// The rules change a run, and only where they should.
TEST_F(LearningRun, EveryRuleHasAnEffect) {
  const double loss = Outcome("muon").loss;
  for (const char* change :
       {"restore_norm=true", "norm_cap=true", "momentum=0", "outer_warmup=2", "fragments=2",
        "mixing=0.5", "workers=1", "moments=bf16", "inner_momentum=0.9", "batch_growth=0.5",
        "moments=bit-budget:1:moments_of=momentum", "moments=bf16:moments_share=0.5"}) {
    EXPECT_NE(Outcome(std::string("muon:") + change).loss, loss) << change;
  }
  EXPECT_EQ(Outcome("muon:outer_drop_from=100:outer_drop=0.5").loss, loss);
  // Of dense values everybody is a contributor, but for the few that are exactly zero, which differ
  // from one processor's rounding to another's.
  EXPECT_NEAR(Outcome("muon:aggregation=contributor_mean:up=float32").loss, loss, 1e-3);
}

TEST_F(LearningRun, RefusesWhatCannotBeRun) {
  for (const char* bad :
       {"muon:workers=3", "muon:workers=4", "muon:fragments=5:inner_steps=8",
        "muon:inner_steps=2:overlap_steps=2", "muon:up=no-such-codec", "muon:up=ref-topk:2",
        "muon:optimizer=sgd", "muon:up=bit-budget", "muon:up=bit-budget:9", "muon:up=top-k:0.01",
        "muon:up=int4:2", "diloco:moments=bf16:moments_of=momentum"}) {
    EXPECT_FALSE(Run(bad).ok()) << bad;
  }
}

TEST(LossPlot, IsAFigureWithEveryName) {
  const std::string svg = LossPlot("a < b", {{"one", 0.02, 2.1}, {"two", 32, 1.9}}, {{"base", 2}});
  for (const char* part : {"<svg", "</svg>", "a &lt; b", ">one<", ">two<", ">base<"}) {
    EXPECT_NE(svg.find(part), std::string::npos) << part;
  }
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_EQ(LossPlot("empty", {}, {}).find("inf"), std::string::npos);
}

}  // namespace
}  // namespace longhaul
