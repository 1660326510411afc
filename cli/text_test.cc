// Tests of the small text parts: tables, TOML text, progress, exit codes, small files.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <limits>
#include <vector>

#include "cli/exit_codes.h"
#include "cli/progress.h"
#include "cli/small_file.h"
#include "cli/text_table.h"
#include "cli/toml_text.h"

namespace longhaul {
namespace {

using ::testing::ElementsAre;

TEST(TextTable, AlignsByCodePoints) {
  TextTable table({"name", "loss"}, {Align::kLeft, Align::kRight});
  table.AddRow({"θ", "5.41"});
  table.AddRow({"kitchen", "12.00", "too many"});
  table.AddRow({"short"});
  EXPECT_EQ(table.ToString(),
            "name      loss\n"
            "θ         5.41\n"
            "kitchen  12.00\n"
            "short\n");
}

TEST(TomlText, StringsAndNumbers) {
  EXPECT_EQ(TomlString("a\"b\\c\n\x7f"), "\"a\\\"b\\\\c\\u000A\\u007F\"");
  EXPECT_EQ(TomlReal(5), "5.0");
  EXPECT_EQ(TomlReal(0.1), "0.1");
  EXPECT_EQ(TomlReal(1e-8), "1e-08");
  EXPECT_EQ(TomlReal(-std::numeric_limits<double>::infinity()), "-inf");
  EXPECT_EQ(TomlReal(std::numeric_limits<double>::quiet_NaN()), "nan");
  EXPECT_TRUE(IsTomlText("θ \xF0\x9F\x98\x80 ok"));
  for (const char* bad : {"\xff", "\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80",
                          "\xf0\x80\x80\x80", "\xe2\x82", "a\tb", "\x7f"}) {
    EXPECT_FALSE(IsTomlText(bad));
  }
}

TEST(Progress, TerminalLineIsRewrittenAtMostOncePerInterval) {
  std::vector<std::string> out;
  ProgressLine progress({.terminal = true, .columns = 10},
                        [&](const std::string& text) { out.push_back(text); });
  progress.Update(Timestamp{Milliseconds(0)}, "one");
  progress.Update(Timestamp{Milliseconds(99)}, "dropped");
  progress.Update(Timestamp{Milliseconds(100)}, "θ23456789 too long");
  progress.Clear();
  progress.Clear();
  progress.Update(Timestamp{Milliseconds(101)}, "again");
  progress.Finish("end");
  progress.Clear();
  EXPECT_THAT(out, ElementsAre("\r\x1b[Kone", "\r\x1b[Kθ23456789", "\r\x1b[K", "\r\x1b[Kagain",
                               "\r\x1b[Kend", "\n"));
}

TEST(Progress, PlainLinesAreRare) {
  std::string out;
  ProgressLine progress({.terminal = false}, [&](const std::string& text) { out += text; });
  for (int second = 0; second <= 25; ++second) {
    progress.Update(Timestamp{Seconds(second)}, std::to_string(second));
  }
  progress.Clear();
  progress.Finish("end");
  EXPECT_EQ(out, "0\n10\n20\nend\n");
}

TEST(Progress, Bytes) {
  EXPECT_EQ(FormatByteProgress("copying", 12'300'000, 24'600'000, Seconds(3)),
            "copying  50%  12.3 MB of 24.6 MB  4.10 MB/s  3.0s left");
  EXPECT_EQ(FormatByteProgress("copying", 0, 0, Seconds(0)), "copying  0 B");
  EXPECT_EQ(FormatByteProgress("copying", 10, 5, Seconds(1)), "copying  100%  10 B of 5 B  10 B/s");
}

TEST(ExitCodes, OfStatuses) {
  EXPECT_EQ(ExitCodeFor(absl::OkStatus()), 0);
  EXPECT_EQ(ExitCodeFor(absl::InternalError("")), 1);
  EXPECT_EQ(ExitCodeFor(absl::InvalidArgumentError("")), 2);
  EXPECT_EQ(ExitCodeFor(absl::PermissionDeniedError("")), 4);
  EXPECT_EQ(ExitCodeFor(absl::UnavailableError("")), 5);
  EXPECT_EQ(ExitCodeFor(absl::DataLossError("")), 7);
  EXPECT_EQ(ExitCodeFor(absl::CancelledError("")), 130);
}

TEST(SmallFile, RefusesLargeFiles) {
  const std::string path = ::testing::TempDir() + "small_file_test";
  std::ofstream(path) << "12345";
  EXPECT_EQ(*ReadSmallFile(path, 5), "12345");
  EXPECT_EQ(ReadSmallFile(path, 4).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ReadSmallFile(path + ".no", 4).status().code(), absl::StatusCode::kNotFound);
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace longhaul
