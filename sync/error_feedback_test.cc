#include "sync/error_feedback.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace longhaul {
namespace {

using Values = std::vector<float>;

TEST(ErrorFeedbackTest, FormulasOfOneRound) {
  const Values base = {1.0f, 2.0f}, local = {0.5f, 2.25f}, residual = {0.5f, -1.0f};
  Values coded(2);
  WithResidual(0.5f, residual, base, local, coded);
  EXPECT_EQ(coded, (Values{0.75f, -0.75f}));
  Values after = residual;
  ResidualAfter(0.5f, base, local, Values{0.5f, -1.0f}, after);
  EXPECT_EQ(after, (Values{0.25f, 0.25f}));
  Values reducer = {0.5f, -0.25f};
  AddResidual(0.5f, residual, reducer);
  EXPECT_EQ(reducer, coded);
  Values left(2);
  ResidualOf(coded, Values{0.5f, -1.0f}, left);
  EXPECT_EQ(left, after);
}

TEST(ErrorFeedbackTest, NegativeDecayMeansNone) {
  const Values base = {1.0f}, local = {0.25f};
  Values coded(1), none;
  WithResidual(-1.0f, none, base, local, coded);
  EXPECT_EQ(coded, Values{0.75f});
  ResidualAfter(-1.0f, base, local, Values{0.5f}, none);
  Values kept = {3.0f};
  AddResidual(-1.0f, kept, coded);
  EXPECT_EQ(coded, Values{0.75f});
  ResidualAfter(-1.0f, base, local, Values{0.5f}, kept);
  EXPECT_EQ(kept, Values{3.0f});
}

TEST(ErrorFeedbackTest, RebaseKeepsProgressMadeSince) {
  const Values sent = {0.5f}, old_global = {1.0f}, new_global = {0.75f};
  Values included = {0.375f}, left_out = {0.375f};
  Rebase(sent, new_global, included);        // progress after sending: -0.125
  Rebase(old_global, new_global, left_out);  // all local progress: -0.625
  EXPECT_EQ(included, Values{0.625f});
  EXPECT_EQ(left_out, Values{0.125f});
}

// Nothing is lost: with decay 1, what was decoded over many rounds plus the residual is what was
// made.
TEST(ErrorFeedbackTest, DecodedPlusResidualIsWhatWasMade) {
  Values residual = {0.0f};
  double made = 0, decoded_total = 0;
  for (int round = 0; round < 50; ++round) {
    const Values base = {0.0f}, local = {-0.3f};
    Values coded(1);
    WithResidual(1.0f, residual, base, local, coded);
    const Values decoded = {std::nearbyint(coded[0])};
    ResidualAfter(1.0f, base, local, decoded, residual);
    made += 0.3f;
    decoded_total += decoded[0];
  }
  EXPECT_NEAR(decoded_total + residual[0], made, 1e-5);
}

TEST(ErrorFeedbackDeathTest, SizesMustAgree) {
  Values one(1), two(2);
  EXPECT_DEATH(WithResidual(0.5f, one, two, two, two), "sizes");
  EXPECT_DEATH(Rebase(one, two, two), "sizes");
}

}  // namespace
}  // namespace longhaul
