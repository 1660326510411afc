#include "data/corpus.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "common/bytes.h"

namespace longhaul {
namespace {

namespace fs = std::filesystem;

class CorpusTest : public ::testing::Test {
 protected:
  CorpusTest() {
    std::string pattern = (fs::temp_directory_path() / "longhaul-XXXXXX").string();
    folder_ = mkdtemp(pattern.data());
    options_.sample_tokens = 4;
    options_.validation = 0.25;
  }
  ~CorpusTest() override { fs::remove_all(folder_); }

  std::string Write(const std::string& name, const std::string& bytes) {
    const fs::path path = fs::path(folder_) / name;
    fs::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << bytes;
    return path.string();
  }

  static std::string Sample(const Corpus& corpus, uint64_t i, bool validation = false) {
    std::vector<uint16_t> tokens(corpus.sample_tokens());
    validation ? corpus.ReadValidationSample(i, tokens) : corpus.ReadSample(i, tokens);
    return std::string(tokens.begin(), tokens.end());
  }

  static void ExpectRefused(const absl::StatusOr<Corpus>& corpus, const std::string& reason) {
    ASSERT_FALSE(corpus.ok()) << reason;
    EXPECT_NE(std::string(corpus.status().message()).find(reason), std::string::npos)
        << corpus.status();
  }

