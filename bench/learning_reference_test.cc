// Whole simulated runs against recorded runs of an independent implementation.
#include <gtest/gtest.h>

#include <cstdlib>

#include "bench/learning_run.h"

namespace longhaul {
namespace {

struct RunValues {
  const char* method;
  double tolerance;
  double loss[4];  // after 5, 10, 15, 20 steps
  double up, cosine;
};

// Reference values from an independent implementation: the smoke model, 2 workers, 20 steps,
// warm-up 5, seed 1.
constexpr RunValues kRuns[] = {
    {"diloco:momentum=0.5",
     1e-4,
     {4.769519117401868, 3.9043939138929677, 3.5461236896268606, 3.4628615304079426},
     6.4,
     0.7566361725330353},
    {"muon:momentum=0.5",
     1e-4,
     {4.958887432432243, 3.9442423619361997, 3.5143309736867545, 3.400890471842915},
     6.4,
     0.7130918502807617},
    {"muon:momentum=0.5:up=ref-int4",
     1e-3,
     {4.954146489453966, 3.9361924290486012, 3.5071226429220936, 3.3952752287110775},
     0.8556354916067146,
     0.7131058573722839},
    {"muon:momentum=0.5:up=ref-2bit:feedback_up=0.9",
     1e-3,
     {5.004672578349175, 3.989089026649508, 3.5314907495397407, 3.4095887018584112},
     0.4316546762589928,
     0.7168227434158325},
    {"muon:momentum=0.5:up=ref-deadzone:0.5:feedback_up=0.9",
     3e-3,
     {5.379705254487704, 5.077290276372792, 4.791610218633709, 4.505113953599971},
     0.10796740959550498,
     0.7195607125759125},
    {"muon:momentum=0.5:up=ref-2bit:feedback_up=0.9:down=ref-int4:feedback_down=0.9",
     1e-3,
     {5.004332931277742, 3.981961827982789, 3.533015120080759, 3.4094142218744397},
     0.4316546762589928,
     0.7167364358901978},
    {"sparseloco:up=ref-topk:0.015625",
     1e-3,
     {5.4458082333185756, 5.255081789736426, 5.104926386522597, 4.934988315751939},
     0.03762549026035861,
     0.7827352285385132},
    {"sparseloco:up=ref-topk:0.015625:aggregation=mean",
     1e-3,
     {5.492654462729499, 5.3430098283239555, 5.204316372098335, 5.124984482884236},
     0.03762549026035861,
     0.78187096118927},
    {"muon:momentum=0.5:inner_steps=6:fragments=3:overlap_steps=2:mixing=0.5",
     1e-4,
     {5.537912679094838, 4.737185279266051, 3.8794848054861237, 3.593732705246256},
     5.403165467625899,
     0},
};

TEST(LearningRun, FollowsTheIndependentImplementation) {
  const char* folder = std::getenv("LONGHAUL_TEST_DATA");
  if (folder == nullptr) GTEST_SKIP() << "LONGHAUL_TEST_DATA is not set (tiny Shakespeare)";
  const auto text = LearningText::Load(folder);
  ASSERT_TRUE(text.ok()) << text.status();
  for (const RunValues& v : kRuns) {
    SCOPED_TRACE(v.method);
    LearningRequest request{.tier = *FindLearningTier("smoke"), .curve_every = 5};
    request.tier.workers = 2;
    request.tier.inner_steps = 5;
    request.tier.steps = 20;
    request.tier.warmup_steps = 5;
    const auto method = ParseLearningMethod(v.method);
    ASSERT_TRUE(method.ok()) << method.status();
    request.method = *method;
    const auto outcome = RunLearning(request, *text);
    ASSERT_TRUE(outcome.ok()) << outcome.status();
    for (int i = 0; i < 4; ++i) {
      EXPECT_NEAR(outcome->curve[i].second, v.loss[i], v.tolerance) << 5 * (i + 1);
    }
    EXPECT_NEAR(outcome->up.payload_bits, v.up, 1e-3 * v.up);
    if (v.cosine > 0) {
      EXPECT_NEAR(outcome->cosine, v.cosine, 0.01);
    }
    EXPECT_TRUE(outcome->same_state);
  }
}

}  // namespace
}  // namespace longhaul
