#include "cli/coverage_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/rng.h"

namespace longhaul {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(Bar, ShowsProportionsAndEverythingThatIsThere) {
  EXPECT_EQ(Bar({{'#', 5}, {'.', 5}}, 10), "#####.....");
  EXPECT_EQ(Bar({{'#', 0}, {'.', 3}}, 4), "....");
  EXPECT_EQ(Bar({{'#', 1'000'000}, {'!', 1}, {'.', 0}}, 8), "#######!");
  EXPECT_EQ(Bar({{'#', 1}, {'=', 1}, {'-', 1}}, 4), "##=-");
  EXPECT_EQ(Bar({{'#', 0}}, 4), "");
}

TEST(Bar, IsAlwaysAsWideAsAsked) {
  Rng rng(7);
  for (int i = 0; i < 1000; ++i) {
    std::vector<std::pair<char, uint64_t>> parts;
    for (char mark : {'a', 'b', 'c', 'd', 'e', 'f'})
      parts.emplace_back(mark, rng.Chance(1, 3) ? 0 : rng.Next() >> (8 + rng.Below(50)));
    parts[0].second += 1;
    const std::string bar = Bar(parts, 20);
    ASSERT_EQ(bar.size(), 20u);
    for (const auto& [mark, n] : parts)
      ASSERT_EQ(n > 0, bar.find(mark) != std::string::npos) << bar << " " << mark << " " << n;
  }
}

TEST(CoverageText, ListsFragmentsAndQuarantinedRanges) {
  CoverageView view;
  view.fragments = {{.committed = 50, .free = 50, .total = 100},
                    {.committed = 40,
                     .free = 50,
                     .other_fragment_committed = 7,
                     .carried_too_often = 3,
                     .total = 100}};
  EXPECT_THAT(CoverageText(view), HasSubstr("[####################....................]"));
  EXPECT_THAT(CoverageText(view), HasSubstr("7 + 3"));
  EXPECT_THAT(CoverageText(view), Not(HasSubstr("quarantined 8")));
  view.quarantined_ranges = 3;
  view.quarantined = {{8, 12, {"kitchen", "attic", "garden"}}};
  EXPECT_THAT(CoverageText(view),
              HasSubstr("quarantined 8 to 12, failed with kitchen, attic, garden\n"
                        "and 2 more quarantined ranges\n"));
}

}  // namespace
}  // namespace longhaul
