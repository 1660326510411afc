#include "sync/fragments.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "common/rng.h"

namespace longhaul {
namespace {

struct Sizes {
  uint64_t embedding, head, norm;
  std::vector<uint64_t> layer;  // the tensors of one layer
  int32_t layers;
};

// In the order of a model's flat vector: what lies outside, then each kind of tensor for all
// layers.
std::vector<TensorPlace> Places(const Sizes& s) {
  std::vector<TensorPlace> places;
  uint64_t offset = 0;
  const auto add = [&](uint64_t count, int32_t layer) {
    places.push_back({offset, count, layer});
    offset += count;
  };
  add(s.embedding, -1);
  if (s.head > 0) add(s.head, s.layers);
  add(s.norm, s.layers);
  for (uint64_t size : s.layer) {
    for (int32_t l = 0; l < s.layers; ++l) add(size, l);
  }
  return places;
}

uint64_t Total(const std::vector<TensorPlace>& places) {
  uint64_t total = 0;
  for (const TensorPlace& t : places) total += t.count;
  return total;
}

uint64_t Largest(const std::vector<FragmentLayout>& layouts) {
  uint64_t largest = 0;
  for (const FragmentLayout& f : layouts) largest = std::max(largest, f.elements);
  return largest;
}

// The fragment of every element, and -1 where a layout is not canonical.
std::vector<int> Owners(const std::vector<FragmentLayout>& layouts, uint64_t total) {
  std::vector<int> owners(total, -1);
  for (size_t f = 0; f < layouts.size(); ++f) {
    uint64_t elements = 0, end = 0;
    for (const ParameterSpan& span : layouts[f].spans) {
      EXPECT_GT(span.count, 0u);
      EXPECT_TRUE(elements == 0 || span.offset > end) << "not ascending or not merged";
      end = span.offset + span.count;
      elements += span.count;
      for (uint64_t i = span.offset; i < end; ++i) {
        EXPECT_EQ(owners[i], -1);
        owners[i] = static_cast<int>(f);
      }
    }
    EXPECT_EQ(elements, layouts[f].elements);
  }
  return owners;
}

// Smallest possible largest fragment, by trying every division.
uint64_t BestLargest(std::vector<uint64_t>& load, std::span<const uint64_t> parts) {
  if (parts.empty()) return *std::max_element(load.begin(), load.end());
  uint64_t best = UINT64_MAX;
  for (uint64_t& l : load) {
    l += parts[0];
    best = std::min(best, BestLargest(load, parts.subspan(1)));
    l -= parts[0];
  }
  return best;
}

TEST(FragmentsTest, OneFragmentIsOneSpan) {
  const auto places = Places({256 * 64, 256 * 64, 64, {64, 64, 4096}, 2});
  const auto layouts = MakeFragments(places, 1);
  ASSERT_EQ(layouts.size(), 1u);
  EXPECT_EQ(layouts[0], (FragmentLayout{{{0, Total(places)}}, Total(places)}));
}

TEST(FragmentsTest, EqualLayersAreStrided) {
  const auto places = Places({10, 0, 10, {1000, 500}, 7});
  const auto layouts = MakeFragments(places, 3);
  const std::vector<int> owners = Owners(layouts, Total(places));
  for (const TensorPlace& t : places) {
    if (t.layer < 0 || t.layer >= 7) continue;
    EXPECT_EQ(owners[t.offset], t.layer % 3) << t.layer;
  }
}

TEST(FragmentsTest, ModelsBalanceWithinFourThirdsOfTheMean) {
  // d 64, 2 layers; d 128, 3 layers; d 160, 3 layers; d 768, 14 layers, all for byte tokens; then a
  // large vocabulary.
  const std::vector<std::pair<Sizes, uint32_t>> cases = {
      {{16384, 16384, 64, {64, 64, 4096, 4096, 4096, 4096, 11264, 11264, 11264}, 2}, 3},
      {{32768, 32768, 128, {256, 65536, 135168}, 3}, 3},
      {{40960, 40960, 160, {320, 102400, 207360}, 3}, 3},
      {{196608, 196608, 768, {1536, 2359296, 4718592}, 14}, 4},
      {{24576000, 24576000, 768, {1536, 2359296, 4718592}, 14}, 5}};
  for (const auto& [sizes, fragments] : cases) {
    const auto places = Places(sizes);
    const auto layouts = MakeFragments(places, fragments);
    EXPECT_LE(3 * fragments * Largest(layouts), 4 * Total(places)) << Total(places);
  }
}

TEST(FragmentsTest, RandomModelsAreCoveredOnceAndNearTheBestDivision) {
  Rng rng(11);
  for (int round = 0; round < 60; ++round) {
    const auto size = [&] { return 1 + rng.Below(40); };
    const int32_t layers = static_cast<int32_t>(1 + rng.Below(5));
    auto places = Places({size(), rng.Chance(1, 3) ? 0 : size(), size(), {size(), size()}, layers});
    const uint64_t total = Total(places);
    std::map<int32_t, uint64_t> parts;
    for (const TensorPlace& t : places) parts[t.layer] += t.count;
    std::vector<uint64_t> sizes;
    for (const auto& [layer, elements] : parts) sizes.push_back(elements);
    ASSERT_EQ(MostFragments(places), sizes.size());
    const uint32_t fragments =
        static_cast<uint32_t>(1 + rng.Below(std::min<size_t>(4, sizes.size())));
    const auto layouts = MakeFragments(places, fragments);
    ASSERT_EQ(layouts.size(), fragments);
    const std::vector<int> owners = Owners(layouts, total);
    EXPECT_EQ(std::count(owners.begin(), owners.end(), -1), 0);
    for (const TensorPlace& t : places) {
      for (const TensorPlace& u : places) {
        if (t.layer != u.layer) continue;
        EXPECT_EQ(owners[t.offset], owners[u.offset + u.count - 1]);
      }
    }
    std::vector<uint64_t> load(fragments, 0);
    EXPECT_LE(3 * Largest(layouts), 4 * BestLargest(load, sizes));
    std::reverse(places.begin(), places.end());
    EXPECT_EQ(MakeFragments(places, fragments), layouts) << "depends on the order of the tensors";
  }
}

TEST(FragmentsTest, GatherAndScatterFollowTheSpans) {
  const auto places = Places({5, 3, 2, {4, 7}, 5});
  std::vector<float> flat(Total(places));
  std::iota(flat.begin(), flat.end(), 1.0f);
  std::vector<float> back(flat.size(), 0.0f);
  for (const FragmentLayout& f : MakeFragments(places, 3)) {
    std::vector<float> naive;
    for (const ParameterSpan& span : f.spans) {
      for (uint64_t i = 0; i < span.count; ++i) naive.push_back(flat[span.offset + i]);
    }
    for (uint64_t at = 0; at < f.elements; at += 4) {
      std::vector<float> piece(std::min<uint64_t>(4, f.elements - at));
      Gather(f, flat, at, piece);
      EXPECT_TRUE(std::equal(piece.begin(), piece.end(), naive.begin() + static_cast<int64_t>(at)));
      Scatter(f, piece, at, back);
    }
    Gather(f, flat, f.elements, {});
  }
  EXPECT_EQ(back, flat);
}

TEST(FragmentsDeathTest, RefusesWhatCannotBeCut) {
  const auto places = Places({5, 3, 2, {4}, 2});
  EXPECT_DEATH(MakeFragments(places, 0), "out of range");
  EXPECT_DEATH(MakeFragments(places, 5), "out of range");
  auto gap = places;
  gap.back().offset += 1;
  EXPECT_DEATH(MakeFragments(gap, 2), "gap");
  auto overlap = places;
  overlap.back().offset -= 1;
  EXPECT_DEATH(MakeFragments(overlap, 2), "gap");
  const auto layout = MakeFragments(places, 1)[0];
  std::vector<float> out(4), flat(Total(places));
  EXPECT_DEATH(Gather(layout, flat, layout.elements - 3, out), "outside");
}

}  // namespace
}  // namespace longhaul
