#include "bench/suite.h"

#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>

namespace longhaul {
namespace {

Result Gate(std::optional<double> value) {
  return {.suite = "s", .name = "n", .value = value, .target = 2, .kind = ResultKind::kGate};
}

TEST(Suite, WhatWasNotMeasuredNeverPasses) {
  EXPECT_TRUE(Gate(2).pass());
  EXPECT_FALSE(Gate(1.9).pass());
  EXPECT_FALSE(Gate(std::nullopt).pass());
  EXPECT_FALSE(Gate(std::numeric_limits<double>::infinity()).pass());
  Result at_most = Gate(1.9);
  at_most.relation = Relation::kAtMost;
  EXPECT_TRUE(at_most.pass());
  at_most.value = 2.1;
  EXPECT_FALSE(at_most.pass());
}

TEST(Suite, OnlyGatesDecide) {
  Result goal = Gate(1);
  goal.kind = ResultKind::kGoal;
  Result measure = Gate(std::nullopt);
  measure.kind = ResultKind::kMeasure;
  EXPECT_TRUE(GatesPass({Gate(3), goal, measure}));
  EXPECT_FALSE(GatesPass({Gate(3), Gate(std::nullopt)}));
  EXPECT_TRUE(GatesPass({}));
}

TEST(Suite, JsonSaysNullForWhatIsMissing) {
  Result measure = Gate(7);
  measure.kind = ResultKind::kMeasure;
  const auto json = nlohmann::json::parse(
      ToJson({Gate(std::nullopt), Gate(std::numeric_limits<double>::quiet_NaN()), measure}));
  ASSERT_EQ(json.size(), 3);
  EXPECT_TRUE(json[0]["value"].is_null());
  EXPECT_FALSE(json[0]["pass"].get<bool>());
  EXPECT_EQ(json[0]["target"], 2);
  EXPECT_EQ(json[0]["relation"], ">=");
  EXPECT_EQ(json[0]["kind"], "gate");
  EXPECT_TRUE(json[1]["value"].is_null());
  EXPECT_EQ(json[2]["value"], 7);
  EXPECT_TRUE(json[2]["target"].is_null());
  EXPECT_TRUE(json[2]["relation"].is_null());
}

TEST(Suite, Median) {
  EXPECT_EQ(Median({}), 0);
  EXPECT_EQ(Median({3, 1, 2}), 2);
  EXPECT_EQ(Median({4, 1, 3, 2}), 2.5);
}

TEST(Suite, TableNamesTheVerdict) {
  Result unknown = Gate(std::nullopt);
  unknown.note = "no such thing here";
  Result detail = Gate(1);
  detail.name = "a detail";
  detail.detail = true;
  const std::string table = FormatTable({Gate(1), unknown, detail});
  EXPECT_EQ(table.find("a detail"), std::string::npos);
  EXPECT_NE(table.find("MISSED"), std::string::npos);
  EXPECT_NE(table.find("not measured"), std::string::npos);
  EXPECT_NE(table.find("no such thing here"), std::string::npos);
}

}  // namespace
}  // namespace longhaul
