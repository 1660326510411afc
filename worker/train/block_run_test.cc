// A block between its stage and the run that averages it.
#include "worker/train/block_run.h"

#include <ATen/ops/ones.h>
#include <gtest/gtest.h>

#include "pcn/rules/builders.h"

namespace longhaul {
namespace {

using Mode = SharedBlock::Mode;

std::shared_ptr<SharedBlock> MakeBlock(bool is_averaged) {
  pcn::Network network = pcn::MakeMlp({3, 2}, pcn::Activation::kIdentity);
  const at::Tensor parameters = at::ones({network.parameters()});
  return std::make_shared<SharedBlock>(std::move(network), parameters, pcn::RelayBlock::Options(),
                                       is_averaged);
}

TEST(SharedBlock, AloneItAlwaysTrains) { EXPECT_EQ(MakeBlock(false)->mode(), Mode::kTrain); }

TEST(SharedBlock, OneUpdateForEachStepOfTheRun) {
  const auto block = MakeBlock(true);
  EXPECT_EQ(block->mode(), Mode::kWait);
  for (int i = 0; i < 3; ++i) {
    uint64_t targets = 0;
    std::thread run([&] { targets = block->MakeUpdate().targets; });
    while (block->mode() == Mode::kWait) std::this_thread::yield();
    EXPECT_EQ(block->mode(), Mode::kTrain);
    block->OnUpdate();
    run.join();
    EXPECT_EQ(targets, 1u);
    EXPECT_EQ(block->mode(), Mode::kWait);
  }
}

TEST(SharedBlock, ServesWhenTheRunIsOver) {
  const auto block = MakeBlock(true);
  uint64_t targets = 1;
  std::thread run([&] { targets = block->MakeUpdate().targets; });
  block->End();
  run.join();
  EXPECT_EQ(targets, 0u);
  EXPECT_EQ(block->mode(), Mode::kServe);
  EXPECT_TRUE(block->has_ended());
}

TEST(SharedBlock, ParametersAreTheRuns) {
  const auto block = MakeBlock(true);
  const std::vector<float> values = {5, 6};
  block->With([&](pcn::RelayBlock& b) { b.SetParameters(3, values); });
  block->With([](const pcn::RelayBlock& b) {
    const auto* held = b.parameters().const_data_ptr<float>();
    EXPECT_EQ(held[2], 1);
    EXPECT_EQ(held[3], 5);
    EXPECT_EQ(held[4], 6);
  });
}

}  // namespace
}  // namespace longhaul
