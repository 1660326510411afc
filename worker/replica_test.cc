#include "worker/replica.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <limits>

#include "sync/state_hash.h"
#include "worker/toy_trainer.h"

namespace longhaul {
namespace {

constexpr uint64_t kElements = 10;
constexpr float kLr = 0.5f, kMomentum = 0.25f;

// One fragment that is the whole model, uncoded, at version 0 with θ̄ = 1 and no momentum.
class ReplicaTest : public ::testing::Test {
 protected:
  explicit ReplicaTest(float mixing = -1)
      : trainer_(MakeToyTrainer({.parameters = kElements})),
        replica_({CodecId::kFloat32, CodecId::kFloat32, -1, {}, mixing}, FragmentId{0},
                 {{{0, kElements}}, kElements}, *trainer_) {
    const std::vector<float> ones(kElements, 1.0f), zeros(kElements, 0.0f);
    EXPECT_TRUE(replica_.Load(Version{0}, {StateChunk(ones, zeros)}).ok());
  }

  void SetLocal(float value) { trainer_->SetParameters(0, std::vector<float>(kElements, value)); }
  float Local() const {
    std::vector<float> local(kElements);
    trainer_->GetParameters(0, local);
    EXPECT_EQ(local, std::vector<float>(kElements, local[0]));
    return local[0];
  }
  // The outer step from a mean of `delta` in every element.
  void Apply(float delta) {
    const std::vector<float> mean(kElements, delta);
    std::string payload(kElements * sizeof(float), '\0');
    std::memcpy(payload.data(), mean.data(), payload.size());
    const CommitView commit{.version = Version{1},
                            .outer_lr_bits = std::bit_cast<uint32_t>(kLr),
                            .outer_momentum_bits = std::bit_cast<uint32_t>(kMomentum)};
    ASSERT_TRUE(replica_.Apply(commit, {payload}).ok());
    // b = delta; θ̄ = 1 - lr (delta + momentum b).
    EXPECT_EQ(replica_.parameters()[0], 1 - kLr * (delta + kMomentum * delta));
  }

  std::unique_ptr<Trainer> trainer_;
  Replica replica_;
};

class MixingReplicaTest : public ReplicaTest {
 protected:
  MixingReplicaTest() : ReplicaTest(0.25f) {}
};

TEST_F(ReplicaTest, ProgressSinceSendingIsCarriedOver) {
  SetLocal(0.5f);
  ASSERT_TRUE(replica_.Code().ok());
  SetLocal(0.375f);
  replica_.Resolve(Outcome::kIncluded);
  Apply(0.4f);
  EXPECT_FLOAT_EQ(Local(), 0.75f + (0.375f - 0.5f));
}

TEST_F(ReplicaTest, ProgressThatWasNotIncludedIsCarriedOverWhole) {
  SetLocal(0.5f);
  ASSERT_TRUE(replica_.Code().ok());
  replica_.Resolve(Outcome::kNotIncluded);
  Apply(0.4f);
  EXPECT_FLOAT_EQ(Local(), 0.75f + (0.5f - 1.0f));
}

TEST_F(MixingReplicaTest, MixingKeepsAShareOfTheLocalParameters) {
  SetLocal(0.5f);
  ASSERT_TRUE(replica_.Code().ok());
  SetLocal(0.375f);
  replica_.Resolve(Outcome::kIncluded);
  Apply(0.4f);
  EXPECT_FLOAT_EQ(Local(), 0.25f * 0.375f + 0.75f * 0.75f);
}

TEST_F(ReplicaTest, APseudoGradientThatIsNotFiniteIsRefusedAndTheNextIsNot) {
  for (float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    trainer_->SetParameters(3, std::vector<float>{bad});
    EXPECT_TRUE(absl::IsInvalidArgument(replica_.Code().status()));
    replica_.ResetProgress(/*residual=*/true);
    EXPECT_EQ(Local(), 1.0f);
    EXPECT_TRUE(replica_.Code().ok());
    replica_.Resolve(Outcome::kNotIncluded);
  }
}

}  // namespace
}  // namespace longhaul
