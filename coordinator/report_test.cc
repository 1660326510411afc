#include "coordinator/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>

namespace longhaul {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

RoundReport Sample() {
  RoundReport r;
  r.round = 3;
  r.rounds = 30;
  r.tokens = 491'520;
  r.loss = 4.2;
  r.tokens_per_second = 11'234;
  r.workers_included = 3;
  r.workers_expected = 4;
  r.bytes_up_per_worker = 1'300'000;
  r.bytes_down_per_worker = 1'310'000;
  r.sync = Milliseconds(1'900);
  r.computing_percent = 71.2;
  return r;
}

TEST(RoundLine, Looks) {
  EXPECT_EQ(FormatRoundLine(Sample()),
            "round  3/30  tokens  492k  loss  4.20  tok/s 11.2k  workers 3/4  up 1.30 MB  "
            "down 1.31 MB  sync  1.9s  computing  71%");
}

TEST(RoundLine, FieldsStayAligned) {
  const std::string first = FormatRoundLine(Sample());
  RoundReport later = Sample();
  later.round = 12;
  later.tokens = 4'915'200;
  later.loss = 12.345;
  later.tokens_per_second = 950;
  later.sync = Seconds(12);
  later.computing_percent = 100;
  later.bytes_up_per_worker = 0;
  EXPECT_EQ(FormatRoundLine(later).find("computing"), first.find("computing"));
  EXPECT_EQ(FormatRoundLine(later).find("up"), first.find("up"));
}

TEST(RoundLine, ReasonCannotBreakTheLine) {
  RoundReport r = Sample();
  r.validation_loss = 4.3;
  r.reason = "w3 fell\nsilent\x1b[2J";
  EXPECT_THAT(FormatRoundLine(r), HasSubstr("(w3 fell silent?[2J)"));
  EXPECT_THAT(FormatRoundLine(r), HasSubstr("val  4.30"));
}

TEST(RoundJson, ReadsBack) {
  RoundReport r = Sample();
  r.reason = "\xff\"\n";
  r.loss = std::numeric_limits<double>::quiet_NaN();
  const std::string line = ToJsonLine(r);
  EXPECT_EQ(line.find('\n'), std::string::npos);
  const auto json = nlohmann::json::parse(line);
  EXPECT_EQ(json.at("round"), 3);
  EXPECT_EQ(json.at("tokens"), 491'520);
  EXPECT_TRUE(json.at("loss").is_null());
  EXPECT_TRUE(json.at("validation_loss").is_null());
  EXPECT_EQ(json.at("sync_seconds"), 1.9);
}

TEST(RunIntro, Looks) {
  EXPECT_EQ(FormatRoundHeader({"llama-1m", 1'300'000, 20, "int8", "int4", 1}),
            "llama-1m  1.30M parameters  H 20  int8 up, int4 down  1 round");
}

TEST(AllReduce, Formula) {
  EXPECT_EQ(Fp32AllReduceBytesPerWorker(600, 1'000'000, 4), 600ull * 4'000'000 * 6 / 4);
  EXPECT_EQ(Fp32AllReduceBytesPerWorker(600, 1'000'000, 1), 0u);
  EXPECT_EQ(Fp32AllReduceBytesPerWorker(0, 1'000'000, 4), 0u);
  EXPECT_EQ(Fp32AllReduceBytesPerWorker(UINT64_MAX, UINT64_MAX, 4), UINT64_MAX);
}

RunSummary SampleSummary() {
  RunSummary s;
  s.first_loss = 5.41;
  s.final_loss = 1.98;
  s.workers = 4;
  s.rounds = 30;
  s.bytes_up_per_worker = 40'000'000;
  s.bytes_down_per_worker = 60'000'000;
  s.fp32_allreduce_bytes_per_worker = 3'000'000'000;
  s.hash_checks = 117;
  s.killed = 1;
  s.rejoined = 1;
  s.elapsed = Seconds(190);
  s.checkpoint = "runs/demo/checkpoints/round-0030";
  s.sample_prompt = "def ";
  s.sample_text = "add(a, b):\n\x1b[31m  return a\n";
  s.next = {"longhaul init my-run.toml", "longhaul plan my-run.toml"};
  return s;
}

TEST(Summary, JsonHasTheKeysScriptsUse) {
  const auto json = nlohmann::json::parse(ToJson(SampleSummary()));
  for (const char* key :
       {"first_loss", "final_loss", "workers", "rounds", "bytes_up_per_worker",
        "bytes_down_per_worker", "fp32_allreduce_bytes_per_worker", "byte_ratio", "hash_checks",
        "hash_mismatches", "killed", "rejoined", "computing_percent", "checkpoint"}) {
    EXPECT_TRUE(json.contains(key)) << key;
  }
  EXPECT_EQ(json.at("byte_ratio"), 75.0);  // 3 GB over the 40 MB sent
}

TEST(Summary, TextTellsTheStory) {
  const std::string text = FormatSummary(SampleSummary());
  EXPECT_THAT(text, HasSubstr("done in 3m10s: 30 rounds, 4 workers"));
  EXPECT_THAT(text, HasSubstr("loss 5.41 -> 1.98"));
  EXPECT_THAT(text, HasSubstr("75.0x as much"));
  EXPECT_THAT(text, HasSubstr("1 worker killed on the way, 1 rejoined"));
  EXPECT_THAT(text, HasSubstr("117 hash checks, none disagreed"));
  EXPECT_THAT(text, HasSubstr("  | add(a, b):\n  | ?[31m  return a\n"));
  EXPECT_THAT(text, HasSubstr("next:  longhaul init my-run.toml\n      longhaul plan"));
  RunSummary bad = SampleSummary();
  bad.hash_mismatches = 2;
  EXPECT_THAT(FormatSummary(bad), HasSubstr("WARNING: 2 of 117"));
  bad.bytes_up_per_worker = bad.bytes_down_per_worker = 0;
  EXPECT_THAT(FormatSummary(bad), Not(HasSubstr("as much")));
}

}  // namespace
}  // namespace longhaul
