#include "data/inputs.h"

#include <gtest/gtest.h>

#include "data/scratch_folder.h"

namespace longhaul {
namespace {

// Cuts as a BPE tokenizer does: before spaces.
class SpaceTokenizer : public Tokenizer {
 public:
  const std::string& name() const override { return name_; }
  const Digest& hash() const override { return hash_; }
  uint32_t vocab_size() const override { return 256; }
  std::optional<uint32_t> document_end() const override { return 0; }
  absl::Status Encode(std::string_view, std::vector<uint32_t>&) override {
    return absl::OkStatus();
  }
  size_t SafeCut(std::string_view text) const override {
    const size_t at = text.rfind(' ');
    return at == std::string_view::npos ? 0 : at;
  }

 private:
  std::string name_ = "spaces";
  Digest hash_{};
};

class InputsTest : public ::testing::Test {
 protected:
  InputFile File(const std::string& name, const std::string& bytes) {
    return ListInputs({folder_.Write(name, bytes)}, std::nullopt).value()[0];
  }
  absl::StatusOr<std::vector<Record>> ReadAll(const InputFile& file, uint64_t offset = 0) {
    auto reader = OpenRecords(file, {.tokenizer = &tokenizer_}, offset);
    if (!reader.ok()) return reader.status();
    std::vector<Record> records;
    Record record;
    while (true) {
      auto more = (*reader)->Next(record);
      if (!more.ok()) return more.status();
      if (!*more) return records;
      records.push_back(record);
    }
  }
  // Starting at any record gives the rest of the same records.
  void ExpectResumable(const InputFile& file) {
    const auto all = ReadAll(file).value();
    for (size_t i = 0; i < all.size(); ++i) {
      const auto rest = ReadAll(file, all[i].offset).value();
      ASSERT_EQ(rest.size(), all.size() - i);
      for (size_t j = 0; j < rest.size(); ++j) {
        EXPECT_EQ(rest[j].offset, all[i + j].offset);
        EXPECT_EQ(rest[j].end, all[i + j].end);
        EXPECT_EQ(rest[j].text, all[i + j].text);
        EXPECT_EQ(rest[j].tokens, all[i + j].tokens);
        EXPECT_EQ(rest[j].problem, all[i + j].problem);
      }
    }
  }

