#include "cli/suggest.h"

#include <gtest/gtest.h>

#include <vector>

#include "common/rng.h"

namespace longhaul {
namespace {

// The definition, by recursion.
size_t NaiveDistance(std::string_view a, std::string_view b) {
  if (a.empty() || b.empty()) return a.size() + b.size();
  const auto cut = [](std::string_view s, size_t n) { return s.substr(0, s.size() - n); };
  size_t best = NaiveDistance(cut(a, 1), cut(b, 1)) + (a.back() == b.back() ? 0 : 1);
  best = std::min(best, NaiveDistance(cut(a, 1), b) + 1);
  best = std::min(best, NaiveDistance(a, cut(b, 1)) + 1);
  if (a.size() > 1 && b.size() > 1 && a.back() == b[b.size() - 2] && a[a.size() - 2] == b.back()) {
    best = std::min(best, NaiveDistance(cut(a, 2), cut(b, 2)) + 1);
  }
  return best;
}

TEST(Suggest, KnownDistances) {
  EXPECT_EQ(EditDistance("", ""), 0u);
  EXPECT_EQ(EditDistance("abc", ""), 3u);
  EXPECT_EQ(EditDistance("kitten", "sitting"), 3u);
  EXPECT_EQ(EditDistance("sede", "seed"), 1u);  // neighbours swapped
  EXPECT_EQ(EditDistance("SEED", "seed"), 0u);
}

TEST(Suggest, AgreesWithTheDefinition) {
  Rng rng(1);
  for (int i = 0; i < 200; ++i) {
    std::string a, b;
    for (uint64_t n = rng.Below(6); n > 0; --n) a += static_cast<char>('a' + rng.Below(3));
    for (uint64_t n = rng.Below(6); n > 0; --n) b += static_cast<char>('a' + rng.Below(3));
    EXPECT_EQ(EditDistance(a, b), NaiveDistance(a, b)) << a << " " << b;
  }
}

TEST(Suggest, NearestOrNothing) {
  const std::vector<std::string> names = {"seed", "rounds", "min_workers"};
  EXPECT_EQ(NearestName("round", names), "rounds");
  EXPECT_EQ(NearestName("min_wrokers", names), "min_workers");
  EXPECT_EQ(NearestName("colour", names), "");
  EXPECT_EQ(NearestName(std::string(1000, 's'), names), "");
  EXPECT_EQ(DidYouMean("sed", names), "; did you mean \"seed\"?");
  EXPECT_EQ(DidYouMean("quux", names), "");
}

}  // namespace
}  // namespace longhaul
