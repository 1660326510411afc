#include "data/prepare.h"

#include <gtest/gtest.h>

#include "common/rng.h"
#include "data/data_set.h"
#include "data/memory_storage.h"
#include "data/scratch_folder.h"
#include "data/verified_blobs.h"

namespace longhaul {
namespace {

// Two bytes a token, so that packing is not the identity; refuses text with '!'.
class PairTokenizer : public Tokenizer {
 public:
  const std::string& name() const override { return name_; }
  const Digest& hash() const override { return hash_; }
  uint32_t vocab_size() const override { return 1000; }
  std::optional<uint32_t> document_end() const override { return 999; }
  absl::Status Encode(std::string_view text, std::vector<uint32_t>& out) override {
    if (text.find('!') != std::string_view::npos) return absl::InvalidArgumentError("it shouts");
    for (const char c : text) out.push_back(500 + static_cast<uint8_t>(c));
    return absl::OkStatus();
  }
  size_t SafeCut(std::string_view text) const override { return text.size(); }

 private:
  std::string name_ = "pairs";
  Digest hash_{1};
};

class PrepareTest : public ::testing::Test {
 protected:
  PrepareTest() {
    Rng rng(1);
    std::string jsonl;
    for (int i = 0; i < 300; ++i) {
      if (i % 50 == 7) jsonl += "broken\n";
      const std::string text(rng.Below(90), static_cast<char>('a' + i % 26));
      jsonl += "{\"text\":\"" + text + (i % 60 == 9 ? "!" : "") + "\"}\n";
    }
    folder_.Write("in/web/a.jsonl", jsonl);
    std::string text;
    while (text.size() < 9000) text += static_cast<char>('A' + rng.Below(26));
    folder_.Write("in/web/b.txt", text);
    folder_.Write("in/code/c.txt", text.substr(0, 3333));
    folder_.Write("in/code/d.txt", "");
    options_ = {.sample_tokens = 16, .block_bytes = 128, .shard_bytes = 1024};
  }

  std::vector<InputFile> Inputs() const {
    return ListInputs({"web=" + folder_.Path("in/web"), "code=" + folder_.Path("in/code")},
                      std::nullopt)
        .value();
  }
  absl::StatusOr<PrepareReport> Run(Storage& out, const PrepareCallback& callback) {
    return Prepare(Inputs(), tokenizer_, options_, out, callback);
  }
  static bool GoOn(const PrepareProgress&) { return true; }

