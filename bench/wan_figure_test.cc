#include "bench/wan_figure.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace longhaul {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

size_t Count(const std::string& text, const std::string& what) {
  size_t n = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++n;
  return n;
}

TEST(WanFigureTest, APointEachAndALineBetweenThem) {
  const std::string svg = RateFigure("rates", {{"ours", "no loss", 300, 80},
                                               {"ours", "no loss", 20, 380},
                                               {"gloo", "no loss", 20, 300},
                                               {"ours", "1 % loss & more", 20, 0.5}});
  EXPECT_EQ(Count(svg, "<circle"), 4u);
  EXPECT_EQ(Count(svg, "stroke=\"#2266aa\""), 2u);  // in the legend, and from 20 to 300 ms
  EXPECT_THAT(svg, HasSubstr("1 % loss &amp; more"));
  EXPECT_THAT(svg, HasSubstr(">20 ms<"));
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
  EXPECT_THAT(RateFigure("rates", {}), HasSubstr("</svg>"));
}

}  // namespace
}  // namespace longhaul
