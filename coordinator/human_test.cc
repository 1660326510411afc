#include "coordinator/human.h"

#include <gtest/gtest.h>

#include <limits>

namespace longhaul {
namespace {

TEST(Human, Bytes) {
  EXPECT_EQ(HumanBytes(0), "0 B");
  EXPECT_EQ(HumanBytes(999), "999 B");
  EXPECT_EQ(HumanBytes(1000), "1.00 kB");
  EXPECT_EQ(HumanBytes(1'300'000), "1.30 MB");
  EXPECT_EQ(HumanBytes(16'440'000'000), "16.4 GB");
  EXPECT_EQ(HumanBytes(999'499), "999 kB");
  EXPECT_EQ(HumanBytes(999'500), "1.00 MB");  // never "1000 kB"
  EXPECT_EQ(HumanBytes(UINT64_MAX), "18447 PB");
}

TEST(Human, Counts) {
  EXPECT_EQ(HumanCount(163'840), "164k");
  EXPECT_EQ(HumanCount(4'915'200), "4.92M");
  EXPECT_EQ(HumanCount(999), "999");
  EXPECT_EQ(HumanCount(9'995), "10.0k");
  EXPECT_EQ(HumanRate(0.526), "0.53");
  EXPECT_EQ(HumanRate(11'234.5), "11.2k");
  EXPECT_EQ(HumanRate(-1), "-");
  EXPECT_EQ(HumanRate(std::numeric_limits<double>::infinity()), "-");
  EXPECT_EQ(HumanRate(1e300), "1000000T");
}

TEST(Human, Durations) {
  EXPECT_EQ(HumanDuration(Milliseconds(1'900)), "1.9s");
  EXPECT_EQ(HumanDuration(Milliseconds(9'960)), "10s");
  EXPECT_EQ(HumanDuration(Milliseconds(59'700)), "1m00s");
  EXPECT_EQ(HumanDuration(Seconds(190)), "3m10s");
  EXPECT_EQ(HumanDuration(Seconds(7'500)), "2h05m");
  EXPECT_EQ(HumanDuration(Seconds(76 * 3600)), "3d04h");
  EXPECT_EQ(HumanDuration(Seconds(-5)), "0.0s");
}

TEST(Human, LossAndPercent) {
  EXPECT_EQ(HumanLoss(5.414), "5.41");
  EXPECT_EQ(HumanLoss(0.01234), "0.0123");
  EXPECT_EQ(HumanLoss(std::numeric_limits<double>::quiet_NaN()), "-");
  EXPECT_EQ(HumanPercent(71.4), "71%");
}

TEST(Human, TextOfUnknownOriginCannotSteerATerminal) {
  EXPECT_EQ(PrintableText("a\x1b[2Jb\n", true), "a?[2Jb ");
  EXPECT_EQ(PrintableText("a\tb\n", false), "a\tb\n");
  EXPECT_EQ(PrintableText("θ\xff\xc2\x9bx\x7f", true), "θ???x?");
  EXPECT_EQ(PrintableText("\xe2\x82", true), "??");  // cut in the middle
}

}  // namespace
}  // namespace longhaul
