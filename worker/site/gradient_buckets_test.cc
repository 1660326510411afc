#include "worker/site/gradient_buckets.h"

#include <gtest/gtest.h>

namespace longhaul {
namespace {

// Adds 1 to what is summed, and keeps the order.
class FakeGroup final : public DeviceGroup {
 public:
  uint32_t rank() const override { return 0; }
  uint32_t size() const override { return 1; }
  void StartSum(std::span<float> values) override {
    starts.push_back(values.data());
    for (float& v : values) ++v;
  }
  absl::Status Wait() override { return absl::OkStatus(); }
  absl::Status Shrink(std::span<const uint32_t>) override { return absl::OkStatus(); }
  void Abort() override {}
  std::vector<const float*> starts;
};

TEST(GradientBuckets, EveryElementOnceAndInOneOrder) {
  LlamaShape shape = *PresetShape("llama-1m");
  shape.hidden_size = 512;  // so that some parameters are large
  shape.intermediate_size = 1024;
  const ParameterTable table = MakeParameterTable(shape);
  GradientBuckets buckets(table);
  std::vector<float> gradient(table.elements);
  std::vector<const float*> first;
  for (int round = 0; round < 2; ++round) {
    FakeGroup group;
    std::fill(gradient.begin(), gradient.end(), 0.0f);
    buckets.Begin(group, gradient);
    // Backward's order differs: forwards in one round, backwards in the other.
    for (size_t i = 0; i < table.parameters.size(); ++i) {
      buckets.Ready(round == 0 ? i : table.parameters.size() - 1 - i);
    }
    buckets.Finish();
    for (float v : gradient) ASSERT_EQ(v, 1.0f);
    if (round == 0) first = group.starts;
    EXPECT_EQ(group.starts, first);
    EXPECT_GT(group.starts.size(), 4u);
  }
}

}  // namespace
}  // namespace longhaul