  std::string folder_;
  CorpusOptions options_;
};

TEST_F(CorpusTest, CutsTextIntoSamplesAndSplitsTheEndOff) {
  auto corpus = Corpus::OpenText(Write("a.txt", "aaaabbbbccccddddeeeeffffgggghhhhXY"), options_);
  ASSERT_TRUE(corpus.ok()) << corpus.status();
  EXPECT_EQ(corpus->samples(), 6u);
  EXPECT_EQ(corpus->validation_samples(), 2u);
  EXPECT_EQ(Sample(*corpus, 0), "aaaa");
  EXPECT_EQ(Sample(*corpus, 5), "ffff");
  EXPECT_EQ(Sample(*corpus, 0, true), "gggg");
  EXPECT_EQ(Sample(*corpus, 1, true), "hhhh");
  EXPECT_EQ(corpus->Describe(), "text file " + folder_ + "/a.txt, 34 bytes");
  EXPECT_DEATH(Sample(*corpus, 6), "no such sample");
  EXPECT_DEATH(Sample(*corpus, 2, true), "no such validation sample");
}

TEST_F(CorpusTest, AtLeastOneValidationSample) {
  options_.validation = 0.001;
  auto corpus = Corpus::OpenText(Write("a.txt", "aaaabbbbcccc"), options_);
  ASSERT_TRUE(corpus.ok()) << corpus.status();
  EXPECT_EQ(corpus->samples(), 2u);
  EXPECT_EQ(corpus->validation_samples(), 1u);
}

TEST_F(CorpusTest, BytesAboveAsciiAreTokensToo) {
  auto corpus = Corpus::OpenText(Write("a.txt", std::string(12, '\xff')), options_);
  std::vector<uint16_t> tokens(4);
  corpus->ReadSample(0, tokens);
  EXPECT_EQ(tokens, std::vector<uint16_t>(4, 255));
  options_.vocab_size = 255;
  ExpectRefused(Corpus::OpenText(folder_ + "/a.txt", options_), "token 255 at place 0 is outside");
}

TEST_F(CorpusTest, MaxBytesCutsTheSource) {
  options_.max_bytes = 13;
  auto corpus = Corpus::OpenText(Write("a.txt", "aaaabbbbccccddddeeee"), options_);
  EXPECT_EQ(corpus->samples() + corpus->validation_samples(), 3u);
}

TEST_F(CorpusTest, ReadsTokenFiles) {
  ByteWriter w;
  for (uint16_t t : {1000, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}) w.U16(t);
  const std::string path = Write("a.bin", w.str());
  options_.vocab_size = 1001;
  auto corpus = Corpus::Open(path, "", options_);
  ASSERT_TRUE(corpus.ok()) << corpus.status();
  std::vector<uint16_t> tokens(4);
  corpus->ReadSample(0, tokens);
  EXPECT_EQ(tokens, (std::vector<uint16_t>{1000, 1, 2, 3}));
  EXPECT_EQ(corpus->Describe(), "token file " + path + ", 12 tokens");
  options_.vocab_size = 1000;
  ExpectRefused(Corpus::Open(path, "", options_), "token 1000 at place 0 is outside");
  ExpectRefused(Corpus::Open(Write("b.bin", w.str() + "x"), "", options_), "odd number");
}

TEST_F(CorpusTest, RefusesWithTheReason) {
  ExpectRefused(Corpus::OpenText(folder_ + "/none.txt", options_), "no file");
  EXPECT_EQ(Corpus::OpenText(folder_ + "/none.txt", options_).status().code(),
            absl::StatusCode::kNotFound);
  ExpectRefused(Corpus::OpenText(folder_, options_), "is a folder");
  ExpectRefused(Corpus::OpenText(Write("e.txt", ""), options_), "is empty");
  ExpectRefused(Corpus::OpenTokens(Write("e.bin", ""), options_), "is empty");
  ExpectRefused(Corpus::OpenText(Write("s.txt", "aaaabbbbccc"), options_),
                "too short, 11 tokens; at least 12 are needed");
  ExpectRefused(Corpus::OpenText("/dev/zero", options_), "not a regular file");
  ExpectRefused(Corpus::OpenWheel(folder_, options_), "no built-in text");
  for (double share : {0.0, -0.1, 0.6, std::nan("")}) {
    options_.validation = share;
    ExpectRefused(Corpus::OpenText(folder_ + "/s.txt", options_), "validation is");
  }
  options_.validation = 0.1;
  options_.sample_tokens = 0;
  ExpectRefused(Corpus::OpenText(folder_ + "/s.txt", options_), "at least 2 tokens");
}

TEST_F(CorpusTest, UnreadableFile) {
  fs::create_symlink("loop.txt", folder_ + "/loop.txt");
  EXPECT_EQ(Corpus::OpenText(folder_ + "/loop.txt", options_).status().code(),
            absl::StatusCode::kUnavailable);
}

// Sorted by the bytes of the relative path: "Z.py" < "a-b.py" < "a/c.py" < "a/d.py" < "b.py".
constexpr char kWheelText[] = "ZZZZ-----aaaaccccccddddbbbb";

void WriteWheel(const std::string& root,
                const std::vector<std::pair<std::string, std::string>>& files) {
  for (const auto& [name, text] : files) {
    const fs::path path = fs::path(root) / name;
    fs::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << text;
  }
}

std::vector<std::pair<std::string, std::string>> WheelFiles() {
  return {{"torch/b.py", "bbbb"},
          {"torch/a/d.py", "dddd"},
          {"torch/Z.py", "ZZZZ"},
          {"torch/a/c.py", "cccccc"},
          {"torch/a-b.py", "-----aaaa"},
          {"torch/a/c.pyc", "not this"},
          {"torch/a/notes.txt", "not this"},
          {"functorch/x.py", "not this"},
          {"torch/lib/x.so", "not this"}};
}

TEST_F(CorpusTest, WheelTextIsTheSortedSources) {
  WriteWheel(folder_, WheelFiles());
  fs::create_symlink(folder_ + "/torch/b.py", folder_ + "/torch/link.py");
  auto wheel = Corpus::Open("wheel", folder_, options_);
  ASSERT_TRUE(wheel.ok()) << wheel.status();
  std::string text;
  for (uint64_t i = 0; i < wheel->samples(); ++i) text += Sample(*wheel, i);
  for (uint64_t i = 0; i < wheel->validation_samples(); ++i) text += Sample(*wheel, i, true);
  EXPECT_EQ(text, std::string(kWheelText).substr(0, 24));
  EXPECT_EQ(wheel->Describe(), "built-in wheel text, 27 bytes");

  options_.max_bytes = 14;  // in the middle of a file
  auto cut = Corpus::Open("wheel", folder_, options_);
  ASSERT_TRUE(cut.ok()) << cut.status();
  EXPECT_EQ(Sample(*cut, 0, true), std::string(kWheelText).substr(8, 4));
}

TEST_F(CorpusTest, IdentityIsTheSameEverywhere) {
  WriteWheel(folder_ + "/one", WheelFiles());
  auto files = WheelFiles();
  std::reverse(files.begin(), files.end());
  WriteWheel(folder_ + "/two", files);
  const Digest one = Corpus::Open("wheel", folder_ + "/one", options_)->Identity();
  EXPECT_EQ(one, Corpus::Open("wheel", folder_ + "/two", options_)->Identity());
  // The same tokens from another source are the same data.
  EXPECT_EQ(one, Corpus::OpenText(Write("t.txt", kWheelText), options_)->Identity());
  EXPECT_EQ(ToHex(one), "afbe7e06a111f67ef0ef2d63948b8e1e1cee87b9f9419542e6f27715cf39c0bf");
}

TEST_F(CorpusTest, IdentityChangesWithAllThatMatters) {
  const std::string path = Write("a.txt", "aaaabbbbccccddddeeeeffffgggghhhh");
  const Digest base = Corpus::OpenText(path, options_)->Identity();
  auto with = [&](auto change) {
    CorpusOptions o = options_;
    change(o);
    return Corpus::OpenText(path, o)->Identity();
  };
  EXPECT_EQ(base, with([](CorpusOptions&) {}));
  EXPECT_EQ(base, with([](CorpusOptions& o) { o.vocab_size = 300; }));
  EXPECT_NE(base, with([](CorpusOptions& o) { o.sample_tokens = 5; }));
  EXPECT_NE(base, with([](CorpusOptions& o) { o.validation = 0.26; }));
  EXPECT_NE(base, with([](CorpusOptions& o) { o.tokenizer = "other"; }));
  EXPECT_NE(base, with([](CorpusOptions& o) { o.max_bytes = 31; }));
  EXPECT_NE(
      base,
      Corpus::OpenText(Write("b.txt", "aaaabbbbccccddddeeeeffffgggghhhH"), options_)->Identity());
}

}  // namespace
}  // namespace longhaul
