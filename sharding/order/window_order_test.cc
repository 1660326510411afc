#include "sharding/order/window_order.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "common/rng.h"
#include "sharding/order/permutation.h"

namespace longhaul {
namespace {

// ---- permutation ----

TEST(PermutationTest, IsABijectionWithItsInverse) {
  for (uint64_t n = 1; n <= 600; ++n) {
    const Permutation p(n, n * 31);
    std::vector<bool> seen(n);
    for (uint64_t x = 0; x < n; ++x) {
      const uint64_t y = p(x);
      ASSERT_LT(y, n);
      ASSERT_FALSE(seen[y]);
      seen[y] = true;
      ASSERT_EQ(p.Inverse(y), x);
    }
  }
}

TEST(PermutationTest, InverseHoldsForLargeSizes) {
  Rng rng(1);
  for (uint64_t n : {(uint64_t{1} << 32) - 1, uint64_t{1} << 32, (uint64_t{1} << 32) + 1,
                     uint64_t{15'000'000'000'000}, (uint64_t{1} << 62) - 1}) {
    const Permutation p(n, 7);
    for (int i = 0; i < 2000; ++i) {
      const uint64_t x = rng.Below(n), y = p(x);
      ASSERT_LT(y, n);
      ASSERT_EQ(p.Inverse(y), x);
    }
  }
}

// All orders of a few come up about equally often over keys.
TEST(PermutationTest, SmallOrdersAreEquallyLikely) {
  constexpr int kKeys = 24'000;
  double orders = 2;  // n!
  for (uint64_t n = 3; n <= 5; ++n) {
    orders *= static_cast<double>(n);
    std::map<std::vector<uint64_t>, int> seen;
    for (uint64_t key = 0; key < kKeys; ++key) {
      const Permutation p(n, key);
      std::vector<uint64_t> order(n);
      for (uint64_t x = 0; x < n; ++x) order[x] = p(x);
      ++seen[order];
    }
    ASSERT_EQ(static_cast<double>(seen.size()), orders);
    const double expected = kKeys / orders;
    double chi = 0;  // its mean is orders - 1
    for (const auto& [order, count] : seen)
      chi += (count - expected) * (count - expected) / expected;
    EXPECT_LT(chi, 2 * orders + 10) << n;
  }
}

TEST(PermutationTest, PublishedValues) {
  const Permutation p(1000, 7);
  EXPECT_EQ((std::vector<uint64_t>{p(0), p(1), p(999)}), (std::vector<uint64_t>{498, 870, 184}));
}

// ---- windows ----

TEST(WindowOrderTest, EveryEpochIsABijection) {
  for (uint64_t samples : {1, 2, 5, 16, 17, 95, 96, 97, 1000}) {
    for (uint64_t piece : {1, 3, 16}) {
      for (uint64_t window : {1, 2, 7}) {
        const WindowOrder order(samples, 3, {samples, piece, window});
        for (uint64_t epoch : {0, 1, 9}) {
          std::vector<bool> seen(samples);
          for (uint64_t place = 0; place < samples; ++place) {
            const uint64_t sample = order.Sample(epoch, place);
            ASSERT_LT(sample, samples);
            ASSERT_FALSE(seen[sample]);
            seen[sample] = true;
            ASSERT_EQ(order.Place(epoch, sample), place);
          }
        }
      }
    }
  }
}

TEST(WindowOrderTest, AWindowTouchesItsPiecesOnly) {
  const WindowOrder order(5, 0, {100'000, 64, 8});
  std::set<uint64_t> first_pieces;
  for (uint64_t window = 0; window < 100; ++window) {
    std::set<uint64_t> pieces;
    for (uint64_t i = 0; i < 512; ++i) pieces.insert(order.Sample(0, window * 512 + i) / 64);
    EXPECT_EQ(pieces.size(), 8u);
    first_pieces.insert(*pieces.begin());
  }
  EXPECT_GT(first_pieces.size(), 90u);
}

TEST(WindowOrderTest, EpochsSeedsAndDomainsDiffer) {
  const WindowSizes sizes{1000, 10, 5};
  const WindowOrder a(1, 0, sizes), seed(2, 0, sizes), domain(1, 1, sizes);
  const auto equal = [](const auto& f, const auto& g) {
    int n = 0;
    for (uint64_t i = 0; i < 1000; ++i) n += f(i) == g(i);
    return n;
  };
  const auto first = [&](uint64_t i) { return a.Sample(0, i); };
  EXPECT_LT(equal(first, [&](uint64_t i) { return a.Sample(1, i); }), 12);
  EXPECT_LT(equal(first, [&](uint64_t i) { return seed.Sample(0, i); }), 12);
  EXPECT_LT(equal(first, [&](uint64_t i) { return domain.Sample(0, i); }), 12);
}

TEST(WindowOrderTest, StateIsSmall) { EXPECT_LE(sizeof(WindowOrder), 128u); }

TEST(WindowOrderTest, PublishedValues) {
  const WindowOrder order(7, 1, {1000, 16, 4});
  EXPECT_EQ((std::vector<uint64_t>{order.Sample(0, 0), order.Sample(0, 1), order.Sample(3, 999)}),
            (std::vector<uint64_t>{572, 569, 999}));
}

// ---- how well it is shuffled ----

// Where a piece lies against where the next one lies, over 8 x 8 cells: 63 degrees of freedom.
TEST(ShuffleQualityTest, AdjacentPiecesAreIndependent) {
  constexpr uint64_t kPieces = 64'000;
  for (uint64_t seed = 0; seed < 4; ++seed) {
    const WindowOrder order(seed, 0, {kPieces, 1, 1});
    double cells[8][8] = {};
    for (uint64_t i = 0; i + 1 < kPieces; ++i) {
      ++cells[order.Sample(0, i) * 8 / kPieces][order.Sample(0, i + 1) * 8 / kPieces];
    }
    double chi = 0;
    for (auto& row : cells) {
      for (double count : row) chi += (count - 1000) * (count - 1000) / 1000;
    }
    EXPECT_LT(chi, 115) << seed;
    EXPECT_GT(chi, 25) << seed;
  }
}

// Bits of entropy of what `of` gives for adjacent samples of the order.
template <class Of>
double AdjacentEntropy(const std::vector<uint64_t>& order, Of of) {
  std::map<int64_t, double> counts;
  for (size_t i = 0; i + 1 < order.size(); ++i) ++counts[of(order[i], order[i + 1])];
  double bits = 0;
  for (const auto& [value, count] : counts) {
    const double p = count / static_cast<double>(order.size() - 1);
    bits -= p * std::log2(p);
  }
  return bits;
}

// A Fisher-Yates shuffle of the same pieces and the same windows.
std::vector<uint64_t> FisherYates(uint64_t samples, uint64_t piece, uint64_t window, Rng& rng) {
  const auto shuffle = [&](auto begin, uint64_t n) {
    for (uint64_t i = n; i > 1; --i) std::swap(begin[i - 1], begin[rng.Below(i)]);
  };
  std::vector<uint64_t> pieces(samples / piece), order;
  std::iota(pieces.begin(), pieces.end(), 0);
  shuffle(pieces.begin(), pieces.size());
  for (const uint64_t p : pieces) {
    for (uint64_t i = 0; i < piece; ++i) order.push_back(p * piece + i);
  }
  for (uint64_t at = 0; at < samples; at += window * piece) {
    shuffle(order.begin() + static_cast<int64_t>(at), std::min(window * piece, samples - at));
  }
  return order;
}

TEST(ShuffleQualityTest, AdjacentEntropyIsThatOfFisherYates) {
  constexpr uint64_t kSamples = 65'536, kPiece = 64, kWindow = 16;
  const WindowOrder order(11, 0, {kSamples, kPiece, kWindow});
  std::vector<uint64_t> ours;
  for (uint64_t i = 0; i < kSamples; ++i) ours.push_back(order.Sample(0, i));
  Rng rng(12);
  const std::vector<uint64_t> ideal = FisherYates(kSamples, kPiece, kWindow, rng);
  const auto pieces = [](uint64_t a, uint64_t b) {
    return static_cast<int64_t>(a / kPiece) - static_cast<int64_t>(b / kPiece);
  };
  const auto places = [](uint64_t a, uint64_t b) {
    return static_cast<int64_t>(a % kPiece) - static_cast<int64_t>(b % kPiece);
  };
  EXPECT_GE(AdjacentEntropy(ours, pieces) / AdjacentEntropy(ideal, pieces), 0.98);
  EXPECT_GE(AdjacentEntropy(ours, places) / AdjacentEntropy(ideal, places), 0.98);
}

}  // namespace
}  // namespace longhaul
