#include "pcn/relay/control.h"

#include <gtest/gtest.h>

namespace longhaul::pcn {
namespace {

StageTable SampleTable() {
  StageTable table;
  table.phase = RelayPhase::kDraining;
  table.plan.first_layers = {0, 2, 4, 6};
  table.plan.codec = RowCodec::kInt8;
  table.plan.synchronous = true;
  table.plan.block_runs = {"LH1-a", "LH1-b", "LH1-c", "LH1-d"};
  table.resume_at = 77;
  table.slots.resize(4);
  for (uint32_t k = 0; k < 4; ++k) {
    table.slots[k] = {{}, "10.0.0.1:70" + std::to_string(k), 1 + k, 2 * k};
    table.slots[k].holder.bytes.fill(static_cast<uint8_t>(k + 1));
  }
  table.problem = "why";
  return table;
}

StageBeat SampleBeat() {
  StageBeat beat;
  beat.address = "10.0.0.2:7000";
  beat.speed = 12.5;
  beat.stage = 3;
  beat.finished = true;
  beat.averaged = true;
  beat.discarded[2] = 9;
  beat.loss = 0.25;
  beat.parameters.fill(7);
  return beat;
}

TEST(Control, ComesBackEqual) {
  const auto table = DecodeTable(AsBytes(EncodeTable(SampleTable())));
  ASSERT_TRUE(table.has_value());
  EXPECT_TRUE(*table == SampleTable());
  const auto beat = DecodeBeat(AsBytes(EncodeBeat(SampleBeat())));
  ASSERT_TRUE(beat.has_value());
  EXPECT_TRUE(*beat == SampleBeat());
}

TEST(Control, RefusesEveryTruncationAndWhatFollows) {
  for (const std::string& whole : {EncodeTable(SampleTable()), EncodeBeat(SampleBeat())}) {
    for (size_t size = 0; size <= whole.size(); ++size) {
      const std::string bytes = size == whole.size() ? whole + "x" : whole.substr(0, size);
      EXPECT_FALSE(DecodeTable(AsBytes(bytes)).has_value()) << size;
      EXPECT_FALSE(DecodeBeat(AsBytes(bytes)).has_value()) << size;
    }
  }
}

TEST(Control, RefusesPlansThatMeanNothing) {
  const auto problem = [](auto change) {
    RelayPlan plan;
    change(plan);
    return PlanProblem(plan);
  };
  EXPECT_EQ(problem([](RelayPlan&) {}), "");
  EXPECT_NE(problem([](RelayPlan& p) { p.sizes = {4}; }), "");
  EXPECT_NE(problem([](RelayPlan& p) { p.sizes[1] = 0; }), "");
  EXPECT_EQ(problem([](RelayPlan& p) { p.stages = 9; }),
            "stages: 9 blocks do not match a network of 8 layers");
  EXPECT_NE(problem([](RelayPlan& p) { p.first_layers = {0, 2, 2, 4}; }), "");
  EXPECT_NE(problem([](RelayPlan& p) { p.first_layers = {0, 2, 4, 8}; }), "");
  EXPECT_NE(problem([](RelayPlan& p) { p.first_layers = {0, 2}; }), "");
  EXPECT_NE(problem([](RelayPlan& p) { p.learning_rate = 0; }), "");
  EXPECT_NE(problem([](RelayPlan& p) { p.max_in_flight = 0; }), "");
  EXPECT_NE(problem([](RelayPlan& p) { p.block_runs = {"a", "b", "c", "d"}; }), "");  // which cut?
  EXPECT_NE(problem([](RelayPlan& p) { p.first_layers = {0, 2, 4, 6}, p.block_runs = {"a"}; }), "");
  StageTable table = SampleTable();
  table.plan.rows = 0;
  EXPECT_FALSE(DecodeTable(AsBytes(EncodeTable(table))).has_value());
  table = SampleTable();
  table.slots.pop_back();
  EXPECT_FALSE(DecodeTable(AsBytes(EncodeTable(table))).has_value());
}

}  // namespace
}  // namespace longhaul::pcn
