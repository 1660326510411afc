// Mistakes that are known to cost, planted on purpose: a benchmark that does not see them would not
// see others either. Whole runs of 50 rounds with half the workers of the smoke tier.
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "bench/learning_run.h"

namespace longhaul {
namespace {

class LearningTraps : public ::testing::Test {
 protected:
  LearningTraps() {
    const char* folder = std::getenv("LONGHAUL_TEST_DATA");
    text_ = LearningText::Load(folder == nullptr ? "" : folder);
  }
  // Loss of `method` over that of `rival`, in percent above it.
  double Excess(const std::string& method, const std::string& rival) const {
    return 100 * (Loss(method) / Loss(rival) - 1);
  }

 private:
  double Loss(const std::string& name) const {
    EXPECT_TRUE(text_.ok()) << text_.status();
    LearningRequest request{.tier = *FindLearningTier("smoke")};
    request.tier.workers = 4;
    request.tier.validation_windows = 512;
    request.method = *ParseLearningMethod(name);
    const auto outcome = RunLearning(request, *text_);
    EXPECT_TRUE(outcome.ok()) << outcome.status();
    return outcome.ok() ? outcome->loss : 0;
  }

  absl::StatusOr<LearningText> text_ = absl::UnknownError("");
};

TEST_F(LearningTraps, MuchOuterMomentumIsWorseOverFiftyRounds) {
  EXPECT_GT(Excess("trap-momentum", "muon"), 1);
}

TEST_F(LearningTraps, TopKWithoutErrorFeedback) {
  EXPECT_GT(Excess("trap-topk-no-feedback", "sparseloco"), 3);
}

TEST_F(LearningTraps, AnExcludedContributionWhoseResidualIsKept) {
  EXPECT_GT(Excess("trap-late-workers", "late-workers"), 1);
}

}  // namespace
}  // namespace longhaul
