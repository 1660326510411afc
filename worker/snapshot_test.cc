#include "worker/snapshot.h"

#include <gtest/gtest.h>

#include <limits>

#include "common/fault_storage.h"

namespace longhaul {
namespace {

const SaveSnapshot kSaved{{3, 4}, {{{5}, 6}, {{7}, 8}}};
const std::vector<float> kFirst{1.0f, -2.5f, 0.0f};

absl::Status Write(Storage& disk) {
  return WriteWorkerSnapshot(disk, "snapshot", kSaved, {kFirst, {}}, "moments");
}

TEST(WorkerSnapshot, ComesBackEqual) {
  FaultStorage disk;
  ASSERT_TRUE(Write(disk).ok());
  auto snapshot = ReadWorkerSnapshot(disk, "snapshot");
  ASSERT_TRUE(snapshot.ok()) << snapshot.status();
  EXPECT_EQ(snapshot->saved.generation, kSaved.generation);
  EXPECT_EQ(snapshot->saved.included, kSaved.included);
  EXPECT_EQ(snapshot->residuals, (std::vector<std::vector<float>>{kFirst, {}}));
  EXPECT_EQ(snapshot->inner_state, "moments");
}

TEST(WorkerSnapshot, AnAbsentOneIsNotFound) {
  FaultStorage disk;
  EXPECT_TRUE(absl::IsNotFound(ReadWorkerSnapshot(disk, "snapshot").status()));
}

TEST(WorkerSnapshot, EveryFlippedByteAndEveryTruncationIsFound) {
  FaultStorage disk;
  ASSERT_TRUE(Write(disk).ok());
  const std::string good = *ReadWhole(disk, "snapshot", 1 << 20);
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] ^= 1;
    ASSERT_TRUE(WriteAtomically(disk, "snapshot", AsBytes(bad)).ok());
    EXPECT_TRUE(absl::IsDataLoss(ReadWorkerSnapshot(disk, "snapshot").status())) << i;
    ASSERT_TRUE(WriteAtomically(disk, "snapshot", AsBytes(good.substr(0, i))).ok());
    EXPECT_TRUE(absl::IsDataLoss(ReadWorkerSnapshot(disk, "snapshot").status())) << i;
  }
}

TEST(WorkerSnapshot, AResidualThatIsNotFiniteIsRefused) {
  FaultStorage disk;
  const std::vector<float> bad{std::numeric_limits<float>::infinity()};
  ASSERT_TRUE(WriteWorkerSnapshot(disk, "snapshot", {{1, 1}, {{}}}, {bad}, "").ok());
  EXPECT_TRUE(absl::IsDataLoss(ReadWorkerSnapshot(disk, "snapshot").status()));
}

}  // namespace
}  // namespace longhaul