  ScratchFolder folder_;
  SpaceTokenizer tokenizer_;
};

std::vector<std::string> Names(const std::vector<InputFile>& inputs) {
  std::vector<std::string> names;
  for (const InputFile& i : inputs) {
    names.push_back(i.domain + ":" + i.path.substr(i.path.rfind('/') + 1));
  }
  return names;
}

TEST_F(InputsTest, FoldersAndArgumentsAreSorted) {
  folder_.Write("b/z.txt", "1");
  folder_.Write("b/a.jsonl", "1");
  folder_.Write("b/c/d.ds", "12");
  folder_.Write("b/c/d.ds.index", "1");
  folder_.Write("b/c/d.ds.metadata", "1");
  folder_.Write("b/.hidden/x.txt", "1");
  folder_.Write("b/.x.txt", "1");
  folder_.Write("a.txt", "1");
  const std::string b = folder_.Path("b"), a = folder_.Path("a.txt");
  const std::vector<std::string> expected = {"default:a.txt", "web:a.jsonl", "web:d.ds",
                                             "web:z.txt"};
  EXPECT_EQ(Names(ListInputs({"web=" + b, a}, std::nullopt).value()), expected);
  EXPECT_EQ(Names(ListInputs({a, "web=" + b}, std::nullopt).value()), expected);
  const auto inputs = ListInputs({b}, std::nullopt).value();
  EXPECT_EQ(inputs[0].format, InputFormat::kJsonl);
  EXPECT_EQ(inputs[1].format, InputFormat::kDatatrove);
  EXPECT_EQ(inputs[2].format, InputFormat::kText);
  EXPECT_EQ(ListInputs({b}, InputFormat::kBin).value()[0].format, InputFormat::kBin);
}

TEST_F(InputsTest, RefusesWhatCannotBeRead) {
  const std::string a = folder_.Write("a.txt", "1");
  std::filesystem::create_directory(folder_.Path("empty"));
  EXPECT_TRUE(absl::IsNotFound(ListInputs({folder_.Path("none")}, std::nullopt).status()));
  EXPECT_FALSE(ListInputs({a, folder_.Path("./a.txt")}, std::nullopt).ok());
  EXPECT_FALSE(ListInputs({folder_.Path("empty")}, std::nullopt).ok());
  EXPECT_FALSE(ListInputs({}, std::nullopt).ok());
}

TEST_F(InputsTest, TextComesInPiecesThatJoinAgain) {
  std::string text;
  while (text.size() < 2'500'000) text += "some words and numbers " + std::to_string(text.size());
  const InputFile file = File("a.txt", text);
  const auto records = ReadAll(file).value();
  EXPECT_EQ(records.size(), 3u);
  std::string joined;
  for (const Record& r : records) {
    EXPECT_EQ(r.offset, joined.size());
    EXPECT_EQ(r.ends_document, &r == &records.back());
    EXPECT_LE(r.text.size(), kPieceBytes);
    joined += r.text;
  }
  EXPECT_EQ(joined, text);
  EXPECT_EQ(records[1].text[0], ' ');
  ExpectResumable(file);
}

TEST_F(InputsTest, TextWithoutAPlaceToCutIsCutBetweenCharacters) {
  std::string text = "x";
  while (text.size() < 2'200'000) text += "語";
  const InputFile file = File("a.txt", text);
  const auto records = ReadAll(file).value();
  ASSERT_EQ(records.size(), 3u);
  for (const Record& r : records) EXPECT_NE(r.text[0] & 0xC0, 0x80);
  ExpectResumable(file);
}

TEST_F(InputsTest, AFileOfExactlyOnePieceEndsItsDocument) {
  const auto records = ReadAll(File("a.txt", std::string(kPieceBytes, 'x'))).value();
  ASSERT_EQ(records.size(), 1u);
  EXPECT_TRUE(records[0].ends_document);
  EXPECT_TRUE(ReadAll(File("b.txt", "")).value().empty());
}

TEST_F(InputsTest, JsonLinesAndWhatIsWrongWithThem) {
  const InputFile file = File("a.jsonl",
                              "{\"text\":\"one\\n\\u00e9\",\"id\":1}\r\n"
                              "\n"
                              "not json\n"
                              "{\"id\":2}\n"
                              "{\"text\":7}\n"
                              "{\"text\":\"\xff\"}\n"
                              "{\"text\":\"\\ud800\"}\n"
                              "[\"text\"]\n"
                              "{\"text\":\"last\"}");
  const auto records = ReadAll(file).value();
  ASSERT_EQ(records.size(), 8u);
  EXPECT_EQ(records[0].text, "one\né");
  EXPECT_EQ(records[0].problem, "");
  for (size_t i = 1; i < 7; ++i) EXPECT_NE(records[i].problem, "") << i;
  EXPECT_EQ(records[7].text, "last");
  ExpectResumable(file);
}

TEST_F(InputsTest, ALineOverTheLimitIsPassedOver) {
  const std::string line = "{\"text\":\"" + std::string(kMaxLineBytes, 'x') + "\"}\n";
  const auto records = ReadAll(File("a.jsonl", line + "{\"text\":\"ok\"}\n" + line)).value();
  ASSERT_EQ(records.size(), 3u);
  EXPECT_NE(records[0].problem, "");
  EXPECT_EQ(records[1].text, "ok");
  EXPECT_NE(records[2].problem, "");
}

std::string Tokens16(const std::vector<uint16_t>& tokens) {
  return std::string(reinterpret_cast<const char*>(tokens.data()), tokens.size() * 2);
}

TEST_F(InputsTest, NanoGptTokens) {
  const InputFile file = File("a.bin", Tokens16({1, 2, 50256, 65535}));
  const auto records = ReadAll(file).value();
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0].tokens, (std::vector<uint32_t>{1, 2, 50256, 65535}));
  std::vector<uint32_t> header(256);
  header[0] = 20240520, header[1] = 1, header[2] = 2;
  const std::string head(reinterpret_cast<const char*>(header.data()), 1024);
  EXPECT_EQ(ReadAll(File("b.bin", head + Tokens16({7, 8}))).value()[0].tokens,
            (std::vector<uint32_t>{7, 8}));
  EXPECT_FALSE(ReadAll(File("c.bin", head + Tokens16({7, 8, 9}))).ok());
  header[1] = 2;
  const std::string newer(reinterpret_cast<const char*>(header.data()), 1024);
  EXPECT_FALSE(ReadAll(File("d.bin", newer + Tokens16({7, 8}))).ok());
  EXPECT_FALSE(ReadAll(File("e.bin", "odd")).ok());
  EXPECT_FALSE(ReadAll(File("f.bin", "")).ok());
  ExpectResumable(File("g.bin", std::string(kTokensPerRecord * 5, 'x')));
}

TEST_F(InputsTest, DatatroveTokens) {
  const InputFile file = File("a.ds", Tokens16({1, 2, 3, 4}));
  EXPECT_EQ(ReadAll(file).value()[0].tokens.size(), 4u);
  folder_.Write("a.ds.metadata", "gpt2|2\n4\n4 T");
  const auto index = [](std::vector<uint64_t> ends) {
    return std::string(reinterpret_cast<const char*>(ends.data()), ends.size() * 8);
  };
  folder_.Write("a.ds.index", index({1, 4}));
  EXPECT_EQ(ReadAll(file).value()[0].tokens.size(), 4u);
  for (const auto& wrong : {index({1, 5}), index({3, 2, 4}), index({1, 4}) + "x"}) {
    folder_.Write("a.ds.index", wrong);
    EXPECT_FALSE(ReadAll(file).ok());
  }
  folder_.Write("a.ds.index", index({1, 4}));
  folder_.Write("a.ds.metadata", "llama|4\n2\n");
  folder_.Write("a.ds.index", index({2}));
  EXPECT_EQ(ReadAll(file).value()[0].tokens, (std::vector<uint32_t>{1 | 2 << 16, 3 | 4 << 16}));
  for (const char* wrong :
       {"llama|8\n1\n", "gpt2|2\n5\n", "gpt2\nfour\n", "gpt2|2\n99999999999999999999999\n"}) {
    folder_.Write("a.ds.metadata", wrong);
    EXPECT_FALSE(ReadAll(file).ok()) << wrong;
  }
}

}  // namespace
}  // namespace longhaul
