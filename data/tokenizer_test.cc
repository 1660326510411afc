#include "data/tokenizer.h"

#include <gtest/gtest.h>
#include <simdjson.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>

#include "common/rng.h"
#include "data/bpe.h"
#include "data/splitter.h"

namespace longhaul {
namespace {

std::string SourceFile(const std::string& name) {
  const char* root = std::getenv("LONGHAUL_SOURCE_DIR");
  std::ifstream file(std::string(root ? root : ".") + "/" + name, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// ---- golden files ----

// Written by Hugging Face's `tokenizers` 0.23: a small tokenizer of each kind, texts, and its ids.
class GoldenTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    simdjson::padded_string text(SourceFile(std::string("data/testdata/") + GetParam()));
    ASSERT_EQ(parser_.parse(text).get(root_), simdjson::SUCCESS) << "no golden file";
    simdjson::dom::element tokenizer;
    ASSERT_EQ(root_["tokenizer"].get(tokenizer), simdjson::SUCCESS);
    auto parsed = ParseTokenizerJson(GetParam(), simdjson::minify(tokenizer), "");
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    tokenizer_ = std::move(*parsed);
  }

  std::vector<std::pair<std::string, std::vector<uint32_t>>> Cases() const {
    std::vector<std::pair<std::string, std::vector<uint32_t>>> cases;
    for (simdjson::dom::element c : simdjson::dom::array(root_["cases"])) {
      std::vector<uint32_t> ids;
      for (const uint64_t id : simdjson::dom::array(c["ids"])) {
        ids.push_back(static_cast<uint32_t>(id));
      }
      cases.emplace_back(std::string_view(c["text"]), std::move(ids));
    }
    return cases;
  }

  simdjson::dom::parser parser_;
  simdjson::dom::element root_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_P(GoldenTest, GivesTheSameIds) {
  const auto cases = Cases();
  ASSERT_GT(cases.size(), 100u);
  for (const auto& [text, ids] : cases) {
    std::vector<uint32_t> got;
    ASSERT_TRUE(tokenizer_->Encode(text, got).ok());
    EXPECT_EQ(got, ids) << testing::PrintToString(text);
  }
  EXPECT_EQ(tokenizer_->document_end(), 0u);
}

// Cutting a text where SafeCut says gives the ids of the whole.
TEST_P(GoldenTest, SafeCutsChangeNothing) {
  std::string all;
  for (const auto& [text, ids] : Cases()) all += text;
  std::vector<uint32_t> whole;
  ASSERT_TRUE(tokenizer_->Encode(all, whole).ok());
  for (const size_t piece : {40, 100, 333}) {
    std::vector<uint32_t> ids;
    int cuts = 0;
    for (size_t at = 0; at < all.size();) {
      std::string_view rest = std::string_view(all).substr(at);
      size_t end = rest.size();
      for (size_t want = piece; want < rest.size(); want += piece) {
        end = tokenizer_->SafeCut(rest.substr(0, want));
        if (end > 0) break;
        end = rest.size();
      }
      ASSERT_TRUE(tokenizer_->Encode(rest.substr(0, end), ids).ok());
      at += end;
      ++cuts;
    }
    EXPECT_EQ(ids, whole) << piece;
    EXPECT_GT(cuts, 3);
  }
}

INSTANTIATE_TEST_SUITE_P(All, GoldenTest,
                         ::testing::Values("bpe_gpt2.json", "bpe_llama3.json", "bpe_qwen2.json"),
                         [](const auto& info) {
                           const std::string name = info.param;
                           return name.substr(4, name.find('.') - 4);
                         });

// ---- the merging, against its definition ----

std::vector<uint32_t> NaiveBpe(std::string_view word, const std::vector<BpeMerge>& merges) {
  std::vector<uint32_t> ids;
  for (const char c : word) ids.push_back(static_cast<uint8_t>(c));
  while (true) {
    size_t best_rank = merges.size(), best_at = 0;
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      for (size_t rank = 0; rank < best_rank; ++rank) {
        if (merges[rank].left == ids[i] && merges[rank].right == ids[i + 1]) {
          best_rank = rank, best_at = i;
        }
      }
    }
    if (best_rank == merges.size()) return ids;
    ids[best_at] = merges[best_rank].merged;
    ids.erase(ids.begin() + static_cast<int64_t>(best_at) + 1);
  }
}

// Random merges over three letters, so that merges overlap and build on one another.
TEST(BpeTest, AgreesWithTheDefinition) {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    Rng rng(seed);
    std::vector<uint32_t> bytes(256);
    for (uint32_t i = 0; i < 256; ++i) bytes[i] = i;
    std::vector<uint32_t> symbols = {'a', 'b', 'c'};
    std::vector<BpeMerge> merges;
    std::map<std::pair<uint32_t, uint32_t>, bool> seen;
    for (uint32_t id = 256; id < 256 + 40; ++id) {
      const uint32_t left = symbols[rng.Below(symbols.size())];
      const uint32_t right = symbols[rng.Below(symbols.size())];
      if (!seen.emplace(std::pair(left, right), true).second) continue;
      merges.push_back({left, right, id});
      symbols.push_back(id);
    }
    BpeEncoder encoder(bytes, merges);
    for (int i = 0; i < 200; ++i) {
      std::string word;
      for (uint64_t n = 1 + rng.Below(90); n > 0; --n) {
        word.push_back(static_cast<char>('a' + rng.Below(3)));
      }
      const std::vector<uint32_t> naive = NaiveBpe(word, merges);
      for (int again = 0; again < 2; ++again) {  // the second time from what was kept
        std::vector<uint32_t> got;
        encoder.Encode(word, got);
        ASSERT_EQ(got, naive) << word;
      }
    }
  }
}

// More words than are kept: forgetting changes nothing.
TEST(BpeTest, ForgetsWordsWithoutHarm) {
  std::vector<uint32_t> bytes(256);
  for (uint32_t i = 0; i < 256; ++i) bytes[i] = i;
  const std::vector<BpeMerge> merges = {{'1', '2', 256}, {256, '3', 257}};
  BpeEncoder encoder(bytes, merges);
  for (uint64_t i = 0; i < 200'000; ++i) {
    const std::string word = std::to_string(i * 7919 % 300'000);
    std::vector<uint32_t> got;
    encoder.Encode(word, got);
    if (i % 97 != 0) continue;
    ASSERT_EQ(got, NaiveBpe(word, merges)) << word;
  }
}

// ---- what is refused ----

// A valid file to spoil.
std::string SmallJson(const std::string& model_extra = "", const std::string& root_extra = "",
                      const std::string& merges = "[]") {
  std::string vocab;
  uint32_t next = 256;
  for (uint32_t b = 0; b < 256; ++b) {
    const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
    char code[16];
    std::snprintf(code, sizeof code, "\\u%04x", printable ? b : next);
    if (!printable) ++next;
    vocab += (b ? ",\"" : "\"") + std::string(code) + "\":" + std::to_string(b);
  }
  return "{\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":"
         "false,"
         "\"use_regex\":true}," +
         root_extra + "\"model\":{\"type\":\"BPE\"," + model_extra + "\"vocab\":{" + vocab +
         ",\"ab\":256},\"merges\":" + merges + "}}";
}

TEST(TokenizerJsonTest, ReadsASmallOne) {
  for (const char* merges : {R"(["a b"])", R"([["a","b"]])"}) {
    auto tokenizer = ParseTokenizerJson("small", SmallJson("", "", merges), "ab");
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    std::vector<uint32_t> ids;
    ASSERT_TRUE((*tokenizer)->Encode("cab\n", ids).ok());
    EXPECT_EQ(ids, (std::vector<uint32_t>{'c', 256, '\n'}));
    EXPECT_EQ((*tokenizer)->vocab_size(), 257u);
    EXPECT_EQ((*tokenizer)->document_end(), 256u);
  }
}

TEST(TokenizerJsonTest, RefusesWhatItDoesNotDo) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"{", "not JSON"},
      {"[]", "no model"},
      {"{\"model\":{\"type\":\"Unigram\"}}", "not BPE"},
      {SmallJson("\"dropout\":0.1,"), "dropout"},
      {SmallJson("\"end_of_word_suffix\":\"</w>\","), "suffixes"},
      {SmallJson("\"byte_fallback\":true,"), "byte_fallback"},
      {SmallJson("", "", "[\"a\"]"), "two tokens"},
      {SmallJson("", "", "[\"a c\"]"), "not in the vocabulary"},
      {SmallJson("", "", "[7]"), "not a text"},
      {SmallJson("", "\"added_tokens\":[{\"id\":99999999,\"content\":\"x\"}],"), "added token"},
  };
  for (const auto& [json, reason] : cases) {
    auto tokenizer = ParseTokenizerJson("bad", json, "");
    ASSERT_FALSE(tokenizer.ok()) << reason;
    EXPECT_NE(std::string(tokenizer.status().message()).find(reason), std::string::npos)
        << tokenizer.status();
  }
  EXPECT_FALSE(ParseTokenizerJson("bad", SmallJson(), "<eos>").ok());
}

TEST(TokenizerJsonTest, RefusesTextThatIsNotUtf8) {
  auto tokenizer = ParseTokenizerJson("small", SmallJson(), "");
  ASSERT_TRUE(tokenizer.ok());
  std::vector<uint32_t> ids = {1};
  for (const char* text : {"\xff", "a\xc3", "\xed\xa0\x80", "\xf5\x80\x80\x80", "\xc0\x80"}) {
    EXPECT_FALSE((*tokenizer)->Encode(text, ids).ok());
  }
  EXPECT_EQ(ids.size(), 1u);
}

TEST(ByteTokenizerTest, TokensAreBytes) {
  const auto tokenizer = NewByteTokenizer();
  std::vector<uint32_t> ids;
  ASSERT_TRUE(tokenizer->Encode("a\xff", ids).ok());
  EXPECT_EQ(ids, (std::vector<uint32_t>{'a', 255}));
  EXPECT_EQ(tokenizer->SafeCut("abc"), 3u);
  EXPECT_FALSE(tokenizer->document_end());
}

}  // namespace
}  // namespace longhaul
