#include "transport/link_probe.h"

#include <gtest/gtest.h>

#include "common/bytes.h"
#include "transport/loopback.h"

namespace longhaul {
namespace {

LinkProbeOptions ProbeOf(const Lab& lab, const CurveKeyPair& keys) {
  LinkProbeOptions options;
  options.client.address = lab.server->address();
  options.client.server_key = lab.keys.public_key;
  options.client.keys = keys;
  options.connect_timeout = kPatience;
  options.each_way = kPatience;
  options.most_bytes = 3 << 20;
  return options;
}

std::vector<Frame> Probe(uint16_t kind, uint64_t bytes, const std::string& payload = "") {
  ByteWriter w;
  w.U32(0x4250484C);
  w.U16(1);
  w.U16(kind);
  w.U64(9);
  w.U64(bytes);
  std::vector<Frame> out;
  out.emplace_back(w.Take());
  if (!payload.empty()) out.emplace_back(payload);
  return out;
}

TEST(LinkProbeTest, MeasuresBothWaysAndBringsTheNote) {
  ServerOptions server;
  server.note = "what you may know";
  Lab lab(server);
  const CurveKeyPair invited = CurveKeyPair::Generate();
  lab.table.Add(invited.public_key, Role::kInvitation);
  const auto rates = MeasureLink(ProbeOf(lab, invited));
  ASSERT_TRUE(rates.ok()) << rates.status();
  EXPECT_GT(rates->up_bytes_per_s, 0);
  EXPECT_GT(rates->down_bytes_per_s, 0);
  EXPECT_GE(rates->bytes, 6u << 20);
  EXPECT_GT(rates->round_trip_ms, 0);
  EXPECT_FALSE(rates->congestion_control.empty());
  EXPECT_EQ(rates->note, "what you may know");
  EXPECT_FALSE(lab.inbox.PopFor(kMoment).has_value());  // nobody else saw it
}

TEST(LinkProbeTest, StrangersAreRefused) {
  Lab lab;
  EXPECT_EQ(MeasureLink(ProbeOf(lab, CurveKeyPair::Generate())).status().code(),
            absl::StatusCode::kPermissionDenied);
}

TEST(LinkProbeTest, ServerWithoutABudgetSaysSo) {
  ServerOptions server;
  server.max_probe_bytes = 1 << 20;
  Lab lab(server);
  const auto rates = MeasureLink(ProbeOf(lab, Member::Enrolled(lab)));
  EXPECT_EQ(rates.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_NE(rates.status().message().find("too often"), absl::string_view::npos);
}

TEST(LinkProbeTest, ServerThatAnswersNoProbesIsSoonGivenUp) {
  ServerOptions server;
  server.max_probe_bytes = 0;
  Lab lab(server);
  LinkProbeOptions options = ProbeOf(lab, Member::Enrolled(lab));
  options.connect_timeout = Seconds(1);
  EXPECT_FALSE(MeasureLink(std::move(options)).ok());
}

TEST(LinkProbeTest, BudgetIsPerKeyAndRefills) {
  ProbeBudget budget(10'000'000);
  WorkerKey one, other;
  other.bytes[0] = 1;
  EXPECT_TRUE(budget.Take(one, 9'000'000, Seconds(100)));
  EXPECT_FALSE(budget.Take(one, 9'000'000, Seconds(100)));
  EXPECT_TRUE(budget.Take(other, 9'000'000, Seconds(100)));
  EXPECT_FALSE(budget.Take(one, 9'000'000, Seconds(110)));
  EXPECT_TRUE(budget.Take(one, 9'000'000, Seconds(140)));
}

TEST(LinkProbeTest, BadProbesGetNoAnswer) {
  ProbeBudget budget(10'000'000);
  const auto answered = [&](const std::vector<Frame>& probe) {
    return IsProbe(probe) && !AnswerProbe(probe, {}, "", Seconds(1), budget).empty();
  };
  EXPECT_TRUE(answered(Probe(1, 0, "payload")));
  EXPECT_TRUE(answered(Probe(1, 0)));
  EXPECT_TRUE(answered(Probe(2, kMaxFrameBytes)));
  EXPECT_TRUE(answered(Probe(3, 0)));
  EXPECT_FALSE(answered(Probe(2, kMaxFrameBytes + 1)));
  EXPECT_FALSE(answered(Probe(2, UINT64_MAX)));
  EXPECT_FALSE(answered(Probe(4, 0)));  // an answer is not answered
  EXPECT_FALSE(answered(Probe(99, 0)));
  EXPECT_FALSE(answered(Text("LHPB")));
  EXPECT_FALSE(answered({}));
}

TEST(LinkProbeTest, RateLeavesTheStartOut) {
  RateTimeline line;
  line.Begin(Seconds(10));
  EXPECT_EQ(line.bytes_per_s(), 0);
  line.Add(Seconds(12), 1000);
  EXPECT_EQ(line.bytes_per_s(), 500);  // one point: the whole
  line.Add(Seconds(14), 1000);
  for (int s = 15; s <= 20; ++s) line.Add(Seconds(s), 5000);
  EXPECT_EQ(line.bytes_per_s(), 5000);
  EXPECT_EQ(line.bytes(), 32'000u);
}

}  // namespace
}  // namespace longhaul