  ScratchFolder folder_;
  PairTokenizer tokenizer_;
  PrepareOptions options_;
};

std::vector<uint32_t> AllTokens(Storage& folder, const Manifest& manifest, uint32_t domain) {
  VerifiedBlobs blobs({std::make_shared<FolderSource>("disk", folder)});
  DataSet data(manifest, blobs);
  std::vector<uint32_t> all, sample(manifest.format.sample_tokens);
  for (uint64_t i = 0; i < data.validation_samples(domain); ++i) {
    EXPECT_TRUE(data.ReadValidationSample(domain, i, sample).ok());
    all.insert(all.end(), sample.begin(), sample.end());
  }
  for (uint64_t i = 0; i < data.samples(domain); ++i) {
    EXPECT_TRUE(data.ReadSample(domain, i, sample).ok());
    all.insert(all.end(), sample.begin(), sample.end());
  }
  return all;
}

TEST_F(PrepareTest, HoldsTheTokensOfTheInputsInOrder) {
  const ScratchFolder out;
  const auto storage = out.Open();
  auto report = Run(*storage, GoOn);
  ASSERT_TRUE(report.ok()) << report.status();
  ASSERT_TRUE(FinishPreparation(report->manifest, report->quarantine, *storage).ok());
  const Manifest manifest = ReadManifest(*storage).value();
  EXPECT_EQ(manifest, report->manifest);
  ASSERT_EQ(manifest.domains.size(), 2u);
  EXPECT_EQ(manifest.domains[0].name, "code");
  // From the definition: records in order, their tokens, the mark of a document's end.
  uint64_t left = 0;
  for (uint32_t domain = 0; domain < 2; ++domain) {
    std::vector<uint32_t> expected;
    for (const InputFile& input : Inputs()) {
      if (input.domain != manifest.domains[domain].name) continue;
      auto reader = OpenRecords(input, {.tokenizer = &tokenizer_}, 0).value();
      Record record;
      while (reader->Next(record).value()) {
        if (!record.problem.empty()) continue;
        if (!tokenizer_.Encode(record.text, expected).ok()) continue;
        if (record.ends_document) expected.push_back(999);
      }
    }
    left += expected.size() % 16;
    expected.resize(expected.size() / 16 * 16);
    EXPECT_EQ(AllTokens(*storage, manifest, domain), expected);
  }
  EXPECT_EQ(report->tokens_left, left);
  EXPECT_EQ(report->quarantine.size(), 6u + 5u);
  EXPECT_EQ(storage->List(""),
            (std::vector<std::string>{"manifest", "quarantine.jsonl", "shards"}));
}

TEST_F(PrepareTest, TheSameTwiceAndWhateverTheOrderOfArguments) {
  MemoryStorage a, b;
  const Manifest first = Run(a, GoOn)->manifest;
  auto swapped =
      ListInputs({"code=" + folder_.Path("in/code/d.txt"), "web=" + folder_.Path("in/web/b.txt"),
                  "web=" + folder_.Path("in/web/a.jsonl"), "code=" + folder_.Path("in/code/c.txt")},
                 std::nullopt);
  auto second = Prepare(*swapped, tokenizer_, options_, b, GoOn);
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(first.Id(), second->manifest.Id());
}

// Stopped after any number of records, and the last bytes torn off or damaged.
TEST_F(PrepareTest, GoesOnAfterAnyStop) {
  MemoryStorage reference_folder;
  const PrepareReport reference = Run(reference_folder, GoOn).value();
  Rng rng(3);
  uint64_t resumed = 0;
  for (int stop = 1; stop < 320; stop += 3) {
    MemoryStorage out;
    int calls = 0;
    const auto stopped = Run(out, [&](const PrepareProgress&) { return ++calls < stop; });
    if (stopped.ok()) break;
    EXPECT_TRUE(absl::IsCancelled(stopped.status())) << stopped.status();
    std::string& blocks = out.files["prepare.blocks"];
    if (rng.Chance(1, 2) && !blocks.empty()) {
      blocks.resize(rng.Below(blocks.size()));
      if (!blocks.empty() && rng.Chance(1, 2)) blocks[rng.Below(blocks.size())] ^= 8;
    }
    auto report = Run(out, GoOn);
    ASSERT_TRUE(report.ok()) << stop << " " << report.status();
    EXPECT_EQ(report->manifest, reference.manifest) << stop;
    EXPECT_EQ(report->quarantine, reference.quarantine) << stop;
    EXPECT_EQ(report->tokens_left, reference.tokens_left) << stop;
    resumed += report->bytes_resumed > 0;
  }
  EXPECT_GT(resumed, 60u);
}

// The disk runs full anywhere; with more space the work goes on.
TEST_F(PrepareTest, GoesOnAfterAFullDisk) {
  MemoryStorage reference_folder;
  const Manifest reference = Run(reference_folder, GoOn)->manifest;
  for (uint64_t bytes = 0; bytes < 60'000; bytes += 777) {
    MemoryStorage out;
    out.free_bytes = bytes;
    const auto full = Run(out, GoOn);
    ASSERT_TRUE(absl::IsResourceExhausted(full.status())) << bytes << " " << full.status();
    EXPECT_FALSE(out.Exists(kManifestFile));
    out.free_bytes = UINT64_MAX;
    auto report = Run(out, GoOn);
    ASSERT_TRUE(report.ok()) << bytes << " " << report.status();
    EXPECT_EQ(report->manifest, reference) << bytes;
  }
}

TEST_F(PrepareTest, AnotherPreparationIsNotContinued) {
  MemoryStorage out;
  int calls = 0;
  EXPECT_FALSE(Run(out, [&](const PrepareProgress&) { return ++calls < 100; }).ok());
  options_.sample_tokens = 8;
  EXPECT_TRUE(absl::IsFailedPrecondition(Run(out, GoOn).status()));
  ASSERT_TRUE(AbandonPreparation(out).ok());
  EXPECT_TRUE(Run(out, GoOn).ok());
}

TEST_F(PrepareTest, BytesAreCopiedAsTheyAre) {
  MemoryStorage out;
  const auto bytes = NewByteTokenizer();
  std::string noise;
  for (uint64_t i = 0; i < 5000; ++i) noise.push_back(static_cast<char>(Draw(1, {i})));
  const auto inputs = ListInputs({folder_.Write("n.txt", noise)}, std::nullopt).value();
  const Manifest m = Prepare(inputs, *bytes, options_, out, GoOn)->manifest;
  const std::vector<uint32_t> tokens = AllTokens(out, m, 0);
  ASSERT_EQ(tokens.size(), 4992u);
  for (size_t i = 0; i < tokens.size(); ++i) ASSERT_EQ(tokens[i], static_cast<uint8_t>(noise[i]));
  EXPECT_EQ(m.domains[0].validation_samples, 15u);
}

TEST_F(PrepareTest, RefusesOptionsAndInputsThatCannotBe) {
  MemoryStorage out;
  const std::vector<void (*)(PrepareOptions&)> mistakes = {
      [](PrepareOptions& o) { o.sample_tokens = 0; },
      [](PrepareOptions& o) { o.block_bytes = 16; },
      [](PrepareOptions& o) { o.block_bytes = 2 << 20; },
      [](PrepareOptions& o) { o.shard_bytes = 16; },
      [](PrepareOptions& o) { o.validation = 0.6; },
      [](PrepareOptions& o) { o.strict = true; },
      [](PrepareOptions& o) {
        o.sample_tokens = 5000, o.block_bytes = 10000, o.shard_bytes = 10000;
      },
  };
  for (size_t i = 0; i < mistakes.size(); ++i) {
    const PrepareOptions good = options_;
    mistakes[i](options_);
    EXPECT_TRUE(absl::IsInvalidArgument(Run(out, GoOn).status())) << i;
    ASSERT_TRUE(AbandonPreparation(out).ok());
    options_ = good;
  }
  const std::string token = {'\xe8', '\x03'};  // 1,000
  std::string tokens;
  for (int i = 0; i < 100; ++i) tokens += token;
  const auto inputs = ListInputs({folder_.Write("t.bin", tokens)}, std::nullopt).value();
  const auto refused = Prepare(inputs, tokenizer_, options_, out, GoOn);
  EXPECT_NE(std::string(refused.status().message()).find("token 1000"), std::string::npos);
}

}  // namespace
}  // namespace longhaul
