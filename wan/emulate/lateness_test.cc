#include "wan/emulate/lateness.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "common/rng.h"

namespace longhaul::wan {
namespace {

TEST(LatenessTest, MedianIsThatOfTheSortedList) {
  Rng rng(3);
  for (int n : {1, 2, 3, 100, 1001}) {
    Lateness lateness;
    std::vector<Duration> all;
    for (int i = 0; i < n; ++i) {
      const Duration late(static_cast<int64_t>(rng.Below(15'000'000)));
      all.push_back(late);
      lateness.NoteDelivery(late);
    }
    std::sort(all.begin(), all.end());
    EXPECT_LE(lateness.median(), all[all.size() / 2]);
    EXPECT_GT(lateness.median() + Duration(20'000), all[all.size() / 2]);
    EXPECT_EQ(lateness.worst(), all.back());
    EXPECT_EQ(lateness.deliveries(), all.size());
    EXPECT_EQ(lateness.late_1ms(),
              static_cast<uint64_t>(std::count_if(all.begin(), all.end(),
                                                  [](Duration d) { return d > Milliseconds(1); })));
  }
}

TEST(LatenessTest, ExtremesCount) {
  Lateness lateness;
  EXPECT_EQ(lateness.median(), Duration(0));
  lateness.NoteDelivery(Milliseconds(-1));
  EXPECT_EQ(lateness.median(), Duration(0));
  lateness.NoteDelivery(Seconds(5));
  lateness.NoteDelivery(Seconds(6));
  EXPECT_EQ(lateness.median(), Milliseconds(20));
  lateness.NoteTurn(Seconds(7));
  EXPECT_EQ(lateness.worst(), Seconds(7));
  lateness.Forget();
  EXPECT_EQ(lateness.worst(), Duration(0));
  EXPECT_EQ(lateness.deliveries(), 0u);
}

}  // namespace
}  // namespace longhaul::wan
