#include "common/rng.h"

#include <gtest/gtest.h>

#include <set>

namespace longhaul {
namespace {

// Values of an independent implementation.
TEST(Rng, DrawMatchesTheReferenceValues) {
  EXPECT_EQ(Draw(1), 10451216379200822465ull);
  EXPECT_EQ(Draw(1, {2, 3}), 9613205829653846581ull);
}

TEST(Rng, BelowCoversItsRangeAndNothingElse) {
  Rng rng(7);
  std::set<uint64_t> seen;
  for (int i = 0; i < 1000; ++i) seen.insert(rng.Below(5));
  EXPECT_EQ(seen, (std::set<uint64_t>{0, 1, 2, 3, 4}));
}

}  // namespace
}  // namespace longhaul
