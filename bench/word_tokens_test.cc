#include "bench/word_tokens.h"

#include <gtest/gtest.h>

#include <string>

namespace longhaul {
namespace {

using Ids = std::vector<uint16_t>;

TEST(WordTokens, MostFrequentPiecesFirst) {
  // the| cat|,| the| the|\n | cat
  const std::string text = "the cat, the the\ncat";
  const WordTokens all = MakeWordTokens(text, text.size(), 100);
  // " the" twice; then, by byte order, "\n", " cat", ",", "cat", "the".
  EXPECT_EQ(all.ids, (Ids{5, 2, 3, 0, 0, 1, 4}));
  EXPECT_EQ(all.training, 7u);
  EXPECT_EQ(MakeWordTokens(text, text.size(), 3).ids, (Ids{2, 2, 2, 0, 0, 1, 2}));
}

TEST(WordTokens, OnlyWholePiecesOfTheTrainingPartCount) {
  const WordTokens tokens = MakeWordTokens("aa bb cc", 4, 10);
  EXPECT_EQ(tokens.training, 1u);  // " bb" ends after it
  EXPECT_EQ(tokens.ids, (Ids{0, 9, 9}));
}

TEST(WordTokens, OddTexts) {
  EXPECT_TRUE(MakeWordTokens("", 0, 2).ids.empty());
  EXPECT_EQ(MakeWordTokens("  x ", 4, 10).ids.size(), 3u);  // blank, " x", blank
  EXPECT_EQ(MakeWordTokens(std::string("\xFF\0a", 3), 3, 10).ids.size(), 3u);
}

}  // namespace
}  // namespace longhaul
